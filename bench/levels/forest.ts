/**
 * Trees in a wasm memory, each laid out as the ABI lays out the words of one vCPU:
 *
 *     n = 2   vcpu_info, pending and mask words in a shared_info of its own
 *     n > 2   vcpu_info in a common place; pending, mask and the last selector level in frames of their own, found
 *             through tables of pages; selector levels of up to 512 bytes side by side in a frame, as the ABI allows
 *
 * Everything small lies side by side, and tree t of n = 2 is vCPU t of its domain, so that no two hot words have the same
 * place in their pages: such words compete for one set of the cache, and a processor takes a load from one for a load
 * of what was just stored to the other; both together cost a third of a scan that finds one port. A tree is named by its
 * scan's descriptor (assembly/guest/scan.ts).
 */

import { type Bits, fullTree, fullTreePages, levelBytes, PAGE_SIZE, sharedInfo, VCPU_INFO_SIZE } from 'evtchn/abi'
import { createMemory } from 'evtchn/core'
import { MAX_TREES } from './plan.js'

const DESCRIPTOR_SIZE = 128
/** Bytes for lists of ports, and for the ports that scans deliver. */
const LISTS_SIZE = 1 << 20
const OUT_SIZE = 1 << 19
/** Selector levels up to this size share a frame. */
const PACKED = 512
/** Bytes for everything that has no frame of its own. */
const SMALL_SIZE = 1 << 17

/** Addresses of one tree, all absolute. */
export interface Tree {
  readonly descriptor: number
  readonly upcall: number
  readonly level1: number
  /** Level 2 at n = 4, else 0. */
  readonly level2: number
  /** Pages of level n-1; none at n = 2. */
  readonly last: readonly number[]
  /** Pages of the leaf; at n = 2 one, the words in shared_info. */
  readonly pending: readonly number[]
  readonly mask: readonly number[]
}

/** Trees of one depth and width in one memory. */
export class Forest {
  readonly memory: WebAssembly.Memory
  readonly trees: readonly Tree[]
  readonly channels: number
  /** Address of the first descriptor, of the lists of ports, and of the output. */
  readonly descriptors: number
  readonly lists: number
  readonly out: number
  readonly u32: Uint32Array
  #free = PAGE_SIZE
  /** Part of the small things' area that is still free. */
  #small: number
  readonly #smallEnd: number

  constructor(
    readonly levels: number,
    readonly bits: Bits,
    readonly shared: boolean,
  ) {
    const leafPages = levels === 2 ? 0 : fullTreePages(bits, levels)
    const frames = 1 + (LISTS_SIZE + OUT_SIZE + SMALL_SIZE) / PAGE_SIZE + MAX_TREES * (1 + 3 * leafPages)
    this.memory = createMemory(frames, shared)
    // Written once, every page gets memory of its own; the kernel serves reads of untouched memory from one page.
    new Uint8Array(this.memory.buffer).fill(0)
    this.u32 = new Uint32Array(this.memory.buffer)
    this.channels = fullTree(bits, levels)
    this.lists = this.#take(LISTS_SIZE)
    this.out = this.#take(OUT_SIZE)
    this.#smallEnd = this.#take(SMALL_SIZE) + SMALL_SIZE
    // Not at the same place in its page as vcpu_info.
    this.#small = this.#smallEnd - SMALL_SIZE + 1024
    this.descriptors = this.#place(MAX_TREES * DESCRIPTOR_SIZE, DESCRIPTOR_SIZE)
    this.trees = Array.from({ length: MAX_TREES }, (_, index) => this.#plant(index))
  }

  /** Writes the lists of ports. */
  load(ports: Uint32Array): void {
    this.u32.set(ports, this.lists >>> 2)
  }

  /** The next scan of each tree begins at port 0. */
  rewind(): void {
    for (const tree of this.trees) this.u32[(tree.descriptor >>> 2) + 9] = 0
  }

  /** A tree's part of the output: room for one port more than k. */
  outOf(index: number, k: number): Uint32Array {
    const at = (this.out >>> 2) + index * (k + 1)
    return this.u32.subarray(at, at + k + 1)
  }

  #plant(index: number): Tree {
    const { levels, bits, channels } = this
    const layout = sharedInfo(bits)
    const info = levels === 2 ? this.#take(PAGE_SIZE) : 0
    const upcall = levels === 2 ? info + index * VCPU_INFO_SIZE : this.#place(VCPU_INFO_SIZE, VCPU_INFO_SIZE)
    const leaf = (offset: number) => (levels === 2 ? [info + offset] : this.#pages(fullTreePages(bits, levels)))
    const tree: Tree = {
      descriptor: this.descriptors + index * DESCRIPTOR_SIZE,
      upcall,
      level1: upcall + layout.sel,
      level2: levels === 4 ? this.#place(PACKED, 64) : 0,
      last: levels === 2 ? [] : this.#selector(levelBytes(bits, levels, levels - 1, channels)),
      pending: leaf(layout.pending),
      mask: leaf(layout.mask),
    }
    const table = (pages: readonly number[]) => {
      const at = this.#place(4 * pages.length, 64)
      this.u32.set(pages, at >>> 2)
      return at
    }
    const bitmap = (pages: readonly number[]) => (levels === 2 ? pages[0]! : table(pages))
    const last = levels === 2 ? 0 : table(tree.last)
    // upcall, level1, level2, level3, last, pending, mask, no filter, channels, next
    const fields = [upcall, tree.level1, tree.level2, 0, last, bitmap(tree.pending), bitmap(tree.mask), 0, channels, 0]
    this.u32.set(fields, tree.descriptor >>> 2)
    return tree
  }

  /** A selector level: packed if it is small, else in frames of its own. */
  #selector(bytes: number): number[] {
    return bytes <= PACKED ? [this.#place(PACKED, 64)] : this.#pages(Math.ceil(bytes / PAGE_SIZE))
  }

  #pages(count: number): number[] {
    return Array.from({ length: count }, () => this.#take(PAGE_SIZE))
  }

  /** Whole frames. */
  #take(bytes: number): number {
    const at = this.#free
    this.#free += bytes
    if (this.#free > this.memory.buffer.byteLength) throw new Error(`bench: no room for ${bytes} bytes in the memory`)
    return at
  }

  /** A small thing, aligned. */
  #place(bytes: number, align: number): number {
    const at = Math.ceil(this.#small / align) * align
    this.#small = at + bytes
    if (this.#small > this.#smallEnd) throw new Error(`bench: no room for ${bytes} bytes among the small things`)
    return at
  }
}

const forests = new Map<string, Forest>()

/** The forest of a depth, width and build; made once, for its pages are many. */
export function forestOf(levels: number, bits: Bits, shared: boolean): Forest {
  const key = `${levels}x${bits} ${shared}`
  let forest = forests.get(key)
  if (!forest) {
    forest = new Forest(levels, bits, shared)
    forests.set(key, forest)
  }
  return forest
}
