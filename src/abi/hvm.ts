/** HYPERVISOR_hvm_op: commands and structs (xen/include/public/hvm/hvm_op.h, params.h). */

import { struct } from './struct.js'

/** hvm_op commands. */
export const HVMOP = Object.freeze({ set_param: 0, get_param: 1, set_evtchn_upcall_vector: 23 } as const)

/** The parameter that says how upcalls are delivered. */
export const HVM_PARAM_CALLBACK_IRQ = 0

/** Parameters are numbered below this. */
export const HVM_NR_PARAMS = 39

/** struct xen_hvm_param; the value is two halves here, for it is 64 bits of meaning. */
export const HVM_PARAM = struct('xen_hvm_param', 16, {
  domid: [0, 2, 'in'],
  index: [4, 4, 'in'],
  value_low: [8, 4, 'inout'],
  value_high: [12, 4, 'inout'],
})
export const HVM_UPCALL_VECTOR = struct('xen_hvm_evtchn_upcall_vector', 8, { vcpu: [0, 4, 'in'], vector: [4, 1, 'in'] })
