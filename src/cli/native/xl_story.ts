/** `evtchn xl-story`: the mail's story told by Xen's own tools, under each design of dom0's kernel. */

import { DESIGNS, type Design } from '../../dom0/index.js'
import { findProgram, XEN_TOOLS_HINT } from '../../node/hostd/index.js'
import { command, type Report } from '../command.js'
import { CheckError } from '../errors.js'
import { COMMON, choice } from '../options.js'
import type { Screen } from '../screen.js'
import { type Story, tell } from './story.js'

const ABOUT = `The stall that was reported to xen-devel in April 2018, with the real xl: it builds two guests, a packet of the first is never given back, and xl destroys that guest, creates another and destroys the second. With one xenwatch thread libxl prints the lines of the report; a minute a design at most, for its time-outs are real.
dom0's kernel is the library's; xl and libxl are Debian's. ${XEN_TOOLS_HINT}`

/** Rows of the comparison: each command, and how it went under each design. */
function compare(screen: Screen, stories: readonly Story[]): void {
  const [first] = stories
  const commands = (story: Story) => [...story.before, ...story.during, ...story.after]
  const rows = commands(first!).map(({ line }, i) => [
    line,
    ...stories.map((story) => {
      const { code, seconds } = commands(story)[i]!
      return `${code ? `exit ${code}` : 'done'}, ${seconds.toFixed(2)} s`
    }),
  ])
  const hung = ['hangs', ...stories.map((story) => story.hung.map(({ name }) => name).join(', ') || 'nothing')]
  screen.heading('Side by side: the packet is held from the first destroy on, and given back before "four"')
  screen.table(['command', ...stories.map(({ design }) => design)], [...rows, hung])
}

/** What contradicts the story: the designs exist so that other domains do not suffer. */
function problems(story: Story): string[] {
  const { design, before, during, after, hung } = story
  const failed = (told: Story['before']) =>
    told.filter(({ code }) => code).map(({ line }) => `${design}: ${line} failed`)
  const others = during.slice(1)
  const suffering = others.some(({ code }) => code)
  return [
    ...failed([...before, ...after]),
    ...(hung.length ? [] : [`${design}: no thread hangs`]),
    ...(design === 'single' && !suffering ? ['single: nobody suffered from the stall'] : []),
    ...(design === 'single' ? [] : failed(others)),
  ]
}

/** The subcommand. */
export const xlStory = command({
  name: 'xl-story',
  summary: 'the stalled xenwatch, told by the real xl',
  about: ABOUT,
  traced: false,
  options: {
    design: choice<Design | 'all'>('how watches get to their callbacks', { of: [...DESIGNS, 'all'], preset: 'all' }),
    json: COMMON.json,
  },
  async run({ program, values, screen }): Promise<Report> {
    if (!findProgram('xl')) throw new CheckError(`${program}: xl is not installed. ${XEN_TOOLS_HINT}`)
    const stories: Story[] = []
    for (const design of values.design === 'all' ? DESIGNS : [values.design]) {
      screen.heading(`dom0's kernel: ${design}`)
      try {
        stories.push(await tell(design, (line) => screen.raw(line)))
      } catch (error) {
        throw new CheckError(`${program}: ${(error as Error).message}`)
      }
    }
    if (stories.length > 1) compare(screen, stories)
    return { result: stories, problems: stories.flatMap(problems) }
  },
})
