/**
 * The operations of the host core, whichever thread makes them: send, raise, unmask, clear, bits. Where one says SLOW nothing
 * was changed, and TypeScript does the whole of it by the domain's PortOps.
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
} from './layout'
import { levelsBits, levelsClear, levelsRaise, levelsUnmask } from './levels'
import { begins, knows, portAt, portOf, usable } from './ports'

/** ABI of the FIFO queues. */
const QUEUED: u32 = 16

/** Raises a port for the thread with this line. SLOW where that thread does not have the guest's core. */
export function raiseAt(dom: usize, port: u32, at: usize, thread: usize): i32 {
  if (!knows(thread, dom)) return SLOW
  begins(thread, dom, port)
  const abi = load<u32>(dom, ABI)
  if (abi == QUEUED) return queueRaise(dom, port, at, thread)
  return abi ? levelsRaise(dom, port, at) : SLOW
}

/** EVTCHNOP_send. The peer of an interdomain port exists: a close unbinds both ends (EC-lock-6). */
export function sendBy(dom: usize, port: u32, thread: usize): i32 {
  if (load<u32>(dom, STATUS)) return SLOW
  const at = portAt(dom, port)
  if (!at) return -EINVAL
  const state = load<u32>(at, STATE)
  if (state == ECS_INTERDOMAIN) {
    const peer: usize = load<u32>(DOMAINS + (load<u32>(at, REMOTE) << 2))
    const remotePort = load<u32>(at, REMOTE_PORT)
    const remote = portOf(peer, remotePort)
    // Attached to Xen: a function in TypeScript is called.
    return load<u32>(remote, STATE) == ECS_INTERDOMAIN ? raiseAt(peer, remotePort, remote, thread) : SLOW
  }
  if (state == ECS_IPI) return raiseAt(dom, port, at, thread)
  return state == ECS_UNBOUND ? 0 : -EINVAL
}

/** EVTCHNOP_unmask: 0 for any valid port, without effect on an unusable one (EC-unmask-2). */
export function unmaskBy(dom: usize, port: u32, thread: usize): i32 {
  const at = portAt(dom, port)
  if (!at) return -EINVAL
  if (!usable(at)) return 0
  if (!knows(thread, dom)) return SLOW
  begins(thread, dom, port)
  const abi = load<u32>(dom, ABI)
  if (abi == QUEUED) return queueUnmask(dom, port, at, thread)
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
