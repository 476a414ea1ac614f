/** What a run says of tests that were not run. */

import { expect, it } from 'vitest'
import { notRun } from './not_run.js'

it('a reason is told once, with the number of its tests; tests that are skipped for no reason are not told', () => {
  const skipped = [
    ['xenstore-utils (not run: not installed)', 'reads'],
    ['xenstore-utils (not run: not installed)', 'writes'],
    ['in a page: NOT RUN for want of chromium', 'plain'],
    ['something else', 'left out by a filter'],
    ['the daemon (not run: no C daemon)'],
  ]
  expect([...notRun(skipped)]).toEqual([
    ['xenstore-utils (not run: not installed)', 2],
    ['in a page: NOT RUN for want of chromium', 1],
    ['the daemon (not run: no C daemon)', 1],
  ])
})
