/**
 * The raw ABI: registers in, structs copied from and to guest memory, -errno out (spec 2.4). Nothing a guest passes can
 * make this throw.
 */

import {
  type Args,
  decode,
  EVTCHN_STRUCTS,
  EVTCHNOP_NAMES,
  type EvtchnOpName,
  encode,
  HYPERVISOR,
  type Struct,
} from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import { Errno } from '../errno.js'
import type { Caller, World } from '../host/world.js'
import * as binds from './evtchn/bind.js'
import * as closes from './evtchn/close.js'
import { expandArray, initControl, setPriority } from './evtchn/fifo.js'
import { queryNlevel, registerNlevel, setNlevelSelectors } from './evtchn/nlevel.js'
import * as ops from './evtchn/send.js'
import { hvmOp } from './hvm_op.js'
import { physdevOp } from './physdev_op.js'
import { type SchedWorld, schedOp } from './sched_op.js'
import { vcpuOp } from './vcpu_op.js'

const { EFAULT, EINVAL, ENOSYS, ERESTART } = Errno

/** A register: a number or a bigint; whatever else a guest's 64 bits can hold. */
export type Register = number | bigint

/** Result of an operation on plain values; OUT members are stored in `args`. */
type Operation = (world: World, caller: Caller, args: Args, writeOut: () => boolean) => number

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
): number {
  let rc = OPERATIONS[name](world, caller, args, writeOut)
  while (rc === -ERESTART) {
    world.continuation()
    rc = closes.resetCont(world, caller, args)
  }
  return rc
}

/** Unsigned value of a register as the guest's width has it; a 32-bit guest's upper half does not exist. */
function address(register: Register, domain: Domain): number {
  const value = typeof register === 'bigint' ? Number(BigInt.asUintN(64, register)) : register
  if (domain.bits === 64) return value
  // wasm hands over registers as signed numbers: a pointer above 2 GiB arrives as a negative one.
  return typeof register === 'bigint' ? Number(BigInt.asUintN(32, register)) : value >>> 0
}

/** A register where Xen takes an int. */
const int = (register: Register | undefined): number =>
  typeof register === 'bigint' ? Number(BigInt.asIntN(32, register)) : (register ?? 0) | 0

const scratch = new Uint8Array(32)
const scratchView = new DataView(scratch.buffer)

/** HYPERVISOR_event_channel_op(cmd, arg). */
export function eventChannelOp(world: World, caller: Caller, cmd: number, gva: number): number {
  const name = operationByNumber(world, cmd)
  if (name === undefined) return world.fail(ENOSYS, `event_channel_op ${cmd} does not exist`)
  const layout: Struct = EVTCHN_STRUCTS[name]
  const { memory } = caller.domain
  if (!memory.copyIn(gva, scratch, layout.size)) return world.fail(EFAULT, `struct ${layout.name} cannot be read`)
  const args = decode(layout, scratchView)
  // Everything the guest gave is copied: what it writes there from now on changes nothing.
  const out = HAS_OUT.has(name)
  const bytes = out ? scratch.slice(0, layout.size) : scratch
  const copyBack = () => {
    encode(layout, new DataView(bytes.buffer), args)
    return memory.copyOut(gva, bytes, layout.size)
  }
  const rc = runOperation(world, caller, name, args, copyBack)
  // register_nlevel wrote before its commit; for the others the operation is done and stays done (EC-op-3).
  if (rc !== 0 || !out || name === 'register_nlevel') return rc
  return copyBack() ? 0 : world.fail(EFAULT, `struct ${layout.name} cannot be written`)
}

const HAS_OUT: ReadonlySet<EvtchnOpName> = new Set(
  (Object.keys(EVTCHN_STRUCTS) as EvtchnOpName[]).filter((name) =>
    Object.values(EVTCHN_STRUCTS[name].fields).some((field) => field.dir === 'out'),
  ),
)

/** Legacy hypercall 16: {cmd, union}, PV only, commands 0…9 (EC-op-5). */
function eventChannelOpCompat(world: World, caller: Caller, gva: number): number {
  if (caller.domain.type !== 'pv') return world.fail(ENOSYS, 'event_channel_op_compat is for PV guests')
  if (!caller.domain.memory.copyIn(gva, scratch, 28)) return world.fail(EFAULT, 'struct evtchn_op cannot be read')
  const cmd = scratchView.getUint32(0, true)
  if (cmd > 9) return world.fail(ENOSYS, `event_channel_op_compat ${cmd} does not exist`)
  return eventChannelOp(world, caller, cmd, gva + 4)
}

