/**
 * The host core: what a send touches, over the host's private memory. It holds no guest's words: each is changed by the
 * core of the guest whose memory it is in, called through a table of functions, so what confines a guest's core confines
 * this one too.
 *
 *     send(domain, port) ─▶ port, peer's record ─▶ call_indirect leafSet ─▶ vCPU, active? ─▶ call_indirect climb
 *                              plain loads               guest's memory        plain loads        guest's memory
 *
 * Returns 0 or what is left to do (layout.ts: KICK, POLLED), a negative errno, or SLOW (operations.ts). The functions here
 * are the hypervisor's own thread's, which takes no delivery lock; those of vCPUs on other threads are in threads.ts.
 */

import { HYPERVISOR, VIRQS } from './layout'
import { levelsBits, levelsClimb } from './levels'
import { raiseAt, sendBy, unmaskBy } from './operations'
import { portAt, usable, vcpuOf } from './ports'
export { waitOn } from './lock'
export { bits, clear } from './operations'
export { startPoll, wake, wakePoller } from './poll'
export {
  fallAsleep,
  sleepOn,
  threadBits,
  threadRaiseVirq,
  threadSend,
  threadUnmask,
} from './threads'

/** EVTCHNOP_send by the hypervisor's thread. */
export function send(dom: usize, port: u32): i32 {
  return sendBy(dom, port, HYPERVISOR)
}

/** Raises a port, whatever it is bound to. */
export function raise(dom: usize, port: u32): i32 {
  const at = portAt(dom, port)
  return at ? raiseAt(dom, port, at, HYPERVISOR) : 0
}

/** Raises a port if it is usable (EC-port-2). */
export function raiseUsable(dom: usize, port: u32): i32 {
  const at = portAt(dom, port)
  return at && usable(at) ? raiseAt(dom, port, at, HYPERVISOR) : 0
}

/** Raises the port that a vCPU bound a VIRQ to, if it did (EC-vclass-2). */
export function raiseVirq(dom: usize, vcpu: u32, virq: u32): i32 {
  const port = load<u32>(vcpuOf(dom, vcpu) + (virq << 2), VIRQS)
  return port ? raiseUsable(dom, port) : 0
}

/** Raises an event that is there: the port came to another vCPU, whose selectors do not lead to it (NL-vcpu-1). */
export function climbAgain(dom: usize, port: u32): i32 {
  const at = portAt(dom, port)
  return at && levelsBits(dom, port) == 1 ? levelsClimb(dom, port, at) : 0
}

/** EVTCHNOP_unmask by the hypervisor's thread. */
export function unmask(dom: usize, port: u32): i32 {
  return unmaskBy(dom, port, HYPERVISOR)
}

/** Address of a port object, 0 if there is none: what EVTCHNOP_status looks at. */
export function portObject(dom: usize, port: u32): usize {
  return portAt(dom, port)
}
