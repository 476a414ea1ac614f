/** HYPERVISOR_event_channel_op: the table of operations, and structs copied from and to guest memory (spec 2.4). */

import {
  type Args,
  decode,
  EVTCHN_STRUCTS,
  EVTCHNOP_NAMES,
  type EvtchnOpName,
  encode,
  type Struct,
} from '../../abi/index.js'
import { Errno, type Outcome, refuse } from '../../errno.js'
import type { Caller, World } from '../../host/world.js'
import * as binds from './bind.js'
import * as closes from './close.js'
import { expandArray, initControl, setPriority } from './fifo.js'
import { queryNlevel, registerNlevel, setNlevelSelectors } from './nlevel.js'
import * as ops from './send.js'

const { EFAULT, ENOSYS } = Errno

/** Result of an operation on plain values; OUT members are stored in `args`. */
type Operation = (world: World, caller: Caller, args: Args, writeOut: () => boolean) => Outcome

const OPERATIONS: Readonly<Record<EvtchnOpName, Operation>> = {
  bind_interdomain: binds.bindInterdomain,
  bind_virq: binds.bindVirq,
  bind_pirq: binds.bindPirq,
  close: closes.close,
  send: ops.send,
  status: ops.status,
  alloc_unbound: binds.allocUnbound,
  bind_ipi: binds.bindIpi,
  bind_vcpu: ops.bindVcpu,
  unmask: ops.unmask,
  reset: closes.reset,
  init_control: initControl,
  expand_array: expandArray,
  set_priority: setPriority,
  reset_cont: closes.resetCont,
  query_nlevel: queryNlevel,
  set_nlevel_selectors: setNlevelSelectors,
  register_nlevel: registerNlevel,
}

/** The three operations that Xen never had. */
const NLEVEL_OPS: ReadonlySet<EvtchnOpName> = new Set(['query_nlevel', 'set_nlevel_selectors', 'register_nlevel'])

/** The operation with this number on this host, which may be one that never heard of N levels. */
export function operationByNumber(world: World, cmd: number): EvtchnOpName | undefined {
  const name = EVTCHNOP_NAMES.get(cmd)
  return name !== undefined && NLEVEL_OPS.has(name) && !world.limits.nlevel ? undefined : name
}

/** Runs an operation, going on by itself where Xen would create a continuation (EC-reset-8). */
export function runOperation(
  world: World,
  caller: Caller,
  name: EvtchnOpName,
  args: Args,
  writeOut: () => boolean,
): Outcome {
  let outcome = OPERATIONS[name](world, caller, args, writeOut)
  while (outcome === closes.PREEMPTED) {
    world.continuation()
    outcome = closes.resetCont(world, caller, args)
  }
  return outcome
}

const scratch = new Uint8Array(32)
const scratchView = new DataView(scratch.buffer)

/** HYPERVISOR_event_channel_op(cmd, arg). */
export function eventChannelOp(world: World, caller: Caller, cmd: number, gva: number): Outcome {
  const name = operationByNumber(world, cmd)
  if (name === undefined) return refuse(ENOSYS, () => `event_channel_op ${cmd} does not exist`)
  const layout: Struct = EVTCHN_STRUCTS[name]
  const { memory } = caller.domain
  if (!memory.copyIn(gva, scratch, layout.size)) return refuse(EFAULT, () => `struct ${layout.name} cannot be read`)
  const args = decode(layout, scratchView)
  // Everything the guest gave is copied: what it writes there from now on changes nothing.
  const out = HAS_OUT.has(name)
  const bytes = out ? scratch.slice(0, layout.size) : scratch
  const copyBack = () => {
    encode(layout, new DataView(bytes.buffer), args)
    return memory.copyOut(gva, bytes, layout.size)
  }
  const outcome = runOperation(world, caller, name, args, copyBack)
  // register_nlevel wrote before its commit; for the others the operation is done and stays done (EC-op-3).
  if (outcome || !out || name === 'register_nlevel') return outcome
  return copyBack() ? 0 : refuse(EFAULT, () => `struct ${layout.name} cannot be written`)
}

const HAS_OUT: ReadonlySet<EvtchnOpName> = new Set(
  (Object.keys(EVTCHN_STRUCTS) as EvtchnOpName[]).filter((name) =>
    Object.values(EVTCHN_STRUCTS[name].fields).some((field) => field.dir === 'out'),
  ),
)

/** Legacy hypercall 16: {cmd, union}, PV only, commands 0…9 (EC-op-5). */
export function eventChannelOpCompat(world: World, caller: Caller, gva: number): Outcome {
  if (caller.domain.type !== 'pv') return refuse(ENOSYS, 'event_channel_op_compat is for PV guests')
  if (!caller.domain.memory.copyIn(gva, scratch, 28)) return refuse(EFAULT, 'struct evtchn_op cannot be read')
  const cmd = scratchView.getUint32(0, true)
  if (cmd > 9) return refuse(ENOSYS, () => `event_channel_op_compat ${cmd} does not exist`)
  return eventChannelOp(world, caller, cmd, gva + 4)
}
