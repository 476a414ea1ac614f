/**
 * What a guest's driver stands on: its own RAM and one function that makes a hypercall. It sees nothing else of the
 * hypervisor. Arguments are passed as structs in the guest's memory, on a stack of the guest's own: a hypercall may be
 * followed at once by an upcall whose handlers make hypercalls too, before the first one's results are read.
 */

import {
  type Args,
  type Bits,
  decodeInto,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  type EvtchnOpName,
  encode,
  HYPERVISOR,
  PAGE_SIZE,
} from '../abi/index.js'
import type { OnError } from '../callout.js'
import { type OnRefusal, type Refusal, XenError } from '../errno.js'
import type { GuestMemory } from '../machine/memory.js'

/** A machine as its kernel finds it at boot. `Hypervisor.platform` makes one for a domain. */
export interface GuestPlatform {
  readonly memory: GuestMemory
  readonly bits: Bits
  /** Number of vCPUs. */
  readonly vcpus: number
  readonly sharedInfoGfn: number
  /** Makes a hypercall on a vCPU: number, registers. Returns 0 or more, or -errno, whose reason goes to `onRefusal`. */
  hypercall(vcpuId: number, op: number, args: readonly number[], onRefusal?: OnRefusal): number
  /** Gets what a handler of the guest's threw. Default: it is thrown again in a microtask. */
  readonly onError?: OnError
}

/** Bytes of one frame of the argument stack: the largest struct and room for what it points to. */
const ARGUMENT_BYTES = 64

/** Operations whose struct is a port and nothing else. */
export type PortOp = 'send' | 'unmask' | 'close'

/** Hypercalls of a guest, with structs in its memory. */
export class GuestHypercalls {
  readonly #platform: GuestPlatform
  readonly #stackGpa: number
  #depth = 0
  /** Registers of operations on a port, by depth of the argument stack. */
  readonly #registers: Record<PortOp, (readonly number[])[]> = { send: [], unmask: [], close: [] }
  /** Why the last call was refused: set when it returns, after the upcalls that it led to. */
  #refusal: Refusal | undefined
  readonly #keep: OnRefusal = (refusal) => {
    this.#refusal = refusal
  }

  /** Arguments live in frame `gfn`. */
  constructor(platform: GuestPlatform, gfn: number) {
    this.#platform = platform
    this.#stackGpa = gfn * PAGE_SIZE
  }

  /**
   * An event channel operation. Returns 0 or more, or -errno, whose reason goes to `onRefusal`. On success `args` gets the
   * OUT members.
   */
  evtchn(vcpuId: number, op: EvtchnOpName, args: Args, onRefusal?: OnRefusal): number {
    const gpa = this.#enter()
    try {
      const layout = EVTCHN_STRUCTS[op]
      const { memory } = this.#platform
      encode(layout, memory.data, args, gpa)
      const rc = this.#platform.hypercall(vcpuId, HYPERVISOR.event_channel_op, [EVTCHNOP[op], gpa], onRefusal)
      if (rc >= 0) decodeInto(layout, memory.data, args, gpa)
      return rc
    } finally {
      this.#depth--
    }
  }

  /** A frame of the argument stack; the caller leaves it. */
  #enter(): number {
    const gpa = this.#stackGpa + this.#depth * ARGUMENT_BYTES
    if (this.#depth * ARGUMENT_BYTES >= PAGE_SIZE) throw new Error('guest: hypercalls are nested 64 deep')
    this.#depth++
    return gpa
  }

  /**
   * One of the operations whose struct is a port and nothing else: send, unmask, close. Returns 0, or -errno, whose reason
   * goes to `onRefusal`. No object is made for it: the registers of each operation are the same list each time.
   */
  onPort(vcpuId: number, op: PortOp, port: number, onRefusal?: OnRefusal): number {
    const gpa = this.#enter()
    try {
      this.#platform.memory.data.setUint32(gpa, port, true)
      return this.#platform.hypercall(vcpuId, HYPERVISOR.event_channel_op, this.#registersOf(op, gpa), onRefusal)
    } finally {
      this.#depth--
    }
  }

  /** The registers for an operation on a port whose argument is in this frame of the stack. */
  #registersOf(op: PortOp, gpa: number): readonly number[] {
    const lists = this.#registers[op]
    const list = lists[this.#depth]
    if (list) return list
    const made = [EVTCHNOP[op], gpa]
    lists[this.#depth] = made
    return made
  }

  /** The same. @throws XenError with the hypervisor's reason. */
  mustOnPort(vcpuId: number, op: PortOp, port: number): void {
    this.#refusal = undefined
    const rc = this.onPort(vcpuId, op, port, this.#keep)
    if (rc < 0) throw this.#error(`EVTCHNOP_${op}`, rc)
  }

  /** The same. Returns `args` with the OUT members. @throws XenError with the hypervisor's reason. */
  must(vcpuId: number, op: EvtchnOpName, args: Args): Args {
    this.#refusal = undefined
    const rc = this.evtchn(vcpuId, op, args, this.#keep)
    if (rc < 0) throw this.#error(`EVTCHNOP_${op}`, rc)
    return args
  }

  /** The error for operation `op` that returned `rc`, with the reason if the platform told it. */
  #error(op: string, rc: number): XenError {
    return new XenError(op, rc, this.#refusal?.text ?? '')
  }

  /** Any other hypercall whose one pointer argument is `bytes`; `registers` gets the address and makes the registers. */
  raw(
    vcpuId: number,
    op: number,
    bytes: Uint8Array,
    registers: (gpa: number) => number[],
    onRefusal?: OnRefusal,
  ): number {
    const gpa = this.#enter()
    try {
      this.#platform.memory.view().set(bytes, gpa)
      return this.#platform.hypercall(vcpuId, op, registers(gpa), onRefusal)
    } finally {
      this.#depth--
    }
  }

  /** The same. `name` is that of the operation, for errors. @throws XenError with the hypervisor's reason. */
  mustRaw(name: string, vcpuId: number, op: number, bytes: Uint8Array, registers: (gpa: number) => number[]): number {
    this.#refusal = undefined
    const rc = this.raw(vcpuId, op, bytes, registers, this.#keep)
    if (rc < 0) throw this.#error(name, rc)
    return rc
  }

  /** A view of the guest's own bytes. */
  view(gpa: number, length: number): DataView {
    const { memory } = this.#platform
    return new DataView(memory.memory.buffer, memory.base + gpa, length)
  }
}
