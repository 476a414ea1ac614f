/**
 * Real threads: a million sends by two senders into one receiver, with closes, binds, masks, polls and changes of priority
 * beside them. `npm run stress` goes on for as long as one likes; mutants.mjs shows that it can fail.
 */

import { describe, expect, it } from 'vitest'
import { stress } from './stress_run.mjs'

const dist = new URL('../../dist/', import.meta.url)

describe('senders, a receiver and the hypervisor on threads of their own', () => {
  it.each([
    [2, 64],
    [2, 32],
    [3, 64],
    [3, 32],
    ['fifo', 64],
    ['fifo', 32],
  ] as const)(
    'I1, I2, I4, I5, I6: nothing is lost, stray or asleep for ever (levels: %s, %d bits)',
    async (levels, bits) => {
      const { failure, sends, rests } = await stress({ levels, bits, sends: 170_000, dist, seed: Date.now() % 1e6 })
      expect(failure).toBeUndefined()
      expect(sends).toBeGreaterThanOrEqual(170_000)
      expect(rests).toBeGreaterThan(0)
    },
  )
})
