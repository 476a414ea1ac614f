/**
 * What a vCPU does on a thread of its own. Each call takes the line of the thread, the domain's number and the generation
 * of the domain that the thread was given: a domain of the same number may have taken its place.
 *
 *     enter ─ look up ─ the operation ─ wake who is due ─ leave ─ ring, if the hypervisor's thread is to look
 *
 * Who is woken: a vCPU with a thread of its own by its futex; one that runs on the hypervisor's thread has KICKED or WOKEN
 * set, and the bell rings. Nothing is held when a call returns, and SLOW means that nothing was changed.
 */

import { add, write } from '../bitops'
import {
  BELL,
  BLOCKED,
  CALLABLE,
  CALLS,
  DOMAINS,
  ECS_INTERDOMAIN,
  EINVAL,
  ESRCH,
  GENERATION,
  HOME,
  KICK,
  KICK_DOMID,
  KICK_VCPU,
  KICKED,
  POLLED,
  REMOTE_PORT,
  RUNG,
  SLOW,
  STATE,
  STATUS,
  VIRQS,
  WAIT_ON,
  WOKEN,
} from './layout'
import { enter, leave } from './lock'
import { bits, raiseAt, sendBy, unmaskBy } from './operations'
import { wake, wakePoller } from './poll'
import { knows, portAt, usable, vcpuOf } from './ports'

/** 13 bits of a result. */
const VCPU_MASK: u32 = 0x1fff

/** The domain that the thread was given, 0 if it is gone. */
function domainOf(domid: u32, generation: u32): usize {
  const dom: usize = load<u32>(DOMAINS + ((domid as usize) << 2))
  return dom && load<u32>(dom, GENERATION) == generation ? dom : 0
}

/** A vCPU of the hypervisor's thread has something to look at. */
function callHome(dom: usize, v: usize, what: usize): i32 {
  write<u32>(v + what, 1)
  write<u32>(dom + CALLS, 1)
  write<u32>(RUNG, 1)
  return 1
}

/** Does what a result leaves to do; `port` is the one that was raised. 1: the bell is to ring. */
function finish(result: i32, port: u32): i32 {
  if (result <= 0) return 0
  const dom: usize = load<u32>(DOMAINS + ((result >>> KICK_DOMID) << 2))
  let ring = 0
  if (result & KICK) {
    const vcpu = ((result as u32) >>> (KICK_VCPU as u32)) & VCPU_MASK
    const v = vcpuOf(dom, vcpu)
    if (!load<u32>(v, HOME)) ring |= callHome(dom, v, KICKED)
    // An HVM vCPU that cannot be called sleeps on (EC-up-3).
    else if (load<u32>(v, CALLABLE)) wake(dom, vcpu)
  }
  if (result & POLLED) {
    for (let vcpu = wakePoller(dom, port, 0); vcpu >= 0; vcpu = wakePoller(dom, port, vcpu + 1)) {
      const v = vcpuOf(dom, vcpu)
      if (!load<u32>(v, HOME)) ring |= callHome(dom, v, WOKEN)
    }
  }
  return ring
}

/** Leaves, and rings outside. 0, 1 if it rang, or a result below 0. */
function done(thread: usize, result: i32, ring: i32): i32 {
  leave(thread)
  if (ring) {
    add<u32>(BELL, 1)
    if (THREADS) atomic.notify(BELL, -1)
  }
  return result < 0 ? result : ring
}

/** EVTCHNOP_send. */
export function threadSend(thread: usize, domid: u32, generation: u32, port: u32): i32 {
  enter(thread)
  const dom = domainOf(domid, generation)
  if (!dom) return done(thread, -ESRCH, 0)
  const result = sendBy(dom, port, thread)
  let raised = port
  if (result > 0 && result & POLLED) {
    const at = portAt(dom, port)
    if (load<u32>(at, STATE) == ECS_INTERDOMAIN) raised = load<u32>(at, REMOTE_PORT)
  }
  return done(thread, result, finish(result, raised))
}

/** EVTCHNOP_unmask. */
export function threadUnmask(thread: usize, domid: u32, generation: u32, port: u32): i32 {
  enter(thread)
  const dom = domainOf(domid, generation)
  if (!dom) return done(thread, -ESRCH, 0)
  if (load<u32>(dom, STATUS)) return done(thread, SLOW, 0)
  const result = unmaskBy(dom, port, thread)
  return done(thread, result, finish(result, port))
}

/** Raises a VIRQ of one of the thread's own vCPUs (EC-vclass-2). */
export function threadRaiseVirq(thread: usize, domid: u32, generation: u32, vcpu: u32, virq: u32): i32 {
  enter(thread)
  const dom = domainOf(domid, generation)
  if (!dom) return done(thread, -ESRCH, 0)
  if (load<u32>(dom, STATUS)) return done(thread, SLOW, 0)
  const port = load<u32>(vcpuOf(dom, vcpu) + (virq << 2), VIRQS)
  const at = port ? portAt(dom, port) : 0
  const result = at && usable(at) ? raiseAt(dom, port, at, thread) : 0
  return done(thread, result, finish(result, port))
}

/** What SCHEDOP_poll looks at: bit 0 pending, bit 1 masked; -EINVAL for a port that is not usable (EC-poll-6). */
export function threadBits(thread: usize, domid: u32, generation: u32, port: u32): i32 {
  enter(thread)
  const dom = domainOf(domid, generation)
  let result = -ESRCH
  if (dom) {
    const at = portAt(dom, port)
    result = !at || !usable(at) ? -EINVAL : knows(thread, dom) ? bits(dom, port) : SLOW
  }
  leave(thread)
  return result
}

/** The vCPU is asleep from here on, for all who look; its thread looks for a reason not to sleep afterwards (I5). */
export function fallAsleep(dom: usize, vcpu: u32): void {
  write<u32>(vcpuOf(dom, vcpu) + BLOCKED, 1)
}

/** Sleeps while the word is `value`, for `timeoutNs` at most, below 0 for ever. */
export function sleepOn(at: usize, value: i32, timeoutNs: f64): void {
  if (THREADS) call_indirect<i32>(WAIT_ON, at, value, timeoutNs as i64)
}
