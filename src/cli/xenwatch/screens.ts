/** What `evtchn xenwatch` prints: one design's run in six parts, and all designs in one table. */

import type { ThreadTrack } from '../../scenarios/recorder.js'
import type { Operation, ScenarioResult } from '../../scenarios/scenario.js'
import { count } from '../format.js'
import type { Screen } from '../screen.js'
import type { Row } from '../table.js'

/** A design's run, beside the same without a stall. */
export interface Compared {
  readonly stalled: ScenarioResult
  readonly reference: ScenarioResult
}

const seconds = (ns: number): string => `${(ns / 1e9).toFixed(2)} s`

// --- one design ------------------------------------------------------------------------------------------------------

/** One design's run. `width`: columns of the timeline, or what there is room for. */
export function showRun(screen: Screen, { stalled, reference }: Compared, width: number | undefined): void {
  const { design, kind, list, releasedNs, queuedAtRelease, handledAtRelease } = stalled
  screen.heading(`1. A stall in ${kind}, xenwatch ${design === 'single' ? 'with one thread' : `as in ${design}`}`)
  screen.block(stalled.injected)
  const { vifStats } = stalled
  if (kind === 'netback' && vifStats)
    screen.block([
      Object.entries(vifStats)
        .map(([name, value]) => `${name} ${value}`)
        .join(', '),
    ])
  screen.heading('2. What was tried, and what the toolstack said')
  showOperations(screen, stalled, reference)
  screen.heading('3. xl list, before the release')
  screen.block(list)
  screen.heading('4. Threads in state D')
  for (const { pid, name, stack } of stalled.stalled) {
    screen.block([`${pid} [${name}]`, ...stack.map((frame) => `  ${frame}`)])
  }
  screen.heading(`5. dom0's threads over ${seconds(stalled.endNs)}`)
  screen.block(timeline(screen, stalled, width ?? timelineWidth(screen)))
  screen.heading('6. The release')
  screen.block([
    `${seconds(releasedNs)}: ${count(queuedAtRelease)} events waited; ${count(handledAtRelease)} ran within a second; nothing was left at the end`,
  ])
}

function showOperations(screen: Screen, stalled: ScenarioResult, reference: ScenarioResult): void {
  for (const { what, domid, fromNs, ns, ok, errors } of inOrder(stalled.operations)) {
    const usual = reference.operations.find((each) => each.what === what && each.domid === domid)?.ns
    const took = ns === null ? 'not before the release' : seconds(ns)
    const compared = usual === undefined || usual === null ? '' : `, ${seconds(usual)} without a stall`
    const end = ok ? screen.paint('good', 'done') : screen.paint('bad', 'FAILED')
    screen.block([`${seconds(fromNs).padStart(8)}  ${what} ${domid}: ${end}, ${took}${compared}`])
    screen.block(errors.map((line) => `          ${line}`))
  }
}

/** A row for each thread that matters: D stalled, o ran, · slept. Below: the operations, and the release. */
function timeline(screen: Screen, result: ScenarioResult, width: number): string[] {
  const { endNs, releasedNs, operations } = result
  const interesting = ({ name, changes }: ThreadTrack) =>
    name === 'xenbus' ||
    name === 'xenwatch' ||
    name.startsWith('xen-mtwatch') ||
    changes.some(({ state }) => state === 'D')
  const long = result.tracks.filter(interesting).filter((track) => lasts(track, endNs))
  const shown = long.slice(0, MAX_ROWS)
  const column = (ns: number) => Math.min(width - 1, Math.floor((ns / endNs) * width))
  const rows = shown.map(
    (track) => `${label(`${track.name} [${track.pid}]`)}${paintLane(screen, lane(track, width, endNs))}`,
  )
  if (long.length > shown.length) rows.push(label(`… ${long.length - shown.length} more`))
  for (const { what, domid, fromNs, ns, ok } of inOrder(operations)) {
    const from = column(fromNs)
    const to = column(ns === null ? releasedNs : fromNs + ns)
    rows.push(
      `${label(`${what} ${domid}`)}${' '.repeat(from)}${'─'.repeat(to - from)}${ok ? '┤' : screen.paint('bad', '✗')}`,
    )
  }
  rows.push(`${label('release')}${' '.repeat(column(releasedNs))}▲`)
  rows.push(`${label('')}D stalled   o ran   · slept`)
  return rows
}

