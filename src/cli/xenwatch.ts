/**
 * `evtchn xenwatch`: the stall that used to need a reboot, in seconds. Creates guests, stalls one, tries to create and
 * destroy others, releases, and shows who suffered; under one design, or under all of them side by side.
 */

import { STALL_KINDS, type StallKind } from '../dom0/index.js'
import { DESIGNS, type Design } from '../dom0/xenbus/index.js'
import type { ThreadTrack } from '../scenarios/recorder.js'
import { type Operation, Scenario, type ScenarioResult } from '../scenarios/scenario.js'
import { CheckError, choice, helpText, type OptionSpecs, parse, whole } from './options.js'
import { seeded } from './random.js'
import { count, Screen, table } from './screen.js'

const SPECS: OptionSpecs = {
  design: { type: 'string', value: 'NAME', help: `${DESIGNS.join(', ')} or all`, default: 'single' },
  scenario: {
    type: 'string',
    value: 'NAME',
    help: `what is held: ${STALL_KINDS.join(', ')} (a packet, a request, a page)`,
    default: 'netback',
  },
  domains: { type: 'string', value: 'N', help: 'guests before the stall', default: '3' },
  seed: { type: 'string', value: 'N', help: 'for the order in which threads run', default: '1' },
  width: { type: 'string', value: 'N', help: 'columns of the timeline', default: '64' },
  json: { type: 'boolean', help: 'print the results as JSON instead' },
}
const ABOUT = `Runs a host in simulated time: dom0 with its store, kernel threads, backends and toolstack, and guests with
one disk and one interface each. Domain 1 is stalled and destroyed; another domain is created, domain 2 destroyed, and the
last guest closes its interface (with three guests or more). Then the stall is released. The same is run without the stall
for comparison. With --domains 1 the created domain is number 2, as in the report of April 2018.

designs:
  single     one thread for all watches, as in Linux
  rfc        a thread per domain, made and ended by a node that the toolstack writes (April 2018)
  talk       a thread per domain, by @introduceDomain, @releaseDomain and a listing (June 2018)
  on-demand  a thread per domain that has a backend device (July 2018)`

const COMMAND = 'xenwatch'

/** A design's run, beside the same without a stall. */
interface Compared {
  stalled: ScenarioResult
  reference: ScenarioResult
}

const seconds = (ns: number): string => `${(ns / 1e9).toFixed(2)} s`

/** The subcommand. */
export const xenwatch = {
  summary: 'a stalled xenwatch thread, and what the multithreaded designs do about it',
  run(argv: string[]): number {
    const values = parse(COMMAND, SPECS, argv)
    if (values.help) {
      process.stdout.write(helpText(COMMAND, ABOUT, SPECS))
      return 0
    }
    const design = choice<Design | 'all'>(COMMAND, values, 'design', [...DESIGNS, 'all'])
    const kind = choice<StallKind>(COMMAND, values, 'scenario', STALL_KINDS)
    const domains = whole(COMMAND, values, 'domains', 1, 200)
    const seed = whole(COMMAND, values, 'seed', 0, 2 ** 32 - 1)
    const width = whole(COMMAND, values, 'width', 16, 200)
    const screen = new Screen(values.json === true)
    const designs = design === 'all' ? DESIGNS : [design]
    const all = designs.map((each) => {
      screen.progress(`${each}: ${domains} domains`)
      const run = (stall: boolean) => new Scenario({ design: each, kind, domains, random: seeded(seed), stall }).run()
      const compared = { stalled: run(true), reference: run(false) }
      if (designs.length === 1) show(screen, compared, width)
      return compared
    })
    screen.heading(`Who suffered from the stall in ${kind} of domain 1, of ${count(domains)} (seed ${seed})`)
    screen.block(summary(all))
    if (values.json) process.stdout.write(`${JSON.stringify(all.map(asJson), null, 2)}\n`)
    screen.done()
    for (const { stalled, reference } of all) checkRun(stalled, reference)
    return 0
  },
}

/** What does not add up: exit code 1. */
function checkRun(stalled: ScenarioResult, reference: ScenarioResult): void {
  const problems = [...stalled.leftovers, ...stalled.reports, ...reference.leftovers, ...reference.reports]
  if (!stalled.injected.length || !stalled.stalled.length) problems.push('nothing was stalled')
  problems.push(...reference.operations.filter(({ ok }) => !ok).map(({ what }) => `${what} failed without a stall`))
  if (problems.length)
    throw new CheckError(`evtchn xenwatch: this does not add up (${stalled.design}): ${problems.join('; ')}`)
}

// --- one design ------------------------------------------------------------------------------------------------------

