/**
 * The raw ABI: registers in, structs copied from and to guest memory, refusals out (spec 2.4), which the
 * edge turns into -errno. Nothing a guest passes can make this throw.
 */

import { EVTCHN_STRUCTS, EVTCHNOP, HYPERVISOR } from '../abi/index.js'
import type { Caller, Domain } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Errno, type Outcome, Refusal, refuse, toRegister } from '../errno.js'
import type { TracedCaller } from '../trace/index.js'
import { PREEMPTED } from './evtchn/close.js'
import { eventChannelOp, eventChannelOpCompat } from './evtchn/index.js'
import { sendPort, unmaskPort } from './evtchn/send.js'
import { fallThrough } from './fall_through.js'
import { grantTableOp } from './grant_table_op.js'
import { hvmOp } from './hvm_op.js'
import { memoryOp } from './memory_op.js'
import { mayCall, NotKnown, notKnown } from './parts.js'
import { physdevOp } from './physdev_op.js'
import { type SchedWorld, schedOp } from './sched_op.js'
import { vcpuOp } from './vcpu_op.js'
import { xenVersion } from './xen_version.js'

const { EFAULT, EINVAL, ERESTART } = Errno

/** A register. A bigint holds what a number cannot: all 64 bits. */
export type Register = number | bigint

/** Unsigned value of a register as the guest's width has it; a 32-bit guest's upper half does not exist. */
function address(register: Register, domain: Domain): number {
  const value = typeof register === 'bigint' ? Number(BigInt.asUintN(64, register)) : register
  if (domain.bits === 64) return value
  // wasm hands over registers as signed numbers: a pointer above 2 GiB arrives as a negative one.
  return typeof register === 'bigint' ? Number(BigInt.asUintN(32, register)) : value >>> 0
}

/** A register that holds an address. */
const gva = (register: Register | undefined, { domain }: Caller): number => address(register ?? 0, domain)

/** A register where Xen takes an int. */
const int = (register: Register | undefined): number =>
  typeof register === 'bigint' ? Number(BigInt.asIntN(32, register)) : (register ?? 0) | 0

/** A multicall that gave way before the entry with this number. */
class PreemptedBefore extends Refusal {
  readonly entry: number

  constructor(entry: number) {
    super(ERESTART, 'preempted')
    this.entry = entry
  }
}

/** With these registers a hypercall that gave way is made again, and continues. */
export interface Continuation {
  readonly nr: Register
  readonly args: readonly Register[]
}

/** Bytes of a multicall_entry: op, result, args[6] as words of the guest's width. */
const entryBytes = ({ bits }: Domain): number => bits

/** How the hypercall with these registers continues, if its result says that it gave way (EC-op-7). */
export function continuationOf(
  result: number | Refusal,
  domain: Domain,
  nr: Register,
  args: readonly Register[],
): Continuation | undefined {
  if (result === PREEMPTED) return { nr, args: [EVTCHNOP.reset_cont, ...args.slice(1)] }
  if (!(result instanceof PreemptedBefore)) return undefined
  const [list = 0, calls, ...rest] = args
  const at = address(list, domain) + result.entry * entryBytes(domain)
  return { nr, args: [typeof list === 'bigint' ? BigInt(at) : at, (int(calls) >>> 0) - result.entry, ...rest] }
}

/**
 * Is preemption due, between two entries? Then pending softirqs run here, and may have stopped the domain; or the caller
 * continues by itself.
 */
function giveWay(world: SchedWorld, { domain, vcpu }: Caller, entry: number): Outcome {
  if (entry === 0 || !world.preempt()) return 0
  if (!world.continuation()) return new PreemptedBefore(entry)
  return mayCall(vcpu, domain)
}

/** The entries in order. Between two of them it gives way when preemption is due (EC-op-7). */
function multicall(world: SchedWorld, caller: Caller, gva: number, calls: number): Outcome {
  const { memory, bits } = caller.domain
  const { vcpuId } = caller.vcpu
  const word = bits / 8
  const entry = new Uint8Array(8 * word)
  const view = new DataView(entry.buffer)
  const get = (i: number): bigint => (word === 8 ? view.getBigUint64(i * 8, true) : BigInt(view.getUint32(i * 4, true)))
  for (let i = 0; i < calls; i++) {
    const at = gva + i * entry.length
    if (!memory.copyIn(vcpuId, at, entry, entry.length)) return refuse(EFAULT, () => `entry ${i} cannot be read`)
    const stopped = giveWay(world, caller, i)
    if (stopped) return stopped
    const op = get(0)
    const done =
      op === BigInt(HYPERVISOR.multicall)
        ? refuse(EINVAL, 'a multicall may not hold another')
        : dispatch(world, caller.domain, caller.vcpu, op, [get(2), get(3), get(4), get(5), get(6), get(7)])
    if (done === PREEMPTED) {
      // As in Xen: the guest's own entry becomes the continuation, and is made again.
      const cont = new Uint8Array(word)
      cont[0] = EVTCHNOP.reset_cont
      if (memory.copyOut(vcpuId, at + 2 * word, cont, word)) return new PreemptedBefore(i)
      return refuse(EFAULT, () => `the continuation of entry ${i} cannot be written`)
    }
    const rc = toRegister(done)
    const result = new Uint8Array(word)
    if (word === 8) new DataView(result.buffer).setBigInt64(0, BigInt(rc), true)
    else new DataView(result.buffer).setInt32(0, rc, true)
    if (!memory.copyOut(vcpuId, at + word, result, word))
      return refuse(EFAULT, () => `the result of entry ${i} cannot be written`)
  }
  return 0
}

