/**
 * A million random hypercalls by hostile guests, and nobody else notices (test/hostile/soak.ts). Longer, or otherwise:
 * EVTCHN_RUNS=10000000 EVTCHN_SEED=7 npx vitest run test/hostile.test.ts
 */

import { describe, expect, it } from 'vitest'
import { Soak } from './hostile/soak.js'
import { runsOr, seedOr } from './settings.js'

const CALLS = runsOr(1_000_000)
const SEED = seedOr(1)
/** The longer command takes as long as it takes. */
const TIMEOUT_MS = 24 * 3600 * 1000

/** Operations of which some must have succeeded, or the soak would not have gone anywhere. */
const DONE = [
  'alloc_unbound',
  'bind_interdomain',
  'bind_ipi',
  'bind_pirq',
  'bind_vcpu',
  'bind_virq',
  'close',
  'expand_array',
  'init_control',
  'query_nlevel',
  'register_nlevel',
  'reset',
  'send',
  'set_priority',
  'set_nlevel_selectors',
  'status',
  'unmask',
]

describe('hostile guests', () => {
  const each = Math.ceil(CALLS / 2)
  it.each([false, true])(
    `NL-bad-1, NL-frame-1, EC-op-2: ${each} calls, seed ${SEED}, disturb nobody (shared memory: %s)`,
    (shared) => {
      const report = new Soak(SEED + (shared ? 1 : 0), shared).run(each)
      expect(report.calls).toBeGreaterThanOrEqual(each)
      expect(report.events).toBeGreaterThan(each / 32)
      if (each < 100_000) return
      expect(DONE.filter((name) => !report.answers[name]?.ok)).toEqual([])
      expect(report.registrations).toBeGreaterThan(each / 10_000)
    },
    TIMEOUT_MS,
  )
})
