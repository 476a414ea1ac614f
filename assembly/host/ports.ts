/** Records of ports and vCPUs, found from their domain's. */

import { read } from '../bitops'
import { DIRECTORY, HYPERVISOR, KNOWN, KNOWN_MEMORIES, MEMORY, RAISING, RAISING_PORT, RUN, STAGE, STATE, VALID, VCPU_SHIFT, VCPUS } from './layout'

/** Address of a port that exists. */
export function portOf(dom: usize, port: u32): usize {
  return (load<u32>((load<u32>(dom, DIRECTORY) as usize) + ((port >>> 6) << 2)) as usize) + ((port & 63) << 5)
}

/** Address of a port object, 0 if there is none. The count grows beside senders, after the bucket is there (EC-XSA-340). */
export function portAt(dom: usize, port: u32): usize {
  if (port >= read<u32>(dom + VALID)) return 0
  return portOf(dom, port)
}

/** Usable (EC-port-2): bound to something, and not Xen's own. */
export function usable(at: usize): bool {
  const state = load<u32>(at, STATE)
  return state > 1 && state < 8
}

export function vcpuOf(dom: usize, vcpu: u32): usize {
  return (load<u32>(dom, VCPUS) as usize) + (vcpu << VCPU_SHIFT)
}

/** A thread begins to raise a port. What it leaves half done when it is terminated can be found (src/host/mend.ts). */
export function begins(thread: usize, dom: usize, port: u32): void {
  if (!THREADS || thread == HYPERVISOR) return
  store<u32>(thread, dom as u32, RAISING)
  store<u32>(thread, port, RAISING_PORT)
  store<u32>(thread, 1, STAGE)
}

/** The event is linked on its FIFO queue. */
export function linkedBy(thread: usize): void {
  if (THREADS && thread != HYPERVISOR) store<u32>(thread, 2, STAGE)
}

/**
 * Has the thread with this line the core of the guest's memory? It learns of a new memory by a message, and the slots of a
 * memory that is gone serve another later, so the number of the memory must be the one that it has there.
 */
export function knows(thread: usize, dom: usize): bool {
  if (!THREADS || thread == HYPERVISOR) return true
  const run = load<u32>(dom, RUN)
  if (run >= KNOWN_MEMORIES) return false
  return load<u32>((load<u32>(thread, KNOWN) as usize) + (run << 2)) == load<u32>(dom, MEMORY)
}
