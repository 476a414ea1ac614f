/** HYPERVISOR_hvm_op: commands and structs (xen/include/public/hvm/hvm_op.h, params.h). */

import { struct } from './struct.js'

/** hvm_op commands. */
export const HVMOP = Object.freeze({ set_param: 0, get_param: 1, set_evtchn_upcall_vector: 23 } as const)

/** The parameter that says how upcalls are delivered. */
export const HVM_PARAM_CALLBACK_IRQ = 0

/** A parameter's number, and whether the domain itself may set and get it; a control domain may do both. */
export interface HvmParamRow {
  readonly index: number
  readonly set: boolean
  readonly get: boolean
}

const row = (index: number, set: boolean, get: boolean): HvmParamRow => Object.freeze({ index, set, get })

/**
 * The parameters of an x86 guest, without those that are Xen's own, holes or retired. Who may do what is as in Xen: a guest
 * finds its store and its console here, and may name another port for either; the rest is the toolstack's.
 */
export const HVM_PARAMS = Object.freeze({
  CALLBACK_IRQ: row(HVM_PARAM_CALLBACK_IRQ, true, true),
  STORE_PFN: row(1, false, true),
  STORE_EVTCHN: row(2, true, true),
  IOREQ_PFN: row(5, false, false),
  BUFIOREQ_PFN: row(6, false, false),
  VIRIDIAN: row(9, false, false),
  TIMER_MODE: row(10, false, false),
  HPET_ENABLED: row(11, false, false),
  IDENT_PT: row(12, false, false),
  ACPI_S_STATE: row(14, false, false),
  VM86_TSS: row(15, true, true),
  VPT_ALIGN: row(16, false, false),
  CONSOLE_PFN: row(17, false, true),
  CONSOLE_EVTCHN: row(18, true, true),
  ACPI_IOPORTS_LOCATION: row(19, true, true),
  PAGING_RING_PFN: row(27, false, false),
  MONITOR_RING_PFN: row(28, false, false),
  SHARING_RING_PFN: row(29, false, false),
  TRIPLE_FAULT_REASON: row(31, false, false),
  IOREQ_SERVER_PFN: row(32, false, false),
  NR_IOREQ_SERVER_PAGES: row(33, false, false),
  VM_GENERATION_ID_ADDR: row(34, true, true),
  ALTP2M: row(35, false, true),
  X87_FIP_WIDTH: row(36, true, true),
  VM86_TSS_SIZED: row(37, true, true),
  MCA_CAP: row(38, false, false),
} as const satisfies Record<string, HvmParamRow>)

/** Name of a parameter: the keys of HVM_PARAMS. */
export type HvmParamName = keyof typeof HVM_PARAMS

/** Name of the parameter with a number, if there is one. */
export const hvmParamName = (index: number): HvmParamName | undefined =>
  (Object.keys(HVM_PARAMS) as HvmParamName[]).find((name) => HVM_PARAMS[name].index === index)

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
