/** HYPERVISOR_vcpu_op: structs (xen/include/public/vcpu.h). */

import { struct } from './struct.js'

/** Argument of VCPUOP_register_vcpu_info. */
export const REGISTER_VCPU_INFO = struct('vcpu_register_vcpu_info', 16, {
  mfn: [0, 8, 'in'],
  offset: [8, 4, 'in'],
  rsvd: [12, 4, 'pad'],
})
