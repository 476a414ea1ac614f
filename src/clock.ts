/** Time is passed in: nothing in the library asks the platform what time it is. */

import { ParameterError } from './check.js'

/** Where a host gets its time from. */
export interface Clock {
  /** System time of the host in ns, monotonic. */
  nowNs(): number
  /** Wallclock in ns since 1970-01-01T00:00Z. */
  wallclockNs(): bigint
}

/** System time as the ABI has it: whole ns. */
export const systemTime = (clock: Clock): bigint => BigInt(Math.floor(clock.nowNs()))

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
    if (typeof ns !== 'number' || !(ns >= 0) || ns === Infinity)
      throw new ParameterError('ManualClock.advance', 'ns', ns, 'a number from 0 up')
    this.#ns += ns
  }
}
