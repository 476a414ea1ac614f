/**
 * A tree without a hypervisor: the core over one memory, scan descriptors written as the head of assembly/guest/scan.ts has
 * them, and a sender's two steps. Ports need not exist, so all 2^25 of them can be used.
 *
 * Only leaf pages that a test uses are there; the others of the tree are one empty page. Entries of a table beyond the
 * tree are guards: pending all ones, mask all zeroes, so that whatever follows a bit beyond the tree comes upon ports
 * that nobody raised. Areas end where their page ends, and between any two pages lies one of ones that must stay so.
 */

import type { Bits } from '../../src/abi/index.js'

import { type Core, climbOf, coreOf, createMemory, scanOf } from '../../src/machine/core.js'
import { bitAt, bytesAt, channelsOf, P, PAGE } from './geometry.js'

export interface Form {
  bits: Bits
  levels: number
  nrPages: number
}

/** Every depth and width with its full tree. */
export const FULL: Form[] = [
  { bits: 64, levels: 2, nrPages: 1 },
  { bits: 64, levels: 3, nrPages: 8 },
  { bits: 64, levels: 4, nrPages: 512 },
  { bits: 32, levels: 2, nrPages: 1 },
  { bits: 32, levels: 3, nrPages: 1 },
  { bits: 32, levels: 4, nrPages: 32 },
  { bits: 32, levels: 5, nrPages: 1024 },
]
/** Trees with fewer pages: the last word of a level is not full, or a level above has one bit only. */
export const PARTIAL: Form[] = [
  { bits: 64, levels: 3, nrPages: 1 },
  { bits: 64, levels: 3, nrPages: 5 },
  { bits: 64, levels: 4, nrPages: 9 },
  { bits: 32, levels: 4, nrPages: 3 },
  { bits: 32, levels: 5, nrPages: 33 },
]
export const nameOf = ({ bits, levels, nrPages }: Form): string => `${bits} bits, ${levels} levels, ${nrPages} pages`

const MEMORY_PAGES = 512
const MAX_OUT = 1024

const memories = new Map<boolean, WebAssembly.Memory>()

/** One vCPU: where its words are, all absolute. */
interface RigVcpu {
  descriptor: number
  upcall: number
  level1: number
  /** Page tables of levels 2 … n-1; offsets are in them. */
  selectors: number[][]
  filterTable: number
}

export class Rig {
  readonly form: Form
  readonly channels: number
  readonly core: Core
  readonly vcpus: RigVcpu[]
  readonly #view: DataView
  readonly #bytes: Uint8Array
  readonly #pending: number
  readonly #mask: number
  readonly #out: number
  readonly #leaf = new Map<number, [pending: number, mask: number]>()
  readonly #guardPending: number
  readonly #guardMask: number
  #next = 1

