/**
 * The guest's tree as its driver uses it: bits of the leaf, and per vCPU a scan descriptor in guest RAM that says where
 * all of it is (assembly/guest/scan.ts). At depth 2 the words are in shared_info. How the frames came to be registered is
 * register.ts.
 */

import { maxEvtchns, PAGE_SIZE, sharedInfo, UPCALL_PENDING } from '../abi/index.js'
import type { Refusal } from '../errno.js'
import { XenError } from '../errno.js'
import { type Core, climbOf, type Scan, scanOf } from '../machine/core.js'
import type { ChannelForm, Registrar, Unmasked } from './form.js'
import { Arena, type FrameAllocator, fillFrame } from './frames.js'
import type { GuestHypercalls, GuestPlatform } from './platform.js'
import { addSelectors, type SelectorFrames } from './selectors.js'

/** Where a tree's words are, as guest frames. */
export interface TreeFrames {
  readonly pending: readonly number[]
  readonly mask: readonly number[]
  /** Per vCPU, level 2 … n-1. */
  readonly selectors: readonly (readonly SelectorFrames[])[]
  readonly all: readonly number[]
}

/** Byte offsets in the scan descriptor. */
const DESCRIPTOR = {
  upcall: 0,
  level1: 4,
  level2: 8,
  last: 16,
  pending: 20,
  mask: 24,
  filter: 28,
  channels: 32,
  next: 36,
}
const DESCRIPTOR_BYTES = 128

/** The words of a tree that an own form has registered, as the driver uses them. */
export const treeForm = (by: Registrar, shape: { levels: number; channels: number; frames: TreeFrames }): ChannelForm =>
  new Tree(by, shape)

/** A registered tree and one scan descriptor per vCPU. */
export class Tree implements ChannelForm {
  readonly levels: number
  /** Usable port numbers, 0 included. */
  readonly channels: number
  /** Port numbers that the tree has room for: the geometry. */
  readonly maxEvtchns: number
  readonly batch = 1024
  scan: Scan
  #platform: GuestPlatform
  #core: Core
  /** As registered; null: two levels, in shared_info. */
  readonly frames: TreeFrames | null
  readonly #allocator: FrameAllocator
  #calls: GuestHypercalls
  readonly #infoGpas: readonly number[]
  /** Frames that hold descriptors, tables and filter pages. */
  readonly #own: number[] = []
  #descriptors: number[] = []
  #filterTables: number[] = []
  #pendingPages: readonly number[]
  #maskPages: readonly number[]

