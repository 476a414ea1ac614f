/** The matrix of `evtchn xenwatch`: for each story a row for who is in D, and one for each thing that was tried. */

import type { ToldStory } from '../../scenarios/story.js'
import type { Screen } from '../screen.js'
import type { Row } from '../table.js'

/** A delay that is not worth a figure. */
const NOTHING_NS = 5e6

/** All stories that were told, one column for each design. */
export function showMatrix(screen: Screen, told: readonly ToldStory[], seed: number): void {
  const designs = [...new Set(told.map(({ design }) => design))]
  const stories = [...new Set(told.map(({ story }) => story))]
  const rows = stories.flatMap((story) => rowsOf(screen, story, told))
  screen.heading(`Who suffers, for how long (seed ${seed})`)
  screen.table(['story', 'what was tried', ...designs], rows)
  screen.line()
  screen.block(['in D: threads that wait for the stall; delays are against the same story without its stall'])
  for (const story of stories) {
    const notes = told.filter((each) => each.story === story && each.stalled.notes.length)
    if (!notes.length) continue
    screen.heading(`What ran where in ${story}`)
    screen.block(notes.flatMap(({ design, stalled }) => stalled.notes.map((note) => `${design}: ${note}`)))
  }
}

function rowsOf(screen: Screen, story: string, told: readonly ToldStory[]): Row[] {
  const runs = told.filter((each) => each.story === story)
  const inD: Row = [story, 'in D', ...runs.map(({ stalled }) => stalled.stalled.join(', '))]
  const tried = runs[0]!.stalled.attempts.map(
    ({ what }, i): Row => [story, what, ...runs.map((run) => fate(screen, run, i))],
  )
  return [inD, ...tried]
}

/** Done or failed, and how much longer it took than without the stall. */
function fate(screen: Screen, { stalled, reference }: ToldStory, index: number): string {
  const now = stalled.attempts[index]!
  const delay = now.ns - reference.attempts[index]!.ns
  const end = now.ok ? screen.paint('good', 'done') : screen.paint('bad', 'FAILED')
  return delay > NOTHING_NS ? `${end}, +${(delay / 1e9).toFixed(2)} s` : end
}
