/** Time is passed in: nothing in the library asks the platform what time it is. */

import type { Callouts } from './callout.js'
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

/** Returns a time that a clock told. @throws ParameterError unless it is a number or a bigint from 0 up */
function checkTime(what: string, given: unknown): number | bigint {
  if ((typeof given === 'bigint' && given >= 0n) || (typeof given === 'number' && given >= 0 && given < Infinity))
    return given
  throw new ParameterError('clock', what, given, 'a number or a bigint from 0 up')
}

/**
 * A clock of the embedder's, as the library reads it. A number and a bigint are the same time. If the clock throws or tells
 * what is no time, that is reported, and the last time that it told stands.
 */
export class CheckedClock implements Clock {
  readonly #clock: Clock
  readonly #callouts: Callouts
  #ns = 0
  #wallclockNs = 0n

  constructor(clock: Clock, callouts: Callouts) {
    this.#clock = clock
    this.#callouts = callouts
  }

  nowNs(): number {
    this.#ns = this.#callouts.run('clock.nowNs', this.#ns, () => Number(checkTime('nowNs()', this.#clock.nowNs())))
    return this.#ns
  }

  wallclockNs(): bigint {
    this.#wallclockNs = this.#callouts.run('clock.wallclockNs', this.#wallclockNs, () => {
      const ns = checkTime('wallclockNs()', this.#clock.wallclockNs())
      return typeof ns === 'bigint' ? ns : BigInt(Math.floor(ns))
    })
    return this.#wallclockNs
  }
}

/** A clock that stands still until `advance` moves it: the default, and what tests use. */
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
