/** Timers in a binary heap: earliest first, equal ones in the order in which they were set. */

import type { Callouts } from '../../callout.js'

/** What the heap holds. */
interface Entry {
  readonly ns: number
  readonly seq: number
  /** Null once it has fired or was cancelled; such a timer leaves the heap when it comes to its top. */
  fire: (() => void) | undefined
}

/** A timer that was set. */
export class Timer {
  readonly #entry: Entry

  /** @internal */
  constructor(entry: Entry) {
    this.#entry = entry
  }

  /** When it fires, in ns. */
  get ns(): number {
    return this.#entry.ns
  }

  /** It does not fire any more. Harmless for one that has fired. */
  cancel(): void {
    this.#entry.fire = undefined
  }
}

const before = (a: Entry, b: Entry): boolean => a.ns < b.ns || (a.ns === b.ns && a.seq < b.seq)

/** All timers of a scheduler. */
export class Timers {
  readonly #callouts: Callouts
  readonly #heap: Entry[] = []
  #seq = 0

  constructor(callouts: Callouts) {
    this.#callouts = callouts
  }

  /** Calls `fire` at a time. */
  set(ns: number, fire: () => void): Timer {
    const timer: Entry = { ns, seq: ++this.#seq, fire }
    const heap = this.#heap
    let at = heap.length
    heap.push(timer)
    while (at > 0) {
      const up = (at - 1) >> 1
      if (!before(timer, heap[up]!)) break
      heap[at] = heap[up]!
      at = up
    }
    heap[at] = timer
    return new Timer(timer)
  }

  /** Time of the earliest one; undefined if there is none. */
  get nextNs(): number | undefined {
    while (this.#heap.length && !this.#heap[0]!.fire) this.#pop()
    return this.#heap[0]?.ns
  }

  /** Fires all that are due at `now`; how many. */
  run(now: number): number {
    let fired = 0
    for (let next = this.nextNs; next !== undefined && next <= now; next = this.nextNs) {
      const timer = this.#pop()
      const { fire } = timer
      timer.fire = undefined
      this.#callouts.run('a timer', undefined, fire!)
      fired++
    }
    return fired
  }

  #pop(): Entry {
    const heap = this.#heap
    const top = heap[0]!
    const last = heap.pop()!
    if (!heap.length) return top
    let at = 0
    for (;;) {
      let down = 2 * at + 1
      if (down >= heap.length) break
      if (down + 1 < heap.length && before(heap[down + 1]!, heap[down]!)) down++
      if (!before(heap[down]!, last)) break
      heap[at] = heap[down]!
      at = down
    }
    heap[at] = last
    return top
  }
}
