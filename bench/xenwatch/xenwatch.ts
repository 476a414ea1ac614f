/**
 * `npm run bench:xenwatch`: events per second and the 99th percentile of delivery, for every design, from 1 to 10,000
 * domains, with none and with one more domain stalled. Samples with and without the stall take turns, so that what the
 * machine does meanwhile touches both. A figure is the better quartile of its samples; a ratio is the median of the ratios
 * of two samples that followed one another, which varies less than the figures do.
 */

import { CheckError } from '../../src/cli/errors.js'
import { count, duration } from '../../src/cli/format.js'
import { whole, wholes } from '../../src/cli/options.js'
import { lowerQuartile, type Summary, summarize, upperQuartile } from '../../src/cli/statistics.js'
import { DESIGNS, type Design } from '../../src/dom0/xenbus/index.js'
import { BENCH, type BenchTable, benchCommand } from '../options.js'
import { Load, type Sample } from './load.js'

const ABOUT = `Events per second and the 99th percentile of their delivery, for every design: of N domains, with none and with one more domain stalled. Aim, for designs with a thread per domain: with the stall at most 1.1 times what it is without.`

const OPTIONS = {
  samples: BENCH.samples(21, 5),
  events: whole('events in a sample', { min: 1, max: 1_000_000, preset: 4000 }),
  domains: wholes('how many domains are measured', { min: 1, max: 20_000, preset: [1, 100, 1000, 10_000] }),
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
  readonly timeRatio: Summary
  readonly p99Ratio: Summary
}

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
      throw new CheckError(`bench:xenwatch: ${design}, ${domains}: ${each.handled} of ${each.written} handled`)
  // A quarter of the samples were better: what else the machine does only makes them worse.
  const rates = [0, 1].map((which) => upperQuartile(pairs.map((pair) => pair[which]!.perSecond)))
  const quiet = pairs.filter((pair) => !pair.some(({ interrupted }) => interrupted))
  // What another process took would stand in a latency. On a machine where every sample is interrupted, all count.
  const timed = quiet.length >= Math.min(3, samples) ? quiet : pairs
  const p99s = [0, 1].map((which) => lowerQuartile(timed.map((pair) => pair[which]!.p99Ns)))
  return {
    design,
    domains,
    perSecond: rates[0]!,
    p99Ns: p99s[0]!,
    stalledPerSecond: rates[1]!,
    stalledP99Ns: p99s[1]!,
    timeRatio: summarize(pairs.map(([calm, upset]) => calm.perSecond / upset.perSecond)),
    p99Ratio: summarize(timed.map(([without, upset]) => upset.p99Ns / without.p99Ns)),
  }
}

/** Does a design with a thread per domain keep the aim? With one thread nothing is delivered: there is none. */
function keeps({ stalledPerSecond, timeRatio, p99Ratio }: Row): boolean | undefined {
  return stalledPerSecond ? timeRatio.median <= AIM && p99Ratio.median <= AIM : undefined
}

const COLUMNS = [
  'domains',
  { head: 'design', left: true, key: true },
  'events/s',
  'p99',
  'events/s, one stalled',
  'p99, one stalled',
  'time ratio',
  'p99 ratio',
  `aim ${AIM}`,
]

function asTable(rows: readonly Row[]): BenchTable {
  const ratio = ({ median }: Summary) => (Number.isFinite(median) && median > 0 ? median.toFixed(2) : undefined)
  const cells = rows.map((row) => {
    const kept = keeps(row)
    return [
      count(row.domains),
      row.design,
      count(row.perSecond),
      duration(row.p99Ns),
      row.stalledPerSecond ? count(row.stalledPerSecond) : 'none',
      row.stalledPerSecond ? duration(row.stalledP99Ns) : undefined,
      ratio(row.timeRatio),
      ratio(row.p99Ratio),
      kept === undefined ? undefined : kept ? 'met' : 'missed',
    ]
  })
  return { title: 'Delivery of watch events', columns: COLUMNS, rows: cells }
}

await benchCommand('bench:xenwatch', ABOUT, OPTIONS, ({ values, screen }) => {
  const samples = values.samples ?? (values.quick ? 5 : 21)
  const sizes = values.quick ? values.domains.filter((n) => n <= 100) : values.domains
  const runs = sizes.flatMap((domains) => DESIGNS.map((design) => ({ domains, design })))
  const rows = runs.map(({ domains, design }, i) => {
    screen.steps(`${design}, ${count(domains)} domains: run`, i, runs.length)
    return measure(design, domains, samples, values.events)
  })
  const aimed = rows.map(keeps).filter((kept) => kept !== undefined)
  const met = aimed.filter(Boolean).length
  return {
    about: [`the better quartile of ${samples} samples of ${values.events} events; ratios: medians of pairs`],
    tables: [asTable(rows)],
    notes: [`both ratios at most ${AIM} in ${met} of ${aimed.length} rows with a thread per domain`],
    result: { samples, events: values.events, aim: AIM, rows },
  }
})
