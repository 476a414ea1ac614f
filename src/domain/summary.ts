/**
 * A bitmap with two summaries, for "the lowest free port" and "the next open port" at a cost of O(depth), 32 ways a
 * level (NL-port-1, NL-dump-4):
 *
 *     any[2]   · one bit per word of any[1]: it is not 0             full[2]  · that word of full[1] is all ones
 *     any[1]   · one bit per word of level 0: it is not 0            full[1]  · that word of level 0 is all ones
 *     level 0  · one bit per port: 1 = not free
 *
 * Level 0 grows with the table, the summaries with it; all of it belongs to the event lock.
 */

const ALL = -1

/** Index of the lowest set bit of a word that is not 0. */
const lowest = (word: number): number => 31 - Math.clz32(word & -word)

/** A growing set of small integers with O(depth) searches for members and for gaps. */
export class Summary {
  /** any[0] and full[0] are the same array: the bits themselves. */
  readonly #any: Int32Array[] = []
  readonly #full: Int32Array[] = []
  #size = 0

  constructor(size = 64) {
    this.grow(size)
  }

  /** Makes room for members below `size`. */
  grow(size: number): void {
    if (size <= this.#size) return
    let words = Math.ceil(size / 32)
    for (let level = 0; ; level++) {
      this.#any[level] = this.#roomier(this.#any, level, words)
      this.#full[level] = level ? this.#roomier(this.#full, level, words) : this.#any[0]!
      if (words === 1) break
      words = Math.ceil(words / 32)
    }
    // Last: where memory is lacking, the set stays as large as it was.
    this.#size = size
  }

  #roomier(levels: Int32Array[], level: number, words: number): Int32Array {
    const old = levels[level]
    if (old && old.length >= words) return old
    const larger = new Int32Array(Math.max(words, old ? old.length * 2 : 1))
    if (old) larger.set(old)
    else if (level) this.#summarise(levels, level, larger)
    return larger
  }

  /** Fills a summary level that did not exist before from the level below. */
  #summarise(levels: Int32Array[], level: number, into: Int32Array): void {
    const wanted = levels === this.#any ? (word: number) => word !== 0 : (word: number) => word === ALL
    levels[level - 1]!.forEach((word, i) => {
      if (wanted(word)) into[i >> 5]! |= 1 << (i & 31)
    })
  }

  has(i: number): boolean {
    return i < this.#size && (this.#any[0]![i >> 5]! & (1 << (i & 31))) !== 0
  }

  add(i: number): void {
    let word = 0
    for (let level = 0, at = i; level < this.#any.length; level++, at >>= 5) {
      const bits = this.#any[level]!
      word = bits[at >> 5]!
      bits[at >> 5] = word | (1 << (at & 31))
      if (word) break
    }
    if (this.#any[0]![i >> 5] !== ALL) return
    for (let level = 1, at = i >> 5; level < this.#full.length; level++, at >>= 5) {
      const bits = this.#full[level]!
      bits[at >> 5]! |= 1 << (at & 31)
      if (bits[at >> 5] !== ALL) return
    }
  }

  delete(i: number): void {
    const wasFull = this.#any[0]![i >> 5] === ALL
    for (let level = 0, at = i; level < this.#any.length; level++, at >>= 5) {
      const bits = this.#any[level]!
      bits[at >> 5]! &= ~(1 << (at & 31))
      if (bits[at >> 5]) break
    }
    if (!wasFull) return
    for (let level = 1, at = i >> 5; level < this.#full.length; level++, at >>= 5) {
      const bits = this.#full[level]!
      const old = bits[at >> 5]!
      bits[at >> 5] = old & ~(1 << (at & 31))
      if (old !== ALL) return
    }
  }

  /** The smallest member >= from, or -1. */
  next(from: number): number {
    return this.#seek(from, this.#any, (word) => word)
  }

  /** The smallest number >= from that is not a member; the size if all are. */
  gap(from: number): number {
    const found = this.#seek(from, this.#full, (word) => ~word)
    return found < 0 || found > this.#size ? this.#size : found
  }

  /** Climbs until a level shows something at or after `from`, then goes down to its lowest bit. */
  #seek(from: number, levels: Int32Array[], pick: (word: number) => number): number {
    let at = from
    for (let level = 0; level < levels.length; level++) {
      const bits = levels[level]!
      if (at >> 5 >= bits.length) return -1
      const word = pick(bits[at >> 5]!) & (ALL << (at & 31))
      if (word) {
        at = (at & ~31) | lowest(word)
        for (let down = level - 1; down >= 0; down--) {
          const below = levels[down]!
          if (at >= below.length) return -1
          at = (at << 5) | lowest(pick(below[at]!))
        }
        return at
      }
      at = (at >> 5) + 1
    }
    return -1
  }
}
