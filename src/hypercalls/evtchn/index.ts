/** HYPERVISOR_event_channel_op: the table of operations, and structs copied from and to guest memory (spec 2.4). */

import {
  decode,
  EVTCHN_OP,
  EVTCHN_STRUCTS,
  EVTCHNOP_NAMES,
  type EvtchnOpName,
  encode,
  type OpArgs,
  type Struct,
} from '../../abi/index.js'
import { Errno, type Outcome, Refusal, refuse } from '../../errno.js'
import type { Caller, World } from '../../host/world.js'
import * as binds from './bind.js'
import * as closes from './close.js'
import { expandArray, initControl, setPriority } from './fifo.js'
import { type Effects, queryNlevel, queryNlevel2, registerNlevel, setNlevelSelectors } from './nlevel.js'
import * as ops from './send.js'

const { EFAULT, ENOSYS } = Errno

/** An operation on plain values; OUT members are stored in `args`, and written with the guest when it is done. */
interface Row<N extends EvtchnOpName> {
  writesOut?: 'when-done'
  run(world: World, caller: Caller, args: OpArgs<N>): Outcome
}

/**
 * An operation whose OUT members are written before its effects: if they cannot be written, the effects do not happen.
 * `run` makes every check and returns the effects, to be committed or cancelled.
 */
interface CommittingRow<N extends EvtchnOpName> {
  writesOut: 'before-commit'
  run(world: World, caller: Caller, args: OpArgs<N>): Effects | Refusal
}

const OPERATIONS: { readonly [N in EvtchnOpName]: Row<N> | CommittingRow<N> } = {
  bind_interdomain: { run: binds.bindInterdomain },
  bind_virq: { run: binds.bindVirq },
  bind_pirq: { run: binds.bindPirq },
  close: { run: closes.close },
  send: { run: ops.send },
  status: { run: ops.status },
  alloc_unbound: { run: binds.allocUnbound },
  bind_ipi: { run: binds.bindIpi },
  bind_vcpu: { run: ops.bindVcpu },
  unmask: { run: ops.unmask },
  reset: { run: closes.reset },
  init_control: { run: initControl },
  expand_array: { run: expandArray },
  set_priority: { run: setPriority },
  reset_cont: { run: closes.resetCont },
  query_nlevel: { run: queryNlevel },
  set_nlevel_selectors: { run: setNlevelSelectors },
  register_nlevel: { writesOut: 'before-commit', run: registerNlevel },
  query_nlevel2: { run: queryNlevel2 },
}

/** The operations that Xen never had. */
const NLEVEL_OPS: ReadonlySet<EvtchnOpName> = new Set([
  'query_nlevel',
  'set_nlevel_selectors',
  'register_nlevel',
  'query_nlevel2',
])

/** The operation with this number, if this host has it. Hosts without N levels lack four. */
function operationByNumber(world: World, cmd: number): EvtchnOpName | undefined {
  const name = EVTCHNOP_NAMES.get(cmd)
  return name !== undefined && NLEVEL_OPS.has(name) && !world.limits.nlevel ? undefined : name
}

/** Writes the OUT members of an operation with its guest. */
export type WriteOut = () => Outcome

/** For an operation that has none, and for a caller that reads them in `args`. */
const nothingToWrite: WriteOut = () => 0

/**
 * Runs an operation. Where Xen would create a continuation, it is called again (EC-reset-8). If the OUT members cannot be
 * written, the effects stay (EC-op-3).
 */
export function runOperation<N extends EvtchnOpName>(
  world: World,
  caller: Caller,
  name: N,
  args: OpArgs<N>,
  writeOut = nothingToWrite,
): Outcome {
  const row: Row<N> | CommittingRow<N> = OPERATIONS[name]
  if (row.writesOut === 'before-commit') {
    const effects = row.run(world, caller, args)
    if (effects instanceof Refusal) return effects
    const refused = writeOut()
    if (refused) effects.cancel()
    else effects.commit()
    return refused
  }
  let outcome = row.run(world, caller, args)
  while (outcome === closes.PREEMPTED) {
    world.continuation()
    outcome = closes.resetCont(world, caller, args as OpArgs<'reset_cont'>)
  }
  return outcome || writeOut()
}

const scratch = new Uint8Array(32)
const scratchView = new DataView(scratch.buffer)

/** HYPERVISOR_event_channel_op(cmd, arg). */
export function eventChannelOp(world: World, caller: Caller, cmd: number, gva: number): Outcome {
  const name = operationByNumber(world, cmd)
  if (name === undefined) return refuse(ENOSYS, () => `event_channel_op ${cmd} does not exist`)
  const layout: Struct = EVTCHN_STRUCTS[name]
  const { memory } = caller.domain
  const { vcpuId } = caller.vcpu
  if (!memory.copyIn(vcpuId, gva, scratch, layout.size))
    return refuse(EFAULT, () => `struct ${layout.name} cannot be read`)
  const args = decode(layout, scratchView) as OpArgs<EvtchnOpName>
  // Everything the guest gave is copied: what it writes there from now on changes nothing.
  if (!HAS_OUT.has(name)) return runOperation(world, caller, name, args)
  const bytes = scratch.slice(0, layout.size)
  return runOperation(world, caller, name, args, () => {
    encode(layout, new DataView(bytes.buffer), args)
    const there = memory.copyOut(vcpuId, gva, bytes, layout.size)
    return there ? 0 : refuse(EFAULT, () => `struct ${layout.name} cannot be written`)
  })
}

const HAS_OUT: ReadonlySet<EvtchnOpName> = new Set(
  (Object.keys(EVTCHN_STRUCTS) as EvtchnOpName[]).filter((name) =>
    Object.values(EVTCHN_STRUCTS[name].fields).some((field) => field.dir === 'out'),
  ),
)

/** Legacy hypercall 16: {cmd, union}, PV only, commands 0…9 (EC-op-5). */
export function eventChannelOpCompat(world: World, caller: Caller, gva: number): Outcome {
  if (caller.domain.type !== 'pv') return refuse(ENOSYS, 'event_channel_op_compat is for PV guests')
  if (!caller.domain.memory.copyIn(caller.vcpu.vcpuId, gva, scratch, EVTCHN_OP.size))
    return refuse(EFAULT, 'struct evtchn_op cannot be read')
  const cmd = scratchView.getUint32(EVTCHN_OP.cmd, true)
  if (cmd > EVTCHN_OP.lastCmd) return refuse(ENOSYS, () => `event_channel_op_compat ${cmd} does not exist`)
  return eventChannelOp(world, caller, cmd, gva + EVTCHN_OP.union)
}
