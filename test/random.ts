/**
 * Random numbers for tests: the same sequence for the same seed, and the seed is printed when the test that draws them
 * fails. `EVTCHN_SEED=n` runs that sequence again.
 */

import { onTestFailed } from 'vitest'
import { seeded } from '../src/cli/random.js'

/** Returns whole numbers from 0 to `n` - 1, for `n` up to 2^32. */
export type Below = (n: number) => number

/** A sequence of random numbers for the test that is running. */
export function random(seed: number): Below {
  onTestFailed(
    () => void process.stderr.write(`random numbers of seed ${seed}: EVTCHN_SEED=${seed} draws them again\n`),
  )
  return seeded(seed)
}
