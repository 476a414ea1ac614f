/** Records of ports and vCPUs, found from their domain's. */

import { read } from '../bitops'
import { DIRECTORY, STATE, VALID, VCPU_SHIFT, VCPUS } from './layout'

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