/** A caller as a trace sees it. */
export const tracedCaller = ({ domain, vcpu }: Caller): TracedCaller => ({
  domid: domain.domid,
  vcpu: vcpu.vcpuId,
  bits: domain.bits,
  copyIn: (gva, to, bytes) => domain.memory.copyIn(vcpu.vcpuId, gva, to, bytes),
})

/**
 * A hypercall by number: 0 or more, or a refusal. Unknown ones are ENOSYS. Entries of a multicall come here too. What
 * guests do all the time, send and unmask, goes ahead of the rest: one argument, read at its place, and no object made.
 */
export function dispatch(
  world: SchedWorld,
  domain: Domain,
  vcpu: Vcpu,
  op: Register,
  args: readonly Register[],
): number | Refusal {
  const { seam } = world
  if (!seam && op === HYPERVISOR.event_channel_op) {
    const [cmd] = args
    if (cmd === EVTCHNOP.send || cmd === EVTCHNOP.unmask) {
      const port = domain.memory.readU32(vcpu.vcpuId, address(args[1] ?? 0, domain))
      if (port < 0) return unreadable(cmd)
      return cmd === EVTCHNOP.send ? sendPort(world, domain, port) : unmaskPort(domain, port)
    }
  }
  const caller = domain.callers[vcpu.vcpuId]!
  return seam ? traced(world, seam, caller, op, args) : route(world, caller, op, args)
}

const unreadable = (cmd: number) =>
  refuse(EFAULT, `struct ${EVTCHN_STRUCTS[cmd === EVTCHNOP.send ? 'send' : 'unmask'].name} cannot be read`)

function traced(
  world: SchedWorld,
  seam: NonNullable<SchedWorld['seam']>,
  caller: Caller,
  op: Register,
  args: readonly Register[],
): number | Refusal {
  const register = (i: number) => address(args[i] ?? 0, caller.domain)
  return seam.hypercall(tracedCaller(caller), Number(op), register, () => route(world, caller, op, args))
}

function route(world: SchedWorld, caller: Caller, op: Register, args: readonly Register[]): number | Refusal {
  const result = routeKnown(world, caller, op, args)
  if (!(result instanceof NotKnown) || !world.fallThrough) return result
  return fallThrough(world, caller, Number(op), (i) => gva(args[i], caller), result)
}

function routeKnown(world: SchedWorld, caller: Caller, op: Register, args: readonly Register[]): number | Refusal {
  switch (Number(op)) {
    case HYPERVISOR.event_channel_op:
      return eventChannelOp(world, caller, int(args[0]), gva(args[1], caller))
    case HYPERVISOR.event_channel_op_compat:
      return eventChannelOpCompat(world, caller, gva(args[0], caller))
    case HYPERVISOR.memory_op:
      return memoryOp(world, caller, int(args[0]), gva(args[1], caller))
    case HYPERVISOR.sched_op:
      return schedOp(world, caller, int(args[0]), gva(args[1], caller))
    case HYPERVISOR.vcpu_op:
      return vcpuOp(world, caller, int(args[0]), int(args[1]), gva(args[2], caller))
    case HYPERVISOR.physdev_op:
      return physdevOp(world, caller, int(args[0]), gva(args[1], caller))
    case HYPERVISOR.hvm_op:
      return hvmOp(world, caller, int(args[0]), gva(args[1], caller))
    case HYPERVISOR.grant_table_op:
      return grantTableOp(world, caller, int(args[0]), gva(args[1], caller), int(args[2]) >>> 0)
    case HYPERVISOR.xen_version:
      return xenVersion(caller, int(args[0]), gva(args[1], caller))
    case HYPERVISOR.multicall:
      return multicall(world, caller, gva(args[0], caller), int(args[1]) >>> 0)
    default:
      return notKnown(() => `hypercall ${op} does not exist`)
  }
}
