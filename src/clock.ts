/** Time is passed in: nothing in the library asks the platform what time it is. */

/** Where a host gets its time from. */
export interface Clock {
  /** System time of the host in ns, monotonic. */
  nowNs(): number
  /** Wallclock in ns since 1970-01-01T00:00Z. */
  wallclockNs(): bigint
}

/** A clock that stands still until it is told to go on: the default, and what tests use. */
export class ManualClock implements Clock {
  #ns = 0

  nowNs(): number {
    return this.#ns
  }

  wallclockNs(): bigint {
    return BigInt(Math.round(this.#ns))
  }

  /** Moves time forward. */
  advance(ns: number): void {
    if (!(ns >= 0)) throw new RangeError(`ManualClock.advance: ${ns} ns is not forward`)
    this.#ns += ns
  }
}
