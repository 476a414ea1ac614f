/**
 * One first-in, first-out queue for the whole library: threads that are ready, upcalls that are due, packets that wait.
 *
 *     #items   [ taken, taken, first, second, …, last, free, free ]
 *                              └ #head                 └ #tail
 *
 * Adding and taking cost the same however long the queue is, and its memory stays bounded by what waits: a taken slot is
 * cleared at once, and the array is cut as soon as taken slots are the larger part of it. A short queue that has become
 * empty keeps its array: filling it again allocates nothing.
 */

/** Taken slots below this number are not worth a copy. */
const CUT_MIN = 32

/** A queue. */
export class Queue<T> implements Iterable<T> {
  #items: (T | undefined)[] = []
  #head = 0
  #tail = 0

  /** Number of items that wait. */
  get length(): number {
    return this.#tail - this.#head
  }

  /** The longest waiting item, which stays; undefined if there is none. */
  get first(): T | undefined {
    return this.#items[this.#head]
  }

  push(item: T): void {
    this.#items[this.#tail++] = item
  }

  /** Takes the longest waiting item; undefined if there is none. */
  shift(): T | undefined {
    if (this.#head === this.#tail) return undefined
    const item = this.#items[this.#head]
    this.#items[this.#head++] = undefined
    if (this.#head === this.#tail) {
      if (this.#items.length > CUT_MIN) this.#items = []
      this.#head = this.#tail = 0
    } else if (this.#head >= CUT_MIN && this.#head * 2 > this.#tail)
      this.#reset(this.#items.slice(this.#head, this.#tail))
    return item
  }

  /** Takes the item that `index` others wait longer than; the others keep their order. */
  takeAt(index: number): T | undefined {
    if (index < 0 || index >= this.length) return undefined
    const at = this.#head + index
    const item = this.#items[at]
    this.#items.copyWithin(this.#head + 1, this.#head, at)
    this.#items[this.#head] = item
    return this.shift()
  }

  /** Takes the items for which `goes` holds, in their order; the others keep theirs. */
  extract(goes: (item: T, index: number) => boolean): T[] {
    const taken: T[] = []
    const kept: T[] = []
    let index = 0
    for (const item of this) (goes(item, index++) ? taken : kept).push(item)
    if (taken.length) this.#reset(kept)
    return taken
  }

  /** Takes all items, in their order. */
  clear(): T[] {
    const items = [...this]
    this.#reset([])
    return items
  }

  #reset(items: (T | undefined)[]): void {
    this.#items = items
    this.#head = 0
    this.#tail = items.length
  }

  /** The items that wait, longest first. What is added meanwhile is visited too; do not take meanwhile. */
  *[Symbol.iterator](): Generator<T> {
    for (let i = this.#head; i < this.#tail; i++) yield this.#items[i] as T
  }
}
