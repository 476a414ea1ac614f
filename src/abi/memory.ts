/** HYPERVISOR_memory_op: the one command that is here, and its struct (xen/include/public/memory.h). */

import { struct } from './struct.js'

/** memory_op commands. */
export const XENMEM = Object.freeze({ add_to_physmap: 7 } as const)

/** What add_to_physmap can map. */
export const XENMAPSPACE = Object.freeze({
  shared_info: 0,
  grant_table: 1,
  gmfn: 2,
  gmfn_range: 3,
  gmfn_foreign: 4,
} as const)

/** struct xen_add_to_physmap, by the guest's width. */
export const ADD_TO_PHYSMAP = Object.freeze({
  32: struct('xen_add_to_physmap', 16, {
    domid: [0, 2, 'in'],
    size: [2, 2, 'in'],
    space: [4, 4, 'in'],
    idx: [8, 4, 'in'],
    gpfn: [12, 4, 'in'],
  }),
  64: struct('xen_add_to_physmap', 24, {
    domid: [0, 2, 'in'],
    size: [2, 2, 'in'],
    space: [4, 4, 'in'],
    idx: [8, 8, 'in'],
    gpfn: [16, 8, 'in'],
  }),
} as const)