/** xen_version: 0 version, 1 extraversion, 6 get_features. */
function xenVersion(world: World, { domain }: Caller, cmd: number, gva: number): number {
  switch (cmd) {
    case 0:
      return (4 << 16) | 17
    case 1: {
      const text = new Uint8Array(16)
      for (const [i, c] of [...'.evtchn'].entries()) text[i] = c.charCodeAt(0)
      return domain.memory.copyOut(gva, text, 16) ? 0 : world.fail(EFAULT, 'extraversion cannot be written')
    }
    case 6: {
      const bytes = new Uint8Array(8)
      const view = new DataView(bytes.buffer)
      if (!domain.memory.copyIn(gva, bytes, 8)) return world.fail(EFAULT, 'struct feature_info cannot be read')
      // How a guest that asks for one map after the other learns that there is no further one.
      const index = view.getUint32(0, true)
      if (index) return world.fail(EINVAL, `there is feature map 0 only, not ${index}`)
      view.setUint32(4, FEATURES[domain.type], true)
      return domain.memory.copyOut(gva, bytes, 8) ? 0 : world.fail(EFAULT, 'struct feature_info cannot be written')
    }
    default:
      return world.fail(ENOSYS, `xen_version ${cmd} does not exist`)
  }
}

/** XENFEAT_hvm_callback_vector 8, hvm_safe_pvclock 9, hvm_pirqs 10. */
const FEATURES = { pv: 0, hvm: (1 << 8) | (1 << 10) } as const

/** multicall_entry: op, result, args[6] as words of the guest's width. */
function multicall(world: SchedWorld, caller: Caller, gva: number, calls: number): number {
  const { memory, bits } = caller.domain
  const word = bits / 8
  const entry = new Uint8Array(8 * word)
  const view = new DataView(entry.buffer)
  const get = (i: number): bigint => (word === 8 ? view.getBigUint64(i * 8, true) : BigInt(view.getUint32(i * 4, true)))
  for (let i = 0; i < calls; i++) {
    const at = gva + i * entry.length
    if (!memory.copyIn(at, entry, entry.length)) return world.fail(EFAULT, `entry ${i} cannot be read`)
    const op = get(0)
    const rc =
      op === BigInt(HYPERVISOR.multicall)
        ? world.fail(EINVAL, 'a multicall may not hold another')
        : dispatch(world, caller, op, [get(2), get(3), get(4), get(5), get(6), get(7)])
    const result = new Uint8Array(word)
    if (word === 8) new DataView(result.buffer).setBigInt64(0, BigInt(rc), true)
    else new DataView(result.buffer).setInt32(0, rc, true)
    if (!memory.copyOut(at + word, result, word))
      return world.fail(EFAULT, `the result of entry ${i} cannot be written`)
  }
  return 0
}

/** A hypercall by number. Unknown ones are ENOSYS. */
export function dispatch(world: SchedWorld, caller: Caller, op: Register, args: readonly Register[]): number {
  const gva = (i: number) => address(args[i] ?? 0, caller.domain)
  switch (Number(op)) {
    case HYPERVISOR.event_channel_op:
      return eventChannelOp(world, caller, int(args[0]), gva(1))
    case HYPERVISOR.event_channel_op_compat:
      return eventChannelOpCompat(world, caller, gva(0))
    case HYPERVISOR.sched_op:
      return schedOp(world, caller, int(args[0]), gva(1))
    case HYPERVISOR.vcpu_op:
      return vcpuOp(world, caller, int(args[0]), int(args[1]), gva(2))
    case HYPERVISOR.physdev_op:
      return physdevOp(world, caller, int(args[0]), gva(1))
    case HYPERVISOR.hvm_op:
      return hvmOp(world, caller, int(args[0]), gva(1))
    case HYPERVISOR.xen_version:
      return xenVersion(world, caller, int(args[0]), gva(1))
    case HYPERVISOR.multicall:
      return multicall(world, caller, gva(0), int(args[1]) >>> 0)
    default:
      return world.fail(ENOSYS, `hypercall ${op} does not exist`)
  }
}
