/**
 * `evtchn xenwatch`: the stall that used to need a reboot, in seconds. Creates guests, stalls one, tries to create and
 * destroy others, releases, and shows who suffered; under one design, or under all of them side by side.
 */

import { STALL_KINDS, type StallKind } from '../../dom0/index.js'
import { DESIGNS } from '../../dom0/xenbus/index.js'
import { Scenario } from '../../scenarios/scenario.js'
import { STORIES } from '../../scenarios/stories.js'
import { type ToldStory, tellStory } from '../../scenarios/story.js'
import { command } from '../command.js'
import { count } from '../format.js'
import { COMMON, choice, choiceOrModule, whole } from '../options.js'
import { seeded } from '../random.js'
import { showMatrix } from './matrix.js'
import { loadDesign } from './own_design.js'
import { type Compared, showRun, showSummary } from './screens.js'

const ABOUT = `Runs a host in simulated time: dom0 with its store, kernel threads, backends and toolstack, and guests with one disk and one interface each. Domain 1 is stalled and destroyed; another domain is created, domain 2 destroyed, and the last guest closes its interface (with three guests or more). Then the stall is released. The same is run without the stall for comparison. With --domains 1 the created domain is number 2, as in the report of April 2018. With one of the further scenarios, or with all of them, it prints a matrix: what was tried during each stall, under each design.

designs:
  single     one thread for all watches, as in Linux
  rfc        a thread per domain, made and ended by a node that the toolstack writes (April 2018)
  talk       a thread per domain, by @introduceDomain, @releaseDomain and a listing (June 2018)
  on-demand  a thread per domain that has a backend device (July 2018)
  FILE.mjs   a design of your own: the default export makes a Delivery of evtchn/dom0, or is the class of one

scenarios:
${STORIES.map(({ name, about }) => `  ${name.padEnd(16)} ${about}`).join('\n')}
  ${'all'.padEnd(16)} all of these, in one matrix`

/** Stories without a screen of their own. */
const FURTHER = STORIES.map(({ name }) => name).filter((name) => !STALL_KINDS.some((kind) => kind === name))
const isStall = (scenario: string): scenario is StallKind => STALL_KINDS.some((kind) => kind === scenario)

/** The subcommand. */
export const xenwatch = command({
  name: 'xenwatch',
  summary: 'a stalled xenwatch thread, and what other designs do about it',
  about: ABOUT,
  options: {
    design: choiceOrModule('how watches get to their callbacks, one of the designs above', {
      of: [...DESIGNS, 'all'],
      preset: 'single',
      value: 'NAME',
    }),
    scenario: choice<string>('what is stalled, one of the scenarios above', {
      of: [...STALL_KINDS, ...FURTHER, 'all'],
      preset: 'netback',
      value: 'NAME',
    }),
    domains: whole('guests before the stall; the matrix has 2', { min: 1, max: 200, preset: 3 }),
    seed: COMMON.seed('for the order in which threads run'),
    width: whole('columns of the timeline', { min: 16, max: 200, shown: 'what the terminal has' }),
    json: COMMON.json,
  },
  async run({ program, values, screen }) {
    const { design, scenario: kind, domains, seed, width } = values
    const designs = design === 'all' ? DESIGNS : [await loadDesign(program, design)]
    const label = (each: (typeof designs)[number]) => (typeof each === 'string' ? each : design)
    if (!isStall(kind)) {
      const stories = STORIES.filter(({ name }) => kind === 'all' || name === kind)
      const told = stories.flatMap((story, row) =>
        designs.map((each, i) => {
          const all = stories.length * designs.length
          screen.steps('stories told', row * designs.length + i, all, `${story.name}, ${label(each)}`)
          return tellStory(story, each, () => seeded(seed))
        }),
      )
      showMatrix(screen, told, seed)
      return { result: told, problems: told.flatMap(inconsistencies) }
    }
    const all = designs.map((each, i): Compared => {
      screen.steps('designs done', i, designs.length, `${label(each)}, ${domains} domains`)
      const run = (stall: boolean) => new Scenario({ design: each, kind, domains, random: seeded(seed), stall }).run()
      const compared = { stalled: run(true), reference: run(false) }
      if (designs.length === 1) showRun(screen, compared, width)
      return compared
    })
    screen.heading(`Who suffered from the stall in ${kind} of domain 1, of ${count(domains)} (seed ${seed})`)
    showSummary(screen, all)
    return { result: all.map(asJson), problems: all.flatMap(problemsOf) }
  },
})

/** What is inconsistent in a design's run. */
function problemsOf({ stalled, reference }: Compared): string[] {
  const problems = [...stalled.leftovers, ...stalled.reports, ...reference.leftovers, ...reference.reports]
  if (!stalled.injected.length || !stalled.stalled.length) problems.push('nothing was stalled')
  problems.push(...reference.operations.filter(({ ok }) => !ok).map(({ what }) => `${what} failed without a stall`))
  return problems.map((problem) => `${stalled.design}: ${problem}`)
}

/** What is inconsistent in a story under a design. */
function inconsistencies({ story, design, stalled, reference }: ToldStory): string[] {
  const failed = reference.attempts.filter(({ ok }) => !ok).map(({ what }) => `${what} failed without a stall`)
  return [...stalled.problems, ...reference.problems, ...failed].map((text) => `${story}, ${design}: ${text}`)
}

function asJson({ stalled, reference }: Compared): object {
  const { tracks, ...rest } = stalled
  return {
    ...rest,
    threads: tracks.map(({ pid, name, changes }) => ({ pid, name, changes })),
    withoutStall: { operations: reference.operations, events: reference.events },
  }
}
