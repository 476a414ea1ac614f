/**
 * The host core: what a send touches, over the host's private memory. It holds no guest's words: each is changed by the
 * core of the guest whose memory it is in, called through a table of functions, so what confines a guest's core confines
 * this one too.
 *
 *     send(domain, port) ─▶ port, peer's record ─▶ call_indirect leafSet ─▶ vCPU, active? ─▶ call_indirect climb
 *                              plain loads               guest's memory        plain loads        guest's memory
 *
 * Returns 0 or what is left to do (layout.ts: KICK, POLLED), a negative errno, or SLOW. Where it says SLOW nothing was
 * changed, and TypeScript does the whole of it by the domain's PortOps.
 */

import { queueBits, queueClear, queueRaise, queueUnmask } from './fifo'
import {
  ABI,
  DOMAINS,
  ECS_INTERDOMAIN,
  ECS_IPI,
  ECS_UNBOUND,
  EINVAL,
  REMOTE,
  REMOTE_PORT,
  SLOW,
  STATE,
  STATUS,
  VIRQS,
} from './layout'
import { levelsBits, levelsClear, levelsClimb, levelsRaise, levelsUnmask } from './levels'
import { portAt, portOf, usable, vcpuOf } from './ports'
export { startPoll, wake, wakePoller } from './poll'

/** ABI of the FIFO queues. */
const QUEUED: u32 = 16

function raiseAt(dom: usize, port: u32, at: usize): i32 {
  const abi = load<u32>(dom, ABI)
  if (abi == QUEUED) return queueRaise(dom, port, at)
  return abi ? levelsRaise(dom, port, at) : SLOW
}

/** EVTCHNOP_send. The peer of an interdomain port exists: a close unbinds both ends (EC-lock-6). */
export function send(dom: usize, port: u32): i32 {
  if (load<u32>(dom, STATUS)) return SLOW
  const at = portAt(dom, port)
  if (!at) return -EINVAL
  const state = load<u32>(at, STATE)
  if (state == ECS_INTERDOMAIN) {
    const peer: usize = load<u32>(DOMAINS + (load<u32>(at, REMOTE) << 2))
    const remotePort = load<u32>(at, REMOTE_PORT)
    const remote = portOf(peer, remotePort)
    // Attached to Xen: a function in TypeScript is called.
    return load<u32>(remote, STATE) == ECS_INTERDOMAIN ? raiseAt(peer, remotePort, remote) : SLOW
  }
  if (state == ECS_IPI) return raiseAt(dom, port, at)
  return state == ECS_UNBOUND ? 0 : -EINVAL
}

/** Raises a port, whatever it is bound to. */
export function raise(dom: usize, port: u32): i32 {
  const at = portAt(dom, port)
  return at ? raiseAt(dom, port, at) : 0
}

/** Raises a port if it is usable (EC-port-2). */
export function raiseUsable(dom: usize, port: u32): i32 {
  const at = portAt(dom, port)
  return at && usable(at) ? raiseAt(dom, port, at) : 0
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

/** EVTCHNOP_unmask: 0 for any valid port, without effect on an unusable one (EC-unmask-2). */
export function unmask(dom: usize, port: u32): i32 {
  const at = portAt(dom, port)
  if (!at) return -EINVAL
  if (!usable(at)) return 0
  const abi = load<u32>(dom, ABI)
  if (abi == QUEUED) return queueUnmask(dom, port, at)
  return abi ? levelsUnmask(dom, port, at) : SLOW
}

/** Clears PENDING of a port, usable or not. SLOW: the ABI is not known here. */
export function clear(dom: usize, port: u32): i32 {
  const abi = load<u32>(dom, ABI)
  if (abi == QUEUED) queueClear(dom, port)
  else if (abi) levelsClear(dom, port)
  else return SLOW
  return 0
}

/** Bit 0: pending; bit 1: masked, or without a word. Usable or not. SLOW: the ABI is not known here. */
export function bits(dom: usize, port: u32): i32 {
  const abi = load<u32>(dom, ABI)
  if (abi == QUEUED) return queueBits(dom, port)
  return abi ? levelsBits(dom, port) : SLOW
}

/** Address of a port object, 0 if there is none: what EVTCHNOP_status looks at. */
export function portObject(dom: usize, port: u32): usize {
  return portAt(dom, port)
}
