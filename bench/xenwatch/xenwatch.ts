/**
 * `npm run bench:xenwatch`: events per second and the 99th percentile of delivery, for every design, from 1 to 10,000
 * domains, with none and with one more domain stalled. Samples with and without the stall take turns, so that what the
 * machine does meanwhile touches both. A figure is the better quartile of its samples; a ratio is the median of the ratios
 * of two samples that followed one another, which varies less than the figures do.
 */

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { count, duration } from '../../src/cli/format.js'
import { table } from '../../src/cli/table.js'
import { DESIGNS, type Design } from '../../src/dom0/xenbus/index.js'
import { type BenchOption, type BenchValues, benchCommand } from '../options.js'
import { Load, type Sample } from './load.js'

const ABOUT = `Events per second and the 99th percentile of their delivery, for every design: of N domains, with none and with one more
domain stalled. Aim, for designs with a thread per domain: with the stall at most 1.1 times what it is without.`

const OPTIONS: Readonly<Record<string, BenchOption>> = {
  samples: { short: 's', value: 'N', default: '21', help: 'samples of each, with and without the stall' },
  events: { short: 'e', value: 'N', default: '4000', help: 'events in a sample' },
  domains: { short: 'd', value: 'N,N,…', default: '1,100,1000,10000', help: 'how many domains are measured' },
  json: { short: 'j', help: 'print JSON instead of a table' },
  output: { short: 'o', value: 'FILE', help: 'write the JSON to a file as well' },
}

/** What a ratio may be at most. */
const AIM = 1.1

/** One line of the result. */
interface Row {
  readonly design: Design
  readonly domains: number
  readonly perSecond: number
  readonly p99Ns: number
  readonly stalledPerSecond: number
  readonly stalledP99Ns: number
  /** Time per event with the stall over time per event without; Infinity: nothing was delivered. */
  readonly timeRatio: number
  readonly p99Ratio: number
}

/** A quarter of the samples were better: what else the machine does only makes them worse. */
const quarter = (values: readonly number[], better: 'less' | 'more'): number =>
  [...values].sort((a, b) => (better === 'less' ? a - b : b - a))[values.length >> 2]!

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!

function measure(design: Design, domains: number, samples: number, events: number): Row {
  const without = new Load(design, domains, false)
  const stalled = new Load(design, domains, true)
  const warm = Math.ceil(events / 4)
  without.sample(warm)
  stalled.sample(warm)
  const pairs: [Sample, Sample][] = []
  for (let i = 0; i < samples; i++) {
    // In alternating order, so that neither always goes first.
    if (i % 2) {
      const second = stalled.sample(events)
      pairs.push([without.sample(events), second])
    } else pairs.push([without.sample(events), stalled.sample(events)])
  }
  for (const [each] of pairs)
    if (each.handled !== each.written)
      throw new Error(`${design}, ${domains}: ${each.handled} of ${each.written} handled`)
  const rates = [0, 1].map((which) =>
    quarter(
      pairs.map((pair) => pair[which]!.perSecond),
      'more',
    ),
  )
  const p99s = [0, 1].map((which) =>
    quarter(
      pairs.map((pair) => pair[which]!.p99Ns),
      'less',
    ),
  )
  return {
    design,
    domains,
    perSecond: rates[0]!,
    p99Ns: p99s[0]!,
    stalledPerSecond: rates[1]!,
    stalledP99Ns: p99s[1]!,
    timeRatio: median(pairs.map(([calm, upset]) => calm.perSecond / upset.perSecond)),
    p99Ratio: median(pairs.map(([calm, upset]) => upset.p99Ns / calm.p99Ns)),
  }
}

/** Does a design with a thread per domain keep the aim? With one thread nothing is delivered: there is none. */
function keeps({ stalledPerSecond, timeRatio, p99Ratio }: Row): boolean | null {
  return stalledPerSecond ? timeRatio <= AIM && p99Ratio <= AIM : null
}

async function main(values: BenchValues): Promise<void> {
  const samples = values.number('samples', 1, 1000)
  const events = values.number('events', 1, 1_000_000)
  const sizes = values.numbers('domains', 1, 20_000)
  const output = values.text('output')
  const rows: Row[] = []
  for (const domains of sizes)
    for (const design of DESIGNS) {
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${design}, ${count(domains)} domains`)
      rows.push(measure(design, domains, samples, events))
    }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')

  const about = { cpu: cpus()[0]?.model ?? 'unknown', node: process.version, samples, events, aim: AIM }
  const json = JSON.stringify({ ...about, rows }, null, 2)
  if (output) writeFileSync(output, `${json}\n`)
  if (values.is('json')) process.stdout.write(`${json}\n`)
  else {
    const text = `${about.cpu}, Node ${about.node}; the better quartile of ${samples} samples of ${events} events; ratios: median of pairs`
    process.stdout.write(`${text}\n\n${shown(rows).join('\n')}\n`)
  }
}

function shown(rows: readonly Row[]): string[] {
  const ratio = (value: number) => (Number.isFinite(value) && value > 0 ? value.toFixed(2) : '–')
  const header = [
    'domains',
    'design',
    'events/s',
    'p99',
    'events/s, one stalled',
    'p99, one stalled',
    'time ratio',
    'p99 ratio',
    `aim ${AIM}`,
  ]
  const lines = table(
    header,
    rows.map((row) => {
      const kept = keeps(row)
      return [
        count(row.domains),
        row.design,
        count(row.perSecond),
        duration(row.p99Ns),
        row.stalledPerSecond ? count(row.stalledPerSecond) : 'none',
        row.stalledPerSecond ? duration(row.stalledP99Ns) : '–',
        ratio(row.timeRatio),
        ratio(row.p99Ratio),
        kept === null ? '–' : kept ? 'met' : 'missed',
      ]
    }),
  )
  const aimed = rows.map(keeps).filter((kept) => kept !== null)
  const met = aimed.filter(Boolean).length
  return [...lines, '', `both ratios at most ${AIM} in ${met} of ${aimed.length} rows with a thread per domain`]
}

await benchCommand('bench:xenwatch', ABOUT, OPTIONS, main)
