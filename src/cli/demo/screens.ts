/** What the demo prints of each act. */

import { errnoName, type ResumeReport } from '../../index.js'
import { abiName } from '../abi.js'
import { costTable } from '../bench.js'
import type { CostRow } from '../cost/measure.js'
import { bytes, count, duration } from '../format.js'
import type { Screen } from '../screen.js'
import type { DumpFacts } from './dumps.js'
import type { Exchange } from './events.js'
import type { Machine, Machines } from './host.js'
import type { Migration } from './migrations.js'

export function showBoot(screen: Screen, title: string, { dom0, guest64, guest32 }: Machines): void {
  screen.heading(`1. ${title}, registered by hypercall`)
  screen.table(
    ['domain', 'word', 'levels', 'channels', 'frames held'],
    [dom0, guest64, guest32].map(({ domain, kernel }: Machine) => [
      `d${domain.domid}`,
      `${domain.bits} bit`,
      String(kernel.levels),
      count(kernel.channels),
      String(domain.memory.heldFrames),
    ]),
  )
}

export function showChannels(screen: Screen, channels: number, more: number, ns: number): void {
  screen.heading('2. Channels')
  screen.block([
    `${count(channels)} interdomain channels d0–d1 bound by ${count(2 * channels)} hypercalls in ${duration(ns)}, ` +
      `${duration(ns / channels)} each with its handlers`,
    `${count(more)} more d0–d2`,
  ])
}

export function showEvents(screen: Screen, big: Exchange, small: Exchange): void {
  screen.heading('3. Events, each delivered to a handler')
  screen.table(
    ['to', 'sends', 'delivered', 'merged', 'drains', 'time per send', 'accounted for'],
    [
      { to: 'd1', ...big },
      { to: 'd2', ...small },
    ].map((row) => [
      row.to,
      count(row.sends),
      count(row.delivered),
      count(row.merged),
      count(row.drains),
      duration(row.ns / row.sends),
      'every port',
    ]),
  )
}

export function showCost(screen: Screen, cost: readonly CostRow[]): void {
  screen.heading('4. What a level costs in the core: ns per event, 64-bit, one thread, beside a flat scan')
  const { columns, rows } = costTable(cost)
  screen.table(columns, rows)
}

export function showDumps(screen: Screen, channels: number, dumps: readonly DumpFacts[]): void {
  screen.heading(`5. A dump of ${count(channels)} channels, while a timer softirq every 200 µs sends, binds and closes`)
  screen.table(
    ['slots per hold', 'lines', 'holds', 'longest hold', 'softirqs', 'longest delay', 'sends meanwhile'],
    dumps.map((facts) => [
      facts.slotsPerHold > 1e6 ? 'all (as Xen)' : String(facts.slotsPerHold),
      count(facts.lines),
      count(facts.holds),
      duration(facts.longestHoldNs),
      count(facts.softirqs),
      duration(facts.longestDelayNs),
      count(facts.sends),
    ]),
  )
}

export function showMigrations(screen: Screen, ram: number, migrations: readonly Migration[]): void {
  screen.heading('6. Migration: the guest registers and binds again')
  screen.block([
    `state: ${bytes(migrations[0]!.bytes)} of JSON for ${bytes(ram)} of RAM`,
    ...migrations.flatMap(describe),
  ])
}

function describe({ host, report, ns }: Migration): string[] {
  const tried = report.attempts.map(({ levels, answer }) => `${abiName(levels)}: ${answer}`).join('; ')
  const lines = [
    `${host}: ${tried}`,
    `  ${count(report.rebound.length)} channels re-bound, ${count(report.lost.length)} no longer fit, in ${duration(ns)}`,
  ]
  const first = report.lost[0]
  const last = report.lost.at(-1)
  if (first && last)
    lines.push(
      `  lost: ${first.name} (${errnoName(first.errno)}) … ${last.name} (${errnoName(last.errno)}); kept: ${keptNames(report)}`,
    )
  return lines
}

const keptNames = ({ rebound }: ResumeReport): string => `${rebound[0]?.name ?? 'none'} … ${rebound.at(-1)?.name ?? ''}`
