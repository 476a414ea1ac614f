/**
 * Our daemon against Xen's own: the same requests to both, over sockets and over the rings of guests, with deaths, stalled
 * guests, small quotas and a clock of the driver's; equal replies and equal events, in equal order for each client.
 *
 *     EVTCHN_RUNS=1000000 EVTCHN_SEED=7 npx vitest run test/xenstore/oracle.test.ts -t life
 *
 * Each mode begins with the seed (default 1) and goes from seed to seed until so many requests were compared (default
 * 2,000). The last seed and the counts are printed. What is never sent stands in docs/known-differences.md.
 */
import { describe, expect, it } from 'vitest'
import { runsOr, seedOr } from '../settings.js'
import { cDaemon, required, title } from './real.js'
import { MODES, type Mode } from './rig/modes.js'
import { search } from './rig/search.js'

const requests = runsOr(2000)
const firstSeed = seedOr(1)

function compare(modes: Readonly<Record<string, Mode>>): void {
  for (const [name, mode] of Object.entries(modes))
    it.skipIf(!cDaemon && !required)(
      `XS-cli-13: ${name}`,
      async () => {
        const result = await search(mode, { firstSeed, requests, shrinkSeconds: 10, most: 3 })
        const { sequences, events, lastSeed, differences } = result
        console.log(
          `${name}: seeds ${firstSeed} to ${lastSeed}, ${sequences} sequences, ${result.requests} requests, ${events} events, ${differences.length} kinds of difference`,
        )
        expect(differences.join('\n\n')).toBe('')
      },
      60_000 + requests * 200,
    )
}

describe(title('XS-cli-13: like the C daemon', cDaemon, 'no C daemon, or no shim for it'), () => compare(MODES))
