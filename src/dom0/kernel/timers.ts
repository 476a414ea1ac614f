/** Timers in a binary heap: earliest first, equal ones in the order in which they were set. */

/** A timer that was set. */
export interface Timer {
  readonly ns: number
  readonly seq: number
  /** Null once it has fired or was cancelled; such a timer leaves the heap when it comes to its top. */
  fire: (() => void) | null
}

const before = (a: Timer, b: Timer): boolean => a.ns < b.ns || (a.ns === b.ns && a.seq < b.seq)

/** All timers of a scheduler. */
export class Timers {
  readonly #heap: Timer[] = []
  #seq = 0

  /** Calls `fire` at a time. To cancel it, set its `fire` to null. */
  set(ns: number, fire: () => void): Timer {
    const timer: Timer = { ns, seq: ++this.#seq, fire }
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
    return timer
  }

  /** Time of the earliest one; null if there is none. */
  get nextNs(): number | null {
    while (this.#heap.length && !this.#heap[0]!.fire) this.#pop()
    return this.#heap[0]?.ns ?? null
  }

  /** Fires all that are due at `now`; how many. */
  run(now: number): number {
    let fired = 0
    for (let next = this.nextNs; next !== null && next <= now; next = this.nextNs) {
      const timer = this.#pop()
      const { fire } = timer
      timer.fire = null
      fire!()
      fired++
    }
    return fired
  }

  #pop(): Timer {
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
