/**
 * Who sleeps, and who polls what (EC-poll-4, EC-up-11). The marks come before the poller's first look at a port, and a
 * sender looks at the marks after its test-and-set: one of the two sees the other.
 *
 *     poller    count + 1, port, POLLING := 1, BLOCKED := 1, then pending?      ends: POLLING 1 → 0, count - 1
 *     sender    pending 0 → 1, then count?, POLLING?, port?                     then: BLOCKED 1 → 0, and it is awake
 */

import { add, read, take, write } from '../bitops'
import { BLOCKED, DOMID, KICK_DOMID, NR_VCPUS, POLL_PORT, POLLED, POLLERS, POLLING } from './layout'
import { vcpuOf } from './ports'

/** POLLED if vCPUs of the domain poll. */
export function polled(dom: usize): i32 {
  return read<u32>(dom + POLLERS) ? POLLED | ((load<u32>(dom, DOMID) << KICK_DOMID) as i32) : 0
}

/** Marks a vCPU as polling a port, 0xffffffff for several or none, and as asleep. */
export function startPoll(dom: usize, vcpu: u32, port: u32): void {
  const v = vcpuOf(dom, vcpu)
  if (!read<u32>(v + POLLING)) add<u32>(dom + POLLERS, 1)
  write<u32>(v + POLL_PORT, port)
  write<u32>(v + POLLING, 1)
  write<u32>(v + BLOCKED, 1)
}

/** Ends a poll or a block; not 0: the vCPU was asleep, and nobody else woke it. Its thread sleeps on BLOCKED, if it has one. */
export function wake(dom: usize, vcpu: u32): i32 {
  const v = vcpuOf(dom, vcpu)
  if (take<u32>(v + POLLING)) add<u32>(dom + POLLERS, -1)
  const asleep = take<u32>(v + BLOCKED) as i32
  if (THREADS && asleep) atomic.notify(v + BLOCKED, 1)
  return asleep
}

/** Wakes the next vCPU from `from` on that polls this port; its number, or -1 if there is none left. */
export function wakePoller(dom: usize, port: u32, from: u32): i32 {
  const end = load<u32>(dom, NR_VCPUS)
  for (let vcpu = from; vcpu < end; vcpu++) {
    const v = vcpuOf(dom, vcpu)
    if (!read<u32>(v + POLLING)) continue
    const waitsFor = read<u32>(v + POLL_PORT)
    // 0xffffffff: several ports, none of them named; it looks at them again itself.
    if (waitsFor != port && (waitsFor as i32) > 0) continue
    if (wake(dom, vcpu)) return vcpu as i32
  }
  return -1
}
