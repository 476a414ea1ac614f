/** Runs a mode from seed to seed until enough requests were compared, and reports each kind of difference once. */

import { describeDifference } from './difference.js'
import { generate } from './generate.js'
import type { Mode } from './modes.js'
import { type Counts, Rig } from './rig.js'
import { shrink } from './shrink.js'

/** How much is run. */
export interface SearchOptions {
  readonly firstSeed: number
  readonly requests: number
  /** Seconds for shrinking one difference. */
  readonly shrinkSeconds: number
  /** Differences after which the search ends. */
  readonly most: number
}

/** What came of it. */
export interface SearchResult extends Counts {
  readonly lastSeed: number
  /** One text for each kind of difference, with the shortest sequence found. */
  readonly differences: readonly string[]
}

export async function search(mode: Mode, options: SearchOptions): Promise<SearchResult> {
  const rig = new Rig(mode.rig)
  const differences = new Map<string, string>()
  let requests = 0
  let events = 0
  let seed = options.firstSeed
  await rig.start()
  try {
    for (; requests < options.requests && differences.size < options.most; seed++) {
      const steps = generate(seed, mode.shape)
      const difference = await rig.run(steps)
      requests += rig.counts.requests
      events += rig.counts.events
      rig.counts.requests = rig.counts.events = 0
      if (!difference || differences.has(difference.kind)) continue
      const { steps: fewest, found } = await shrink(rig, steps, difference.kind, options.shrinkSeconds)
      rig.counts.requests = rig.counts.events = 0
      const again = found ? '' : ', not seen again'
      differences.set(difference.kind, `seed ${seed}${again}: ${describeDifference(found ?? difference, fewest)}`)
    }
  } finally {
    rig.stop()
  }
  return {
    sequences: seed - options.firstSeed,
    requests,
    events,
    lastSeed: seed - 1,
    differences: [...differences.values()],
  }
}
