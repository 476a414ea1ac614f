/** HYPERVISOR_event_channel_op: the table of operations, and structs copied from and to guest memory (spec 2.4). */

import { EVTCHN_OP, EVTCHN_STRUCTS, EVTCHNOP, type EvtchnOpName, type OpArgs, type Struct } from '../../abi/index.js'
import { type Place, type RecordClass, recordClass, type StructRecord } from '../../abi/record.js'
import type { Caller } from '../../domain/domain.js'
import { Errno, type Outcome, Refusal, refuse } from '../../errno.js'
import type { World } from '../../host/world.js'
import * as binds from './bind.js'
import * as closes from './close.js'
import { expandArray, initControl, setPriority } from './fifo.js'
import { type Effects, queryNlevel, queryNlevel2, registerNlevel, setNlevelSelectors } from './nlevel.js'
import { ownOperation } from './own.js'
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

/** What the raw way in needs of an operation, made once. */
class Entry {
  readonly name: EvtchnOpName
  readonly struct: Struct
  /** It has OUT members to write back. */
  readonly writesBack: boolean
  readonly nlevel: boolean
  readonly #record: RecordClass<Struct>
  /** A record that no call uses; none while a policy or a notifier makes hypercalls from within another. */
  #unused: StructRecord<Struct> | undefined

  constructor(name: EvtchnOpName) {
    this.name = name
    this.struct = EVTCHN_STRUCTS[name]
    this.writesBack = Object.values(this.struct.fields).some(({ dir }) => dir === 'out')
    this.nlevel = NLEVEL_OPS.has(name)
    this.#record = recordClass(this.struct)
  }

  take(): StructRecord<Struct> {
    const record = this.#unused ?? new this.#record()
    this.#unused = undefined
    return record
  }

  giveBack(record: StructRecord<Struct>): void {
    this.#unused = record
  }
}

const ENTRIES: readonly (Entry | undefined)[] = Object.entries(EVTCHNOP).reduce<(Entry | undefined)[]>(
  (entries, [name, cmd]) => {
    entries[cmd] = new Entry(name as EvtchnOpName)
    return entries
  },
  Array(Math.max(...Object.values(EVTCHNOP)) + 1).fill(undefined),
)

/** The operation with this number, if this host has it. Hosts without N levels lack four. */
function operationByNumber(world: World, cmd: number): Entry | undefined {
  const entry = cmd >= 0 && cmd < ENTRIES.length ? ENTRIES[cmd] : undefined
  return entry?.nlevel && !world.limits.nlevel ? undefined : entry
}

/**
 * Runs an operation. Where Xen would create a continuation, it is called again, unless the caller does that
 * (EC-reset-8, EC-op-7). If the OUT members cannot be
 * written, the effects stay (EC-op-3). A caller that reads OUT members in `args` gives no record and address.
 */
function runOperation<N extends EvtchnOpName>(
  world: World,
  caller: Caller,
  name: N,
  args: OpArgs<N>,
  record?: Place,
  gva = 0,
): Outcome {
  const row: Row<N> | CommittingRow<N> = OPERATIONS[name]
  if (row.writesOut === 'before-commit') {
    const effects = row.run(world, caller, args)
    if (effects instanceof Refusal) return effects
    const refused = writeOut(caller, name, record, gva)
    if (refused) effects.cancel()
    else effects.commit()
    return refused
  }
  let outcome = row.run(world, caller, args)
  while (outcome === closes.PREEMPTED) {
    if (!world.continuation()) return outcome
    outcome = closes.resetCont(world, caller, args as OpArgs<'reset_cont'>)
  }
  return outcome || writeOut(caller, name, record, gva)
}

/** Writes the struct with its OUT members to where the guest gave it. */
function writeOut({ domain, vcpu }: Caller, name: EvtchnOpName, record: Place | undefined, gva: number): Outcome {
  if (!record) return 0
  const layout = EVTCHN_STRUCTS[name]
  if (domain.memory.copyOut(vcpu.vcpuId, gva, record.bytes, layout.size)) return 0
  return refuse(EFAULT, `struct ${layout.name} cannot be written`)
}

// In functions of their own: one that holds a function with captured variables makes garbage whenever it is called.
const noOperation = (cmd: number) => refuse(ENOSYS, () => `event_channel_op ${cmd} does not exist`)
const unreadable = ({ name }: Struct) => refuse(EFAULT, () => `struct ${name} cannot be read`)

/** An operation whose arguments are an object, refused as the raw way refuses it where this host does not have it. */
export function typedOperation<N extends EvtchnOpName>(
  world: World,
  caller: Caller,
  name: N,
  args: OpArgs<N>,
): Outcome {
  const cmd = EVTCHNOP[name]
  return operationByNumber(world, cmd) ? runOperation(world, caller, name, args) : noOperation(cmd)
}

/** HYPERVISOR_event_channel_op(cmd, arg). */
export function eventChannelOp(world: World, caller: Caller, cmd: number, gva: number): Outcome {
  const entry = operationByNumber(world, cmd)
  if (!entry) {
    const own = world.ownOperations.get(cmd)
    return own ? ownOperation(world, caller, own, gva) : noOperation(cmd)
  }
  const { name, struct } = entry
  const record = entry.take()
  // Everything the guest gave is copied: what it writes there from now on changes nothing.
  const outcome = caller.domain.memory.copyIn(caller.vcpu.vcpuId, gva, record.bytes, struct.size)
    ? runOperation(world, caller, name, record as OpArgs<EvtchnOpName>, entry.writesBack ? record : undefined, gva)
    : unreadable(struct)
  entry.giveBack(record)
  return outcome
}

const compat = new Uint8Array(EVTCHN_OP.size)
const compatView = new DataView(compat.buffer)

/** Legacy hypercall 16: {cmd, union}, PV only, commands 0…9 (EC-op-5). */
export function eventChannelOpCompat(world: World, caller: Caller, gva: number): Outcome {
  if (caller.domain.type !== 'pv') return refuse(ENOSYS, 'event_channel_op_compat is for PV guests')
  if (!caller.domain.memory.copyIn(caller.vcpu.vcpuId, gva, compat, EVTCHN_OP.size))
    return refuse(EFAULT, 'struct evtchn_op cannot be read')
  const cmd = compatView.getUint32(EVTCHN_OP.cmd, true)
  if (cmd > EVTCHN_OP.lastCmd) return refuse(ENOSYS, () => `event_channel_op_compat ${cmd} does not exist`)
  return eventChannelOp(world, caller, cmd, gva + EVTCHN_OP.union)
}
