/** What a recorded guest does to its own words in shared_info: masks, scans, single words. Nothing here enters the hypervisor. */

import { type Bits, PAGE_SIZE, sharedInfo, UPCALL_MASK, UPCALL_PENDING, VCPU_INFO_SIZE } from '../../src/abi/index.js'
import type { Domain } from '../../src/index.js'

/** Frame of shared_info in every recorded domain. */
export const SHARED_INFO_GFN = 160

/** The bytes of a frame, as the guest that owns it sees them. */
export function frameOf(domain: Domain, gfn: number): DataView {
  const { buffer, byteOffset } = domain.memory.view()
  return new DataView(buffer, byteOffset + gfn * PAGE_SIZE, PAGE_SIZE)
}

/** shared_info as its guest reads and writes it. Little-endian, so bit p is bit p & 7 of byte p >> 3 in both widths. */
export class SharedInfo {
  readonly bits: Bits
  readonly layout: ReturnType<typeof sharedInfo>
  readonly #view: DataView

  constructor(domain: Domain) {
    this.bits = domain.bits
    this.layout = sharedInfo(domain.bits)
    this.#view = frameOf(domain, SHARED_INFO_GFN)
  }

  byte(vcpuId: number, offset: number): number {
    return this.#view.getUint8(vcpuId * VCPU_INFO_SIZE + offset)
  }
  setByte(vcpuId: number, offset: number, value: number): void {
    this.#view.setUint8(vcpuId * VCPU_INFO_SIZE + offset, value)
  }

  bit(bitmap: number, port: number): boolean {
    return ((this.#view.getUint8(bitmap + (port >> 3)) >> (port & 7)) & 1) === 1
  }
  setBit(bitmap: number, port: number, value: boolean): void {
    const at = bitmap + (port >> 3)
    const bit = 1 << (port & 7)
    const old = this.#view.getUint8(at)
    this.#view.setUint8(at, value ? old | bit : old & ~bit)
  }
  /** Ports below `end` whose bit is set. */
  ports(bitmap: number, end: number): number[] {
    const found: number[] = []
    for (let port = 0; port < end; port++) if (this.bit(bitmap, port)) found.push(port)
    return found
  }

  /** The word of the guest's width at a byte offset. */
  word(at: number): bigint {
    return this.bits === 64 ? this.#view.getBigUint64(at, true) : BigInt(this.#view.getUint32(at, true))
  }
  setWord(at: number, value: bigint): void {
    if (this.bits === 64) this.#view.setBigUint64(at, value, true)
    else this.#view.setUint32(at, Number(value), true)
  }
  /** Byte offset of a vCPU's evtchn_pending_sel. */
  sel(vcpuId: number): number {
    return vcpuId * VCPU_INFO_SIZE + this.layout.sel
  }
}

/** Answers `out`; undefined = none. */
type Guest = (info: SharedInfo, vcpuId: number, args: Readonly<Record<string, unknown>>) => unknown

/** What a vCPU does to its own memory; nothing here enters the hypervisor. */
export const GUEST: Readonly<Record<string, Guest>> = {
  guest_mask: (info, _, { port }) => info.setBit(info.layout.mask, port as number, true),
  guest_unmask: (info, _, { port }) => info.setBit(info.layout.mask, port as number, false),
  guest_clear_pending: (info, _, { port }) => info.setBit(info.layout.pending, port as number, false),
  guest_scan: (info, vcpuId) => ({ ports: scan(info, vcpuId) }),
  set_guest_word(info, _, args) {
    const index = args.index as number
    const value = BigInt(args.value as number | string)
    switch (args.where) {
      case 'pending':
      case 'mask':
        return info.setWord(info.layout[args.where] + (index * info.bits) / 8, value)
      case 'sel':
        return info.setWord(info.sel(index), value)
      case 'upcall_pending':
        return info.setByte(index, UPCALL_PENDING, Number(value))
      case 'upcall_mask':
        return info.setByte(index, UPCALL_MASK, Number(value))
      default:
        throw new Error('no such word')
    }
  },
}

/** A plain two-level scan (EC-guest-3): flag, selector, then words and ports in ascending order. */
function scan(info: SharedInfo, vcpuId: number): number[] {
  const { pending, mask } = info.layout
  info.setByte(vcpuId, UPCALL_PENDING, 0)
  const selected = info.word(info.sel(vcpuId))
  info.setWord(info.sel(vcpuId), 0n)
  const ports: number[] = []
  for (let word = 0; word < info.bits; word++) {
    if (!((selected >> BigInt(word)) & 1n)) continue
    for (let port = word * info.bits; port < (word + 1) * info.bits; port++) {
      if (!info.bit(pending, port) || info.bit(mask, port)) continue
      info.setBit(pending, port, false)
      ports.push(port)
    }
  }
  return ports
}
