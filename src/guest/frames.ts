/** The guest's frame allocator: hands out its own RAM by frame number, takes frames back, never moves one. */

import { PAGE_SIZE } from '../abi/index.js'
import type { GuestMemory } from '../machine/memory.js'

/** Frames of a guest that are free for its driver. */
export class FrameAllocator {
  readonly #first: number
  #next: number
  readonly #end: number
  #free: number[] = []

  /** Frames `first` … `end - 1` are free. */
  constructor(first: number, end: number) {
    this.#first = first
    this.#next = first
    this.#end = end
  }

  /** Is the frame one of those that it hands out, taken or not? */
  covers(gfn: number): boolean {
    return gfn >= this.#first && gfn < this.#end
  }

  /** How many frames are left. */
  get available(): number {
    return this.#end - this.#next + this.#free.length
  }

  /** Takes `count` frame numbers, not necessarily neighbours; undefined if there are too few. */
  allocate(count: number): number[] | undefined {
    if (count > this.available) return undefined
    const gfns: number[] = []
    while (gfns.length < count) gfns.push(this.#free.pop() ?? this.#next++)
    return gfns
  }

  /** Takes `count` frames that are neighbours, ascending; undefined if there is no such run. */
  allocateRun(count: number): number[] | undefined {
    const run = (from: number) => Array.from({ length: count }, (_, i) => from + i)
    // Sorted, neighbours stand side by side: one pass finds the lowest run.
    const free = this.#free.sort((a, b) => b - a)
    let length = 0
    for (let at = free.length; at-- > 0; ) {
      length = free[at]! === (free[at + 1] ?? -1) + 1 ? length + 1 : 1
      if (length < count) continue
      const first = free[at]! - count + 1
      free.splice(at, count)
      return run(first)
    }
    if (count > this.#end - this.#next) return undefined
    this.#next += count
    return run(this.#next - count)
  }

  /** Gives frames back. */
  release(gfns: Iterable<number>): void {
    for (const gfn of gfns) this.#free.push(gfn)
  }
}

/** Fills a frame with one byte. */
export function fillFrame(memory: GuestMemory, gfn: number, byte: number): void {
  memory.view().fill(byte, gfn * PAGE_SIZE, (gfn + 1) * PAGE_SIZE)
}

/** Carves small pieces, 8-aligned, out of frames. */
export class Arena {
  readonly #grab: () => number
  #gpa = 0
  #left = 0

  constructor(grab: () => number) {
    this.#grab = grab
  }

  take(bytes: number): number {
    const size = (bytes + 7) & ~7
    if (size > this.#left) {
      this.#gpa = this.#grab() * PAGE_SIZE
      this.#left = PAGE_SIZE
    }
    this.#left -= size
    this.#gpa += size
    return this.#gpa - size
  }
}