function show(screen: Screen, { stalled, reference }: Compared, width: number): void {
  const { design, kind, operations, list, releasedNs, queuedAtRelease, handledAtRelease } = stalled
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
  for (const operation of inOrder(operations)) {
    const { what, domid, fromNs, ns, ok, errors } = operation
    const usual = reference.operations.find((each) => each.what === what && each.domid === domid)?.ns
    const took = ns === null ? 'not before the release' : seconds(ns)
    const compared = usual === undefined || usual === null ? '' : `, ${seconds(usual)} without a stall`
    screen.block([`${seconds(fromNs).padStart(8)}  ${what} ${domid}: ${ok ? 'done' : 'FAILED'}, ${took}${compared}`])
    screen.block(errors.map((line) => `          ${line}`))
  }
  screen.heading('3. xl list, before the release')
  screen.block(list)
  screen.heading('4. Threads in state D')
  for (const { pid, name, stack } of stalled.stalled) {
    screen.block([`${pid} [${name}]`, ...stack.map((frame) => `  ${frame}`)])
  }
  screen.heading(`5. dom0's threads over ${seconds(stalled.endNs)}`)
  screen.block(timeline(stalled, width))
  screen.heading('6. The release')
  screen.block([
    `${seconds(releasedNs)}: ${count(queuedAtRelease)} events waited; ${count(handledAtRelease)} ran within a second; nothing was left at the end`,
  ])
}

/** A row for each thread that matters: D stalled, o ran, · slept. Below: the operations, and the release. */
function timeline(result: ScenarioResult, width: number): string[] {
  const { endNs, releasedNs, operations } = result
  const interesting = ({ name, changes }: ThreadTrack) =>
    name === 'xenbus' ||
    name === 'xenwatch' ||
    name.startsWith('xen-mtwatch') ||
    changes.some(({ state }) => state === 'D')
  const long = result.tracks.filter(interesting).filter((track) => lasts(track, endNs))
  const shown = long.slice(0, MAX_ROWS)
  const column = (ns: number) => Math.min(width - 1, Math.floor((ns / endNs) * width))
  const rows = shown.map((track) => `${label(`${track.name} [${track.pid}]`)}${lane(track, width, endNs)}`)
  if (long.length > shown.length) rows.push(label(`… ${long.length - shown.length} more`))
  for (const { what, domid, fromNs, ns, ok } of inOrder(operations)) {
    const from = column(fromNs)
    const to = column(ns === null ? releasedNs : fromNs + ns)
    rows.push(`${label(`${what} ${domid}`)}${' '.repeat(from)}${'─'.repeat(to - from)}${ok ? '┤' : '✗'}`)
  }
  rows.push(`${label('release')}${' '.repeat(column(releasedNs))}▲`)
  rows.push(`${label('')}D stalled   o ran   · slept`)
  return rows
}

const inOrder = (operations: readonly Operation[]): Operation[] => [...operations].sort((a, b) => a.fromNs - b.fromNs)

const MAX_ROWS = 24
const label = (text: string): string => text.padEnd(24)
const MIN_LIFE = 0.01

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

function summary(all: readonly Compared[]): string[] {
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
  const rows = all.map((compared) => {
    const { design, stalled, events, queuedAtRelease, threadsMade, domains } = compared.stalled
    return [
      design,
      stalled.map(({ name }) => name).join(' '),
      fate(compared, 'xl create', domains + 1),
      fate(compared, 'xl destroy', 2),
      fate(compared, 'rmmod netfront', domains),
      count(events.handled),
      count(events.moved),
      count(events.dropped),
      count(events.purged),
      count(queuedAtRelease),
      count(threadsMade),
    ]
  })
  return [...table(header, rows), '', ...LEGEND]
}

const LEGEND = [
  'create, destroy, close: delays against the same run without a stall; – not tried with so few domains',
  'handled, moved to a domain, dropped on arrival, purged: events from "xl destroy 1" to the release; left waiting: then',
]

/** Done or failed, and how much longer it took than without a stall. */
function fate({ stalled, reference }: Compared, what: string, domid: number): string {
  const find = ({ operations }: ScenarioResult) => operations.find((each) => each.what === what && each.domid === domid)
  const now = find(stalled)
  if (!now) return '–'
  const usual = find(reference)?.ns ?? 0
  if (now.ns === null) return 'not until release'
  return `${now.ok ? 'done' : 'FAILED'}, +${seconds(Math.max(0, now.ns - usual))}`
}

function asJson({ stalled, reference }: Compared): object {
  const { tracks, ...rest } = stalled
  return {
    ...rest,
    threads: tracks.map(({ pid, name, changes }) => ({ pid, name, changes })),
    withoutStall: { operations: reference.operations, events: reference.events },
  }
}