const inOrder = (operations: readonly Operation[]): Operation[] => [...operations].sort((a, b) => a.fromNs - b.fromNs)

const MAX_ROWS = 24
/** Columns of a row's name. */
const LABEL = 24
const label = (text: string): string => text.padEnd(LABEL)
/** Columns of a timeline in a pipe, and the fewest of all. */
const TIMELINE = 64
const LEAST_TIMELINE = 16
/** What a block is indented by, and the end of an operation's line. */
const BESIDE = 3
/** Part of the run that a thread must live for to be shown. */
const MIN_LIFE = 0.01

/** As many columns as the terminal has beside the names. */
const timelineWidth = ({ width }: Screen): number =>
  Number.isFinite(width) ? Math.max(LEAST_TIMELINE, width - LABEL - BESIDE) : TIMELINE

/** The stretches in which a thread was stalled stand out. */
const paintLane = (screen: Screen, text: string): string => text.replace(/D+/g, (run) => screen.paint('bad', run))

/** Threads that only flit by are left out. */
function lasts({ changes }: ThreadTrack, endNs: number): boolean {
  const from = changes[0]!.ns
  const last = changes.at(-1)!
  return (last.state === 'X' ? last.ns : endNs) - from >= endNs * MIN_LIFE
}

function lane({ changes }: ThreadTrack, width: number, endNs: number): string {
  const cells: string[] = Array(width).fill(' ')
  const column = (ns: number) => Math.min(width - 1, Math.floor((ns / endNs) * width))
  changes.forEach(({ ns, state }, i) => {
    const from = column(ns)
    const end = changes[i + 1]?.ns ?? endNs
    const until = column(end)
    if (state === 'X') return
    // A reply of the store takes no simulated time: such a wait is part of running.
    const mark = state === 'S' ? '·' : state === 'D' && end > ns ? 'D' : 'o'
    for (let at = from; at <= until; at++) if (RANK.indexOf(mark) > RANK.indexOf(cells[at]!)) cells[at] = mark
  })
  return cells.join('')
}

/** What a column shows if several things happened in it. */
const RANK = [' ', '·', 'o', 'D']

// --- all designs -----------------------------------------------------------------------------------------------------

/** All designs in one table: what each operation suffered. */
export function showSummary(screen: Screen, all: readonly Compared[]): void {
  const header = [
    'design',
    'in D',
    'create another',
    'destroy 2',
    'close a vif',
    'handled',
    'moved',
    'dropped',
    'purged',
    'left waiting',
    'threads made',
  ]
  const rows = all.map((compared): Row => {
    const { design, stalled, events, queuedAtRelease, threadsMade, domains } = compared.stalled
    return [
      design,
      stalled.map(({ name }) => name).join(' '),
      fate(screen, compared, 'xl create', domains + 1),
      fate(screen, compared, 'xl destroy', 2),
      fate(screen, compared, 'rmmod netfront', domains),
      count(events.handled),
      count(events.moved),
      count(events.dropped),
      count(events.purged),
      count(queuedAtRelease),
      count(threadsMade),
    ]
  })
  screen.table(header, rows)
  screen.line()
  screen.block(LEGEND)
}

const LEGEND = [
  'create, destroy, close: delays against the same run without a stall; – not tried with so few domains',
  'handled, moved to a domain, dropped on arrival, purged: events from "xl destroy 1" to the release; left waiting: then',
]

/** Done or failed, and how much longer it took than without a stall. */
function fate(screen: Screen, { stalled, reference }: Compared, what: string, domid: number): string {
  const find = ({ operations }: ScenarioResult) => operations.find((each) => each.what === what && each.domid === domid)
  const now = find(stalled)
  if (!now) return '–'
  const usual = find(reference)?.ns ?? 0
  if (now.ns === null) return 'not until release'
  const delay = seconds(Math.max(0, now.ns - usual))
  return now.ok ? `${screen.paint('good', 'done')}, +${delay}` : `${screen.paint('bad', 'FAILED')}, +${delay}`
}
