/**
 * A hypercall's name and members from its registers and the guest's memory, before and after. What cannot be read is left
 * out: the call itself says EFAULT.
 */

import {
  type Args,
  decode,
  EVTCHN_STRUCTS,
  EVTCHNOP_NAMES,
  GNTTAB_COPY,
  GNTTAB_GET_VERSION,
  GNTTAB_QUERY_SIZE,
  GNTTAB_SET_VERSION,
  GNTTAB_SETUP_TABLE,
  GNTTABOP,
  HVM_PARAM,
  HVM_UPCALL_VECTOR,
  HVMOP,
  HYPERVISOR,
  PHYSDEVOP,
  POLL_MAX_PORTS,
  REGISTER_VCPU_INFO,
  SCHEDOP,
  type Struct,
  VCPUOP,
} from '../abi/index.js'

/** Who makes a call, and how the guest's memory is read. */
export interface TracedCaller {
  readonly domid: number
  readonly vcpu: number
  readonly bits: 32 | 64
  /** Copies from guest memory; false: it cannot be read. */
  copyIn(gva: number, to: Uint8Array, bytes: number): boolean
}

/** A call as it is entered. */
export interface DecodedCall {
  readonly call: string
  readonly args: Args
  /** The struct that the call writes into, and where it is. */
  readonly struct?: { readonly layout: Struct; readonly gva: number }
}

const nameIn = (table: Readonly<Record<string, number>>, number: number): string | undefined =>
  Object.keys(table).find((name) => table[name] === number)

/** Bytes of the largest struct of a call. */
const MOST_BYTES = 64

function read(caller: TracedCaller, gva: number, bytes: number): DataView | undefined {
  const buffer = new Uint8Array(Math.max(bytes, MOST_BYTES))
  return caller.copyIn(gva, buffer, bytes) ? new DataView(buffer.buffer) : undefined
}

function structAt(caller: TracedCaller, layout: Struct, gva: number, want: 'in' | 'out'): Args {
  const view = read(caller, gva, layout.size)
  return view ? decode(layout, view, want) : {}
}

function eventChannelOp(caller: TracedCaller, cmd: number, gva: number): DecodedCall {
  const name = EVTCHNOP_NAMES.get(cmd)
  if (name === undefined) return { call: `event_channel_op ${cmd}`, args: { arg: gva } }
  const layout: Struct = EVTCHN_STRUCTS[name]
  return { call: `EVTCHNOP_${name}`, args: structAt(caller, layout, gva, 'in'), struct: { layout, gva } }
}

/** struct sched_poll: a pointer, a count and a time-out, as wide as the guest. */
function poll(caller: TracedCaller, gva: number): Args {
  const wide = caller.bits === 64
  const view = read(caller, gva, wide ? 24 : 16)
  if (!view) return { arg: gva }
  const ports = wide ? Number(view.getBigUint64(0, true)) : view.getUint32(0, true)
  const count = view.getUint32(wide ? 8 : 4, true)
  const timeout = Number(view.getBigUint64(wide ? 16 : 8, true))
  const args: Args = { nr_ports: count, timeout }
  if (count > POLL_MAX_PORTS) return args
  const list = new Uint8Array(count * 4)
  if (count && caller.copyIn(ports, list, list.length)) {
    const words = new DataView(list.buffer)
    for (let i = 0; i < count; i++) args[`ports[${i}]`] = words.getUint32(i * 4, true)
  }
  return args
}

function schedOp(caller: TracedCaller, cmd: number, gva: number): DecodedCall {
  const call = `SCHEDOP_${nameIn(SCHEDOP, cmd) ?? cmd}`
  if (cmd === SCHEDOP.poll) return { call, args: poll(caller, gva) }
  if (cmd !== SCHEDOP.shutdown) return { call, args: {} }
  const reason = read(caller, gva, 4)?.getUint32(0, true)
  return { call, args: reason === undefined ? { arg: gva } : { reason } }
}

function vcpuOp(caller: TracedCaller, cmd: number, vcpu: number, gva: number): DecodedCall {
  const more = cmd === VCPUOP.register_vcpu_info ? structAt(caller, REGISTER_VCPU_INFO, gva, 'in') : {}
  return { call: `VCPUOP_${nameIn(VCPUOP, cmd) ?? cmd}`, args: { vcpu, ...more } }
}

function hvmOp(caller: TracedCaller, cmd: number, gva: number): DecodedCall {
  const layout = cmd === HVMOP.set_evtchn_upcall_vector ? HVM_UPCALL_VECTOR : HVM_PARAM
  return { call: `HVMOP_${nameIn(HVMOP, cmd) ?? cmd}`, args: structAt(caller, layout, gva, 'in') }
}

/** The first of a list of structs; what is beyond it is a count. */
function grantTableOp(caller: TracedCaller, cmd: number, gva: number, count: number): DecodedCall {
  const call = `GNTTABOP_${nameIn(GNTTABOP, cmd) ?? cmd}`
  const layouts: Partial<Record<number, Struct>> = {
    [GNTTABOP.setup_table]: GNTTAB_SETUP_TABLE[caller.bits],
    [GNTTABOP.query_size]: GNTTAB_QUERY_SIZE,
    [GNTTABOP.copy]: GNTTAB_COPY[caller.bits],
    [GNTTABOP.set_version]: GNTTAB_SET_VERSION,
    [GNTTABOP.get_version]: GNTTAB_GET_VERSION,
  }
  const layout = layouts[cmd]
  if (!layout) return { call, args: { arg: gva, count } }
  const args = { ...structAt(caller, layout, gva, 'in'), ...(count > 1 && { count }) }
  return { call, args, struct: { layout, gva } }
}

/** Decodes a call from its number and its registers. */
export function decodeCall(caller: TracedCaller, op: number, register: (i: number) => number): DecodedCall {
  const [a, b, c] = [register(0), register(1), register(2)]
  switch (op) {
    case HYPERVISOR.event_channel_op:
      return eventChannelOp(caller, a, b)
    case HYPERVISOR.event_channel_op_compat: {
      const cmd = read(caller, a, 4)?.getUint32(0, true)
      return cmd === undefined
        ? { call: 'event_channel_op_compat', args: { arg: a } }
        : eventChannelOp(caller, cmd, a + 4)
    }
    case HYPERVISOR.sched_op:
      return schedOp(caller, a, b)
    case HYPERVISOR.vcpu_op:
      return vcpuOp(caller, a, b, c)
    case HYPERVISOR.physdev_op:
      return { call: `PHYSDEVOP_${nameIn(PHYSDEVOP, a) ?? a}`, args: { arg: b } }
    case HYPERVISOR.hvm_op:
      return hvmOp(caller, a, b)
    case HYPERVISOR.grant_table_op:
      return grantTableOp(caller, a, b, c)
    case HYPERVISOR.multicall:
      return { call: 'multicall', args: { entries: a, calls: b } }
    default:
      return { call: nameIn(HYPERVISOR, op) ?? `hypercall ${op}`, args: { arg: a } }
  }
}

/** Members that Xen wrote. */
export const decodeOut = (caller: TracedCaller, { struct }: DecodedCall): Args =>
  struct ? structAt(caller, struct.layout, struct.gva, 'out') : {}
