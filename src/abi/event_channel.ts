/** Argument structs of HYPERVISOR_event_channel_op: spec 1.5 for Xen's, nlevel.md section 2 for ours. Equal in both widths. */

import { EVTCHNOP } from './numbers.js'
import { type Members, type Struct, struct } from './struct.js'

const portOnly = (name: string) => struct(name, 4, { port: [0, 4, 'in'] })
const resetLike = (name: string) => struct(name, 2, { dom: [0, 2, 'in'] })

/** The argument of each operation, by its name in EVTCHNOP. */
export const EVTCHN_STRUCTS = Object.freeze({
  bind_interdomain: struct('evtchn_bind_interdomain', 12, {
    remote_dom: [0, 2, 'in'],
    remote_port: [4, 4, 'in'],
    local_port: [8, 4, 'out'],
  }),
  bind_virq: struct('evtchn_bind_virq', 12, { virq: [0, 4, 'in'], vcpu: [4, 4, 'in'], port: [8, 4, 'out'] }),
  bind_pirq: struct('evtchn_bind_pirq', 12, { pirq: [0, 4, 'in'], flags: [4, 4, 'in'], port: [8, 4, 'out'] }),
  close: portOnly('evtchn_close'),
  send: portOnly('evtchn_send'),
  status: struct('evtchn_status', 24, {
    dom: [0, 2, 'in'],
    port: [4, 4, 'in'],
    status: [8, 4, 'out'],
    vcpu: [12, 4, 'out'],
    unbound_dom: [16, 2, 'out'],
    interdomain_dom: [16, 2, 'out'],
    interdomain_port: [20, 4, 'out'],
    pirq: [16, 4, 'out'],
    virq: [16, 4, 'out'],
  }),
  alloc_unbound: struct('evtchn_alloc_unbound', 8, {
    dom: [0, 2, 'in'],
    remote_dom: [2, 2, 'in'],
    port: [4, 4, 'out'],
  }),
  bind_ipi: struct('evtchn_bind_ipi', 8, { vcpu: [0, 4, 'in'], port: [4, 4, 'out'] }),
  bind_vcpu: struct('evtchn_bind_vcpu', 8, { port: [0, 4, 'in'], vcpu: [4, 4, 'in'] }),
  unmask: portOnly('evtchn_unmask'),
  reset: resetLike('evtchn_reset'),
  init_control: struct('evtchn_init_control', 24, {
    control_gfn: [0, 8, 'in'],
    offset: [8, 4, 'in'],
    vcpu: [12, 4, 'in'],
    link_bits: [16, 1, 'out'],
  }),
  expand_array: struct('evtchn_expand_array', 8, { array_gfn: [0, 8, 'in'] }),
  set_priority: struct('evtchn_set_priority', 8, { port: [0, 4, 'in'], priority: [4, 4, 'in'] }),
  reset_cont: resetLike('evtchn_reset'),
  query_nlevel: struct('evtchn_query_nlevel', 16, {
    dom: [0, 2, 'in'],
    max_levels: [4, 4, 'out'],
    max_pages: [8, 4, 'out'],
    abi: [12, 4, 'out'],
  }),
  set_nlevel_selectors: struct('evtchn_set_nlevel_selectors', 24, {
    vcpu: [0, 4, 'in'],
    levels: [4, 4, 'in'],
    nr_pages: [8, 4, 'in'],
    pad: [12, 4, 'in'],
    areas: [16, 8, 'in'],
  }),
  register_nlevel: struct('evtchn_register_nlevel', 32, {
    levels: [0, 4, 'in'],
    nr_pages: [4, 4, 'in'],
    pending_gfns: [8, 8, 'in'],
    mask_gfns: [16, 8, 'in'],
    nr_channels: [24, 4, 'out'],
    pad: [28, 4, 'in'],
  }),
  query_nlevel2: struct('evtchn_query_nlevel2', 24, {
    dom: [0, 2, 'in'],
    max_levels: [4, 4, 'out'],
    max_pages: [8, 4, 'out'],
    abi: [12, 4, 'out'],
    nr_channels: [16, 4, 'out'],
    pad: [20, 4, 'in'],
  }),
} as const satisfies Record<keyof typeof EVTCHNOP, Struct>)

/** One level's frames in the array that set_nlevel_selectors points to. */
export const SELECTOR_AREA = struct('evtchn_selector_area', 16, {
  gfns: [0, 8, 'in'],
  nr_pages: [8, 4, 'in'],
  offset: [12, 4, 'in'],
})

/** Name of an operation: the keys of EVTCHNOP. */
export type EvtchnOpName = keyof typeof EVTCHNOP

/** OUT members that EVTCHNOP_status stores for some states of a port only. */
export type SometimesOut = 'unbound_dom' | 'interdomain_dom' | 'interdomain_port' | 'pirq' | 'virq'
/** IN members that are 0 where a typed call leaves them out. */
export type MayBeMissing = 'pad' | 'flags'

/** `T` with the members `K` optional. */
export type Relax<T, K extends PropertyKey> = Omit<T, K> & Partial<Pick<T, K & keyof T>>
/** `T` with its members spelled out, as an editor shows them. */
export type Flat<T> = { [K in keyof T]: T[K] }

/** What the guest fills in of an operation's struct. */
export type AllIn<N extends EvtchnOpName> = Members<(typeof EVTCHN_STRUCTS)[N], 'in' | 'inout'>
/** Arguments of an operation, as a typed call takes them: `In<'send'>` is `{ port: number }`. */
export type In<N extends EvtchnOpName> = Flat<Relax<AllIn<N>, MayBeMissing>>
/** Results of an operation: `Out<'bind_ipi'>` is `{ port: number }`. */
export type Out<N extends EvtchnOpName> = Flat<
  Relax<Members<(typeof EVTCHN_STRUCTS)[N], 'out' | 'inout'>, SometimesOut>
>
/** What an operation works on: every IN member, and the OUT members, which it stores. */
export type OpArgs<N extends EvtchnOpName> = Flat<AllIn<N> & Partial<Out<N>>>

/** Operation names by number. */
export const EVTCHNOP_NAMES: ReadonlyMap<number, EvtchnOpName> = new Map(
  Object.entries(EVTCHNOP).map(([name, cmd]) => [cmd, name as EvtchnOpName]),
)

/** struct evtchn_op of the legacy hypercall: a command and the union of its structs. It knows commands up to unmask. */
export const EVTCHN_OP = Object.freeze({ size: 28, cmd: 0, union: 4, lastCmd: EVTCHNOP.unmask } as const)

/** Bit 0 of bind_pirq's flags. */
export const BIND_PIRQ__WILL_SHARE = 1
