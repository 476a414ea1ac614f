/** A few thousand steps of the simulation; `npm run simulate` runs any number. */

import { expect, it } from 'vitest'
import { givenSeed, runsOr } from '../settings.js'
import { minimise, run, stepsOf, tell } from './story.js'

const STEPS = 800
const seeds = givenSeed === undefined ? Array.from({ length: runsOr(4) }, (_, i) => 1 + i) : [givenSeed]

it.each(seeds)(
  'EC-inter-8, NL-mig-5, NL-mig-6, XW-thr-1, XW-life-2: seed %i: no event is lost, nothing is left',
  (seed) => {
    const steps = stepsOf(seed, STEPS)
    const failure = run(seed, steps)
    expect(failure && `seed ${seed} ${tell(steps, failure).join('\n')}`).toBeUndefined()
  },
)

it('tells of a story that breaks, and shortens it', () => {
  const steps = [...stepsOf(1, 40), { kind: 'of this name', numbers: [0, 0, 0, 0] as const }, ...stepsOf(2, 5)]
  const failure = run(1, steps)!
  expect(tell(steps, failure, 2)).toEqual([
    'broke at step 41 of 46: there is no step of this name',
    '  …',
    expect.stringMatching(/^ {2}40\. [a-zA-Z]+( \d+){4}$/),
    '  41. of this name 0 0 0 0',
  ])
  expect(minimise(1, steps, failure).steps).toEqual([steps[40]])
})
