/**
 * A ready-made story told under a design, once with its stall and once without, so that each delay has something to be
 * compared with.
 *
 *     guests ─▶ the stall, then attempts ─▶ who is in D? ─▶ release ─▶ all is taken down, and nothing may be left
 */

import { type Plot, type StepRecord, Story } from '../dom0/story/index.js'
import type { Design, DesignMaker } from '../dom0/xenbus/index.js'
import { GUESTS } from './stories.js'

/** One thing that was tried. */
export interface Attempt {
  readonly what: string
  readonly ok: boolean
  readonly ns: number
  readonly errors: readonly string[]
}

/** How a story went under one design. */
export interface StoryResult {
  readonly story: string
  readonly design: string
  readonly attempts: readonly Attempt[]
  /** Threads in D before the release; a guest's has its domain in front. */
  readonly stalled: readonly string[]
  /** Where the story's own paths ran. */
  readonly notes: readonly string[]
  /** What was left at the end, and what the kernel reported; empty if all is well. */
  readonly problems: readonly string[]
}

/** Where the story of late events has its nodes. */
const SUBSCRIBERS = '/tool/sick/1/'

const asAttempt = ({ what, ok, fromNs, toNs, errors }: StepRecord): Attempt => ({
  what,
  ok: ok === true,
  ns: (toNs ?? fromNs) - fromNs,
  errors,
})

function run(plot: Plot, design: Design | DesignMaker, stalls: boolean, random: (n: number) => number): StoryResult {
  const story = new Story({ design, stalls, random })
  const finish = () => {
    if (!story.runUntil(() => story.idle)) throw new Error(`${plot.name}: ${story.steps.at(-1)?.what} does not end`)
  }
  story.begin(...GUESTS, ...plot.steps)
  finish()
  const { stalled } = story
  story.release()
  story.host.pass(1)
  story.begin(...(plot.after ?? []))
  finish()
  const problems = story.takeDown()
  if (stalls && !stalled.length) problems.push('nothing was stalled')
  return {
    story: plot.name,
    design: story.design,
    attempts: story.steps.filter(({ tried }) => tried).map(asAttempt),
    stalled,
    notes: story.events
      .filter(({ kind, what }) => kind === 'callback begins' && what.startsWith(SUBSCRIBERS))
      .map(({ who, what }) => `${what} in ${who}`),
    problems,
  }
}

/** A story under a design, with its stall and without. */
export interface ToldStory {
  readonly story: string
  readonly design: string
  readonly stalled: StoryResult
  readonly reference: StoryResult
}

/** Tells a story under a design. `random` begins anew for each of the two runs. */
export function tellStory(plot: Plot, design: Design | DesignMaker, random: () => (n: number) => number): ToldStory {
  const stalled = run(plot, design, true, random())
  return { story: plot.name, design: stalled.design, stalled, reference: run(plot, design, false, random()) }
}
