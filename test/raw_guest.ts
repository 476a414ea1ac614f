/**
 * A guest without a driver: raw hypercalls with structs in guest memory, and its words as bits. Whatever the library's own
 * driver does for itself is done by hand, so that every step can be done wrongly on purpose.
 *
 *     frame 1 of its RAM is shared_info, with the first 32 vcpu_infos in it
 */

import {
  type Args,
  decode,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  type EvtchnOpName,
  encode,
  HYPERVISOR,
  PAGE_SIZE,
  VCPU_INFO_SIZE,
} from '../src/abi/index.js'
import type { Domain, DomainOptions, Hypervisor, Register } from '../src/index.js'

export const SHARED_INFO = PAGE_SIZE
/** vCPUs that have their vcpu_info in shared_info. */
const LEGACY_VCPUS = 32

/** A bit: of the bitmap that begins at `gpa`, the bit of this number. */
export type Place = readonly [gpa: number, bit: number]

/** A domain as its own kernel sees it. */
export class RawGuest {
  readonly xen: Hypervisor
  readonly domain: Domain
  /** OUT members of the last operation that succeeded. */
  out: Args = {}
  /** Where the vcpu_info of each vCPU is. A test that moves one writes it down here. */
  readonly infoGpa: number[]

  constructor(xen: Hypervisor, options: DomainOptions) {
    this.xen = xen
    this.domain = xen.createDomain(options)
    const vcpus = Math.min(LEGACY_VCPUS, this.domain.vcpus.length)
    this.infoGpa = Array.from({ length: vcpus }, (_, vcpu) => SHARED_INFO + vcpu * VCPU_INFO_SIZE)
  }

  get bytes(): Uint8Array {
    return this.domain.memory.view()
  }
  get view(): DataView {
    return this.domain.memory.data
  }

  // --- calls ---------------------------------------------------------------------------------------------------------

  /** A hypercall by its registers. */
  call(nr: number, registers: readonly Register[], vcpu = 0): number {
    return this.xen.hypercall(this.domain.vcpu(vcpu), nr, registers)
  }

  /** Writes the struct of an operation, if there is memory. Members that are not given keep their bytes. */
  put(name: EvtchnOpName, args: Readonly<Args>, at: number): void {
    const layout = EVTCHN_STRUCTS[name]
    if (at + layout.size <= this.domain.memory.bytes) encode(layout, this.view, args, at)
  }

  /** An event channel operation with its struct at `at`: what the hypercall returns. */
  issue(name: EvtchnOpName, args: Readonly<Args>, vcpu: number, at: number): number {
    this.put(name, args, at)
    const rc = this.call(HYPERVISOR.event_channel_op, [EVTCHNOP[name], at], vcpu)
    if (rc >= 0) this.out = decode(EVTCHN_STRUCTS[name], this.view, 'out', at)
    return rc
  }

  // --- words ---------------------------------------------------------------------------------------------------------

  bitAt([gpa, bit]: Place): number {
    return (this.bytes[gpa + (bit >> 3)]! >> (bit & 7)) & 1
  }
  setBitAt([gpa, bit]: Place, value: number): void {
    const at = gpa + (bit >> 3)
    this.bytes[at] = (this.bytes[at]! & ~(1 << (bit & 7))) | (value << (bit & 7))
  }

  /** evtchn_upcall_pending. */
  flag(vcpu = 0): number {
    return this.bytes[this.infoGpa[vcpu]!]!
  }
  setFlag(value: number, vcpu = 0): void {
    this.bytes[this.infoGpa[vcpu]!] = value
  }

  /** evtchn_upcall_mask. */
  mask(vcpu = 0): number {
    return this.bytes[this.infoGpa[vcpu]! + 1]!
  }
  setMask(value: number, vcpu = 0): void {
    this.bytes[this.infoGpa[vcpu]! + 1] = value
  }
}
