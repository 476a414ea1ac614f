/**
 * The host's private memory: records of domains, vCPUs and ports, which no guest can reach, and an allocator for them.
 *
 * A block is a power of two of bytes, at least a line, and aligned to a line. Freed blocks wait in a list per size and are
 * zeroed when they are taken again: a record that is reused says nothing of the one before it. Blocks are never split or
 * joined, so what a size once took stays with that size.
 *
 * Growing replaces the views, so nobody keeps one: `memory.words[at >> 2]`, each time.
 */

import { hasSharedMemory, isShared, type WasmMemory } from './core.js'

const PAGE = 65536
const LINE_SHIFT = 6

/** Words and blocks of private state. */
export class PrivateMemory {
  /** The wasm memory that the host core runs over; none where only TypeScript looks. */
  readonly memory: WasmMemory | undefined
  /** All of it. */
  words: Int32Array
  /** Freed blocks by log2 of their size. */
  readonly #free: number[][] = []
  #top: number

  private constructor(memory: WasmMemory | undefined, words: Int32Array, heap: number) {
    this.memory = memory
    this.words = words
    this.#top = heap
  }

  /** A wasm memory whose blocks begin at `heap`. It grows as it must, up to 4 GiB. */
  static create(heap: number, shared: boolean): PrivateMemory {
    const initial = Math.ceil(heap / PAGE)
    const memory = new WebAssembly.Memory({ initial, maximum: 65536, shared: shared && hasSharedMemory() })
    return new PrivateMemory(memory, new Int32Array(memory.buffer), heap)
  }

  /** Ordinary words that do not grow: for a record whose domain is gone, and for tests of single parts. */
  static plain(words: Int32Array, heap = words.length * 4): PrivateMemory {
    return new PrivateMemory(undefined, words, heap)
  }

  get shared(): boolean {
    return this.memory !== undefined && isShared(this.memory)
  }

  /** Bytes that were ever taken for blocks. */
  get used(): number {
    return this.#top
  }

  /** A zeroed block of at least `bytes`. @throws RangeError if the engine has no memory for it. */
  take(bytes: number): number {
    const shift = sizeShift(bytes)
    const size = 1 << shift
    const freed = this.#free[shift]?.pop()
    if (freed !== undefined) {
      this.words.fill(0, freed >>> 2, (freed + size) >>> 2)
      return freed
    }
    const at = this.#top
    if (at + size > this.words.byteLength) this.#grow(at + size)
    this.#top = at + size
    return at
  }

  /** Gives a block back; `bytes` as it was taken. 0 is no block. */
  give(at: number, bytes: number): void {
    if (!at) return
    const shift = sizeShift(bytes)
    this.#free[shift] ??= []
    this.#free[shift].push(at >>> 0)
  }

  /** Makes room up to `end`: by a quarter at least, so that growing costs little a block. */
  #grow(end: number): void {
    if (!this.memory) throw new RangeError('the private memory is full')
    const have = this.words.byteLength / PAGE
    const need = Math.ceil(end / PAGE)
    try {
      this.memory.grow(Math.min(Math.max(need, have + (have >> 2)), 65536) - have)
    } catch {
      this.memory.grow(need - have)
    }
    this.words = new Int32Array(this.memory.buffer)
  }
}

/** log2 of the block that holds `bytes`. */
const sizeShift = (bytes: number): number => Math.max(LINE_SHIFT, 32 - Math.clz32(bytes - 1))
