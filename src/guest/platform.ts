/**
 * What a guest's driver stands on: its own RAM and one function that makes a hypercall. It sees nothing else of the
 * hypervisor. Arguments are passed as structs in the guest's memory, on a stack of the guest's own: a hypercall may be
 * followed at once by an upcall whose handlers make hypercalls too, before the first one's results are read.
 */

import {
  type Args,
  type Bits,
  decode,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  type EvtchnOpName,
  encode,
  HYPERVISOR,
  PAGE_SIZE,
} from '../abi/index.js'
import { type Refusal, XenError } from '../errno.js'
import type { GuestMemory } from '../machine/memory.js'

/** A machine as its kernel finds it at boot. `Hypervisor.platform` makes one for a domain. */
export interface GuestPlatform {
  readonly memory: GuestMemory
  readonly bits: Bits
  /** Number of vCPUs. */
  readonly vcpus: number
  readonly sharedInfoGfn: number
  /** Makes a hypercall on a vCPU: number, registers. Returns 0 or more, or -errno, whose reason goes to `onRefusal`. */
  hypercall(vcpuId: number, op: number, args: readonly number[], onRefusal?: (refusal: Refusal) => void): number
}

/** Bytes of one frame of the argument stack: the largest struct and room for what it points to. */
const ARGUMENT_BYTES = 64

/** Hypercalls of a guest, with structs in its memory. */
export class GuestHypercalls {
  readonly #platform: GuestPlatform
  readonly #stackGpa: number
  #depth = 0

  /** Arguments live in frame `gfn`. */
  constructor(platform: GuestPlatform, gfn: number) {
    this.#platform = platform
    this.#stackGpa = gfn * PAGE_SIZE
  }

  /** An event channel operation: 0 or more, or -errno; OUT members are stored in `args` on success. */
  evtchn(vcpuId: number, op: EvtchnOpName, args: Args): number {
    return this.#push((gpa) => {
      const layout = EVTCHN_STRUCTS[op]
      const { memory } = this.#platform
      encode(layout, memory.data, args, gpa)
      const rc = this.#platform.hypercall(vcpuId, HYPERVISOR.event_channel_op, [EVTCHNOP[op], gpa])
      if (rc >= 0) Object.assign(args, decode(layout, memory.data, 'out', gpa))
      return rc
    })
  }

  /** The same; throws XenError on failure. Returns `args` with the OUT members. */
  must(vcpuId: number, op: EvtchnOpName, args: Args): Args {
    const rc = this.evtchn(vcpuId, op, args)
    if (rc < 0) throw new XenError(`EVTCHNOP_${op}`, rc, JSON.stringify(args))
    return args
  }

  /** Any other hypercall whose one pointer argument is `bytes`; `registers` gets the address and makes the registers. */
  raw(vcpuId: number, op: number, bytes: Uint8Array, registers: (gpa: number) => number[]): number {
    return this.#push((gpa) => {
      const { memory } = this.#platform
      memory.view().set(bytes, gpa)
      return this.#platform.hypercall(vcpuId, op, registers(gpa))
    })
  }

  /** A view of the guest's own bytes. */
  view(gpa: number, length: number): DataView {
    const { memory } = this.#platform
    return new DataView(memory.memory.buffer, memory.base + gpa, length)
  }

  #push<T>(body: (gpa: number) => T): T {
    const gpa = this.#stackGpa + this.#depth * ARGUMENT_BYTES
    if (this.#depth * ARGUMENT_BYTES >= PAGE_SIZE) throw new Error('guest: hypercalls are nested 64 deep')
    this.#depth++
    try {
      return body(gpa)
    } finally {
      this.#depth--
    }
  }
}
