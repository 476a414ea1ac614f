/** The stories that tell the designs apart: who is stalled, who suffers and who does not, under each design. */

import { describe, expect, it } from 'vitest'
import type { Design } from '../../src/dom0/xenbus/index.js'
import { STORIES } from '../../src/scenarios/stories.js'
import { tellStory } from '../../src/scenarios/story.js'
import { random } from '../random.js'
import { ALL } from './lab.js'

/** Who is in D, and which attempts fail; the others succeed. */
interface Expected {
  readonly inD: string
  readonly fails: readonly string[]
}

const stalledGuest = (...tried: string[]): Record<Design, Expected> => {
  const well = { inD: 'xen-mtwatch-1', fails: [] }
  return { single: { inD: 'xenwatch', fails: tried }, rfc: well, talk: well, 'on-demand': well }
}
const same = (expected: Expected): Record<Design, Expected> => ({
  single: expected,
  rfc: expected,
  talk: expected,
  'on-demand': expected,
})

const CREATE = 'create another'
const HOTPLUG = 'attach a vif to 1'
const EVERYTHING = [HOTPLUG, 'destroy 2', CREATE]
const allFail = { inD: 'xenwatch', fails: EVERYTHING }
const onlyCreation = { inD: 'xenwatch', fails: [CREATE] }
const onlyThree = { inD: 'xen-mtwatch-3', fails: [] }

const EXPECTED: Record<string, Record<Design, Expected>> = {
  netback: stalledGuest(CREATE, 'destroy 2'),
  blkback: stalledGuest(CREATE, 'destroy 2'),
  grant: stalledGuest(CREATE, 'destroy 2'),
  hotplug: stalledGuest('attach a vif to 2', 'attach a vbd to 2', 'detach vif 0 of 2'),
  'default-blocked': { single: allFail, rfc: allFail, talk: allFail, 'on-demand': onlyCreation },
  'slow-probe': { single: allFail, rfc: onlyThree, talk: onlyThree, 'on-demand': onlyCreation },
  'late-event': stalledGuest('destroy 2', CREATE),
  frontend: same({ inD: 'domain 1: xenwatch', fails: [] }),
}

const tell = (name: string, design: Design, seed = 1) =>
  tellStory(STORIES.find((each) => each.name === name)!, design, () => random(seed))

describe.each(STORIES.map(({ name }) => name))('%s', (story) => {
  it.each(ALL)('XW-story-1, XW-story-2: under %s exactly those fail whose events wait, and all heals', (design) => {
    const { stalled, reference } = tell(story, design)
    const { inD, fails } = EXPECTED[story]![design]
    expect(stalled.stalled).toEqual([inD])
    expect(stalled.attempts.filter(({ ok }) => !ok).map(({ what }) => what)).toEqual(fails)
    expect(reference.attempts.filter(({ ok }) => !ok)).toEqual([])
    expect(reference.stalled).toEqual([])
    expect([...stalled.problems, ...reference.problems]).toEqual([])
  })
})

describe('late-event', () => {
  it.each(['rfc', 'talk'] as const)(
    'XW-life-1, XW-thr-3: under %s a thread that is DOWN takes the late event; the default thread takes it when none is left',
    (design) => {
      const { notes } = tell('late-event', design).stalled
      expect(notes).toEqual([
        '/tool/sick/1/first in xen-mtwatch-1',
        '/tool/sick/1/late in xen-mtwatch-1',
        '/tool/sick/1/last in xenwatch',
      ])
    },
  )
})

describe('frontend', () => {
  it.each(ALL)('XW-story-3: under %s detaching costs a time-out, and nobody else anything', (design) => {
    const { stalled, reference } = tell('frontend', design)
    const delays = stalled.attempts.map(({ ns }, i) => Math.round((ns - reference.attempts[i]!.ns) / 1e9))
    expect(delays).toEqual([10, 0, 0])
  })
})