  constructor(by: Registrar, shape: { levels: number; channels: number; frames: TreeFrames | null }) {
    const { platform } = by
    this.#platform = platform
    this.#core = platform.memory.core
    this.#allocator = by.frames
    this.#calls = by.calls
    this.#infoGpas = by.infoGpas
    this.frames = shape.frames
    this.levels = shape.levels
    this.channels = shape.channels
    const { bits } = platform
    this.maxEvtchns = maxEvtchns(bits, shape.levels, shape.frames?.pending.length ?? 0)
    this.scan = scanOf(this.#core, shape.levels, bits)
    const shared = platform.sharedInfoGfn * PAGE_SIZE
    const { pending, mask } = sharedInfo(bits)
    this.#pendingPages = shape.frames ? shape.frames.pending.map((gfn) => this.#at(gfn)) : [this.#abs(shared + pending)]
    this.#maskPages = shape.frames ? shape.frames.mask.map((gfn) => this.#at(gfn)) : [this.#abs(shared + mask)]
    this.#describe()
  }

  /** Absolute address, in the core's memory, of a guest-physical one. */
  #abs(gpa: number): number {
    return this.#platform.memory.base + gpa
  }
  #at(gfn: number): number {
    return this.#abs(gfn * PAGE_SIZE)
  }

  /** Writes the descriptors and the tables they point to into the guest's RAM. */
  #describe(): void {
    const { bits, vcpus } = this.#platform
    const { sel } = sharedInfo(bits)
    const pages = this.#pendingPages.length
    const tables = this.levels > 2 ? [this.#table(this.#pendingPages), this.#table(this.#maskPages)] : null
    const arena = new Arena(this.#grab.bind(this))
    for (let vcpu = 0; vcpu < vcpus; vcpu++) {
      const gpa = arena.take(DESCRIPTOR_BYTES)
      const view = this.#view(gpa, DESCRIPTOR_BYTES)
      const put = (offset: number, value: number) => view.setUint32(offset, value, true)
      put(DESCRIPTOR.upcall, this.#abs(this.#infoGpas[vcpu]! + UPCALL_PENDING))
      put(DESCRIPTOR.level1, this.#abs(this.#infoGpas[vcpu]! + sel))
      put(DESCRIPTOR.pending, tables ? tables[0]! : this.#pendingPages[0]!)
      put(DESCRIPTOR.mask, tables ? tables[1]! : this.#maskPages[0]!)
      put(DESCRIPTOR.channels, this.maxEvtchns)
      put(DESCRIPTOR.next, 1)
      for (let k = 2; k < this.levels; k++) {
        const level = this.frames!.selectors[vcpu]![k - 2]!
        const at = level.gfns.map((gfn) => this.#at(gfn) + level.offset)
        if (k < this.levels - 1) put(DESCRIPTOR.level2 + 4 * (k - 2), at[0]!)
        else put(DESCRIPTOR.last, this.#table(at))
      }
      // One vCPU needs no filter; several have one each from the start, with pages made at the first bind (NL-scan-4).
      if (vcpus > 1) {
        this.#filterTables[vcpu] = this.#table(Array(pages).fill(0))
        put(DESCRIPTOR.filter, this.#filterTables[vcpu]!)
      }
      this.#descriptors[vcpu] = this.#abs(gpa)
    }
  }

  #view(gpa: number, length: number): DataView {
    return new DataView(this.#platform.memory.memory.buffer, this.#abs(gpa), length)
  }

  /** A zeroed frame of the guest's, for the driver's own data. */
  #grab(): number {
    const gfn = this.#allocator.allocate(1)?.[0]
    if (gfn === undefined) throw new Error('guest: no frame left for scan descriptors and filters')
    this.#own.push(gfn)
    fillFrame(this.#platform.memory, gfn, 0)
    return gfn
  }

  readonly #tables = new Arena(() => this.#grab())

  /** An array of addresses in guest RAM; returns its absolute address. At most 1024 fit a frame, and no tree has more. */
  #table(addresses: readonly number[]): number {
    const gpa = this.#tables.take(addresses.length * 4)
    const view = this.#view(gpa, addresses.length * 4)
    addresses.forEach((address, i) => {
      view.setUint32(i * 4, address, true)
    })
    return this.#abs(gpa)
  }

  round(vcpu: number, out: number, max: number): number {
    return this.scan(this.#descriptors[vcpu]!, out, max)
  }

  /** Two levels need nothing: the words of every vCPU are in its vcpu_info. */
  addVcpu(vcpu: number): void {
    if (!this.frames) return
    const shape = { levels: this.levels, nrPages: this.frames.pending.length }
    let refusal: Refusal | undefined
    const by = { calls: this.#calls, frames: this.#allocator }
    const rc = addSelectors(by, shape, vcpu, this.frames.selectors[vcpu]!, (each) => {
      refusal = each
    })
    if (rc < 0) throw new XenError('EVTCHNOP_set_nlevel_selectors', rc, (refusal as Refusal | undefined)?.text ?? '')
  }

  /** Address of a vCPU's scan descriptor. */
  descriptor(vcpu: number): number {
    return this.#descriptors[vcpu]!
  }

  /** All leaf pages are there from the beginning. */
  prepare(): void {}

  /** Says whether a port is a vCPU's (NL-scan-4). */
  filter(vcpu: number, port: number, mine: boolean): void {
    const table = this.#filterTables[vcpu]
    if (table === undefined) return
    const view = new DataView(this.#platform.memory.memory.buffer, table + 4 * (port >> 15), 4)
    let page = view.getUint32(0, true)
    if (!page) {
      if (!mine) return
      page = this.#at(this.#grab())
      view.setUint32(0, page, true)
    }
    if (mine) this.#core.bitSet(page, port)
    else this.#core.bitClear(page, port)
  }

  isPending(port: number): boolean {
    return this.#core.bitTest(this.#pendingPages[port >> 15]!, port) === 1
  }
  isMasked(port: number): boolean {
    return this.#core.bitTest(this.#maskPages[port >> 15]!, port) === 1
  }
  mask(port: number): void {
    this.#core.bitSet(this.#maskPages[port >> 15]!, port)
  }
  setPending(port: number): void {
    this.#core.bitSet(this.#pendingPages[port >> 15]!, port)
  }
  clearPending(port: number): void {
    this.#core.bitClear(this.#pendingPages[port >> 15]!, port)
  }

  /**
   * Unmasks a port of this vCPU without a hypercall: mask, then pending, then the climb with its early stop (NL-scan-5).
   * 'scan': the own upcall flag went to 1, and the caller runs the scan itself, for nobody else will (NL-scan-6).
   */
  unmaskLocally(vcpu: number, port: number): Unmasked {
    if (!this.#core.leafUnmask(this.#pendingPages[port >> 15]!, this.#maskPages[port >> 15]!, port)) return 'done'
    const { bits } = this.#platform
    const b = bits === 64 ? 6 : 5
    const info = this.#abs(this.#infoGpas[vcpu]!)
    const page = (k: number) => {
      if (k >= this.levels) return 0
      const level = this.frames!.selectors[vcpu]![k - 2]!
      return this.#at(level.gfns[k === this.levels - 1 ? port >> (b + 15) : 0]!) + level.offset
    }
    const climb = climbOf(this.#core, this.levels, bits)
    return climb(port, info, info + sharedInfo(bits).sel, page(2), page(3), page(4)) ? 'scan' : 'done'
  }

  /**
   * The guest was moved, RAM and all, and knows nothing of it. What the driver keeps are absolute addresses in the memory
   * that it lived in: it takes up those of the new one, also in the descriptors and tables in its RAM.
   */
  moveTo(platform: GuestPlatform, calls: GuestHypercalls): void {
    this.#calls = calls
    const by = platform.memory.base - this.#platform.memory.base
    this.#platform = platform
    this.#core = platform.memory.core
    this.scan = scanOf(this.#core, this.levels, platform.bits)
    if (!by) return
    const moved = (address: number) => address + by
    this.#pendingPages = this.#pendingPages.map(moved)
    this.#maskPages = this.#maskPages.map(moved)
    this.#descriptors = this.#descriptors.map(moved)
    this.#filterTables = this.#filterTables.map(moved)
    const view = new DataView(platform.memory.memory.buffer)
    // 0 is none: a level that the depth does not have, a filter page that was never needed.
    const move = (at: number) => {
      const address = view.getUint32(at, true)
      if (address) view.setUint32(at, address + by, true)
      return address + by
    }
    const moveTable = (at: number, count: number) => {
      for (let i = 0; i < count; i++) move(at + 4 * i)
    }
    const pages = this.#pendingPages.length
    for (const [vcpu, at] of this.#descriptors.entries()) {
      const { upcall, level1, level2, last, pending, mask, filter } = DESCRIPTOR
      for (const field of [upcall, level1, level2, level2 + 4]) move(at + field)
      const [lastTable, pendingTable, maskTable] = [last, pending, mask].map((field) => move(at + field))
      if (this.levels > 2) {
        moveTable(lastTable!, this.frames!.selectors[vcpu]!.at(-1)!.gfns.length)
        if (vcpu === 0) for (const table of [pendingTable!, maskTable!]) moveTable(table, pages)
      }
      if (this.#filterTables[vcpu] !== undefined) moveTable(move(at + filter), pages)
    }
  }

  /** Gives the frames back to the guest's allocator: the hypervisor must not use them any more. */
  release(): void {
    this.#allocator.release(this.#own)
    if (this.frames) this.#allocator.release(this.frames.all)
  }
}
