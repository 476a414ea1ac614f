/**
 * What a caller passes with an operation: registers of a raw hypercall, and the arguments of a typed one, checked member by
 * member, OUT members picked from the struct's fields.
 */

import {
  type Args,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  type EvtchnOpName,
  type In,
  type OpArgs,
  type Out,
  U32_MAX,
} from '../abi/index.js'
import { members, ParameterError } from '../check.js'
import type { Register } from './dispatch.js'

/**
 * A typed call's arguments: every IN member an integer that fits, and no member that the struct does not have.
 * @throws ParameterError
 */
export function checkArgs<N extends EvtchnOpName>(op: N, given: Readonly<In<N>>): OpArgs<N> {
  if (typeof op !== 'string' || !Object.hasOwn(EVTCHNOP, op))
    throw new ParameterError('eventChannelOp', 'op', op, Object.keys(EVTCHNOP).join(', '))
  if (op === 'send' || op === 'unmask') {
    const port = onlyPort(given)
    if (port >= 0) return { port } as unknown as OpArgs<N>
  }
  return members(`EVTCHNOP_${op}`, EVTCHN_STRUCTS[op].fields, given) as OpArgs<N>
}

/** The port of `{ port }`, the argument of the operations that are called most; -1 for anything else. */
function onlyPort(given: unknown): number {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return -1
  for (const name in given) if (name !== 'port') return -1
  const { port } = given as { port?: unknown }
  return typeof port === 'number' && Number.isInteger(port) && port <= U32_MAX ? port : -1
}

/** Names of the OUT members of each operation. */
const OUT_NAMES: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  Object.entries(EVTCHN_STRUCTS).map(([op, { fields }]) => {
    const rows: [name: string, field: { dir: string }][] = Object.entries(fields)
    return [op, rows.filter(([, { dir }]) => dir === 'out').map(([name]) => name)]
  }),
)

/** The OUT members that the operation stored. */
export function outArgs<N extends EvtchnOpName>(op: N, args: Readonly<OpArgs<N>>): Out<N> {
  const stored: Readonly<Partial<Args>> = args
  const out: Partial<Args> = {}
  for (const name of OUT_NAMES[op]!) if (stored[name] !== undefined) out[name] = stored[name]
  return out as Out<N>
}

/** Is this a hypercall that a guest could make? What is in the registers is the guest's. @throws ParameterError */
export function checkRegisters(op: Register, args: readonly Register[]): void {
  const call = 'hypercall'
  if (!isRegister(op)) throw new ParameterError(call, 'nr', op, 'a number or a bigint')
  if (!Array.isArray(args)) throw new ParameterError(call, 'args', args, 'a list of up to six registers')
  if (args.length === 2 && typeof args[0] === 'number' && typeof args[1] === 'number') return
  for (let i = 0; i < args.length; i++)
    if (!isRegister(args[i])) throw new ParameterError(call, `args[${i}]`, args[i], 'a number or a bigint')
}

const isRegister = (value: unknown): value is Register => typeof value === 'number' || typeof value === 'bigint'