  constructor(form: Form, options: { shared?: boolean; vcpus?: number; filter?: boolean } = {}) {
    const { shared = false, vcpus = 1, filter = false } = options
    this.form = form
    this.channels = channelsOf(form.bits, form.levels, form.nrPages)
    // One memory of each kind for all rigs: engines reserve much address space for each.
    const memory = memories.get(shared) ?? createMemory(MEMORY_PAGES, shared)
    memories.set(shared, memory)
    this.core = coreOf(memory)
    this.#view = new DataView(memory.buffer)
    this.#bytes = new Uint8Array(memory.buffer)
    this.#bytes.fill(0xff)
    this.#guardPending = this.#page(0xff)
    this.#guardMask = this.#page(0)
    this.#out = this.#page(0xff)
    const empty = this.#page()
    const table = (guard: number) => this.#table(Array(form.nrPages).fill(empty), guard)
    this.#pending = form.levels === 2 ? this.#page() : table(this.#guardPending)
    this.#mask = form.levels === 2 ? this.#page() : table(this.#guardMask)
    this.vcpus = Array.from({ length: vcpus }, () => this.#vcpu(filter))
  }

  /** A page, with one of ones before it. */
  #page(byte = 0): number {
    this.#next += 2
    if (this.#next > MEMORY_PAGES) throw new Error('rig: out of pages')
    const at = (this.#next - 1) * PAGE
    this.#bytes.fill(byte, at, at + PAGE)
    return at
  }
  #table(entries: number[], guard: number): number {
    const at = this.#page()
    for (let i = 0; i < 1024; i++) this.#view.setUint32(at + 4 * i, entries[i] ?? guard, true)
    return at
  }

  #vcpu(filter: boolean): RigVcpu {
    const { bits, levels, nrPages } = this.form
    const page = this.#page()
    const vcpu: RigVcpu = {
      descriptor: page + PAGE - 128,
      upcall: page,
      level1: page + 8,
      selectors: [],
      filterTable: filter ? this.#table(Array(nrPages).fill(0), this.#guardPending) : 0,
    }
    for (let k = 2; k < levels; k++) {
      const size = bytesAt(bits, levels, k, this.channels)
      const offset = size > PAGE ? 0 : PAGE - size
      const pages = Array.from({ length: Math.ceil(size / PAGE) }, () => this.#page() + offset)
      for (const each of pages) this.#bytes.fill(0xff, each - offset, each)
      vcpu.selectors.push(pages)
    }
    const put = (offset: number, value: number) => this.#view.setUint32(vcpu.descriptor + offset, value, true)
    put(0, vcpu.upcall)
    put(4, vcpu.level1)
    for (let k = 2; k < levels - 1; k++) put(8 + 4 * (k - 2), vcpu.selectors[k - 2]![0]!)
    if (levels > 2) put(16, this.#table(vcpu.selectors.at(-1)!, this.#guardPending))
    put(20, this.#pending)
    put(24, this.#mask)
    put(28, vcpu.filterTable)
    put(32, this.channels)
    put(36, 0)
    return vcpu
  }

  /** The leaf pages of a port, made at its first use. */
  #leafOf(port: number): [pending: number, mask: number] {
    if (this.form.levels === 2) return [this.#pending, this.#mask]
    const index = Math.floor(port / P)
    let found = this.#leaf.get(index)
    if (!found) {
      found = [this.#page(), this.#page()]
      this.#leaf.set(index, found)
      this.#view.setUint32(this.#pending + 4 * index, found[0], true)
      this.#view.setUint32(this.#mask + 4 * index, found[1], true)
    }
    return found
  }

  #selector(v: number, k: number, port: number): [page: number, bit: number] {
    const { bits, levels } = this.form
    const bit = bitAt(bits, levels, k, port)
    if (k === 1) return [this.vcpus[v]!.level1, bit]
    return [this.vcpus[v]!.selectors[k - 2]![Math.floor(bit / P)]!, bit % P]
  }
  #bit([page, bit]: readonly [number, number]): number {
    return (this.#bytes[page + (bit >> 3)]! >> (bit & 7)) & 1
  }

  /** What a sender does (NL-set-1); the vCPU is told if the answer is true. */
  raise(port: number, v = 0): boolean {
    const { levels, bits } = this.form
    const [pending, mask] = this.#leafOf(port)
    if (this.core.leafSet(pending, mask, port) !== 2) return false
    const page = (k: number) => (k < levels ? this.#selector(v, k, port)[0] : 0)
    const { upcall, level1 } = this.vcpus[v]!
    return climbOf(this.core, levels, bits)(port, upcall, level1, page(2), page(3), page(4)) === 1
  }
  /** The port is this vCPU's (NL-scan-4). */
  own(port: number, v: number): void {
    const at = this.vcpus[v]!.filterTable + 4 * Math.floor(port / P)
    if (!this.#view.getUint32(at, true)) this.#view.setUint32(at, this.#page(), true)
    this.core.bitSet(this.#view.getUint32(at, true), port)
  }
  setMask(port: number): void {
    this.core.bitSet(this.#leafOf(port)[1], port)
  }
  clearPending(port: number): void {
    this.core.bitClear(this.#leafOf(port)[0], port)
  }

  /** One round of a vCPU's scan. */
  scan(max: number, v = 0): number[] {
    if (max > MAX_OUT) throw new Error('rig: no such buffer')
    this.#bytes.fill(0xff, this.#out, this.#out + PAGE)
    const { bits, levels } = this.form
    const count = scanOf(this.core, levels, bits)(this.vcpus[v]!.descriptor, this.#out, max)
    const ports = Array.from({ length: count }, (_, i) => this.#view.getUint32(this.#out + 4 * i, true))
    for (let i = Math.max(0, count); i < max; i++)
      if (this.#view.getUint32(this.#out + 4 * i, true) !== 0xffff_ffff) throw new Error('a port beyond the count')
    return ports
  }
  setNext(port: number, v = 0): void {
    this.#view.setUint32(this.vcpus[v]!.descriptor + 36, port, true)
  }
  next(v = 0): number {
    return this.#view.getUint32(this.vcpus[v]!.descriptor + 36, true)
  }
  flag(v = 0): number {
    return this.#bytes[this.vcpus[v]!.upcall]!
  }
  isPending(port: number): boolean {
    return this.#bit([this.#leafOf(port)[0], port % P]) === 1
  }
  /** Selector bits of a port, level n-1 first. */
  path(port: number, v = 0): number[] {
    const { levels } = this.form
    return Array.from({ length: levels - 1 }, (_, i) => this.#bit(this.#selector(v, levels - 1 - i, port)))
  }
  /** First and last byte of the words of each selector level, page by page. */
  #words(v: number): [from: number, to: number][] {
    const { level1, selectors } = this.vcpus[v]!
    const { bits, levels } = this.form
    const words: [number, number][] = [[level1, level1 + bits / 8]]
    for (const [i, pages] of selectors.entries()) {
      let left = bytesAt(bits, levels, i + 2, this.channels)
      for (const page of pages) {
        words.push([page, page + Math.min(left, PAGE)])
        left -= PAGE
      }
    }
    return words
  }
  /** Any selector bit of a vCPU. */
  anySelector(v = 0): boolean {
    return this.#words(v).some(([from, to]) => this.#bytes.subarray(from, to).some(Boolean))
  }
  /** Sets every bit of every word of a vCPU's selectors, those beyond the last channel's as well. */
  fillSelectors(v = 0): void {
    for (const [from, to] of this.#words(v)) this.#bytes.fill(0xff, from, to)
    this.#bytes[this.vcpus[v]!.upcall] = 1
  }
  /** Throws if a guard was written to. */
  checkGuards(): void {
    const all = (from: number, byte: number) => {
      if (this.#bytes.subarray(from, from + PAGE).some((each) => each !== byte))
        throw new Error(`the guard page at ${from} was written to`)
    }
    for (let page = 1; page < this.#next; page += 2) all(page * PAGE, 0xff)
    all(this.#guardPending, 0xff)
    all(this.#guardMask, 0)
    for (const { selectors } of this.vcpus)
      for (const page of selectors.flat())
        if (this.#bytes.subarray(page - (page % PAGE), page).some((each) => each !== 0xff))
          throw new Error(`words before the area at ${page} were written to`)
  }
}

/** Port numbers on and beside every kind of boundary: words, every level, pages, and the last channel. */
export function boundaries({ bits, levels, nrPages }: Form): number[] {
  const channels = channelsOf(bits, levels, nrPages)
  const edges = [0, bits, 3 * bits, bits ** 2, 5 * bits ** 2, bits ** 3, bits ** 4, P, 3 * P, channels]
  const near = edges.flatMap((edge) => [edge - 1, edge, edge + 1])
  return [...new Set(near)].filter((port) => port >= 0 && port < channels).sort((a, b) => a - b)
}
