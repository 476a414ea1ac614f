/**
 * `npm run bench:xenwatch`: events per second and the 99th percentile of delivery, for every design, from 1 to 10,000
 * domains, with none and with one more domain stalled. Samples with and without the stall take turns, so that what the
 * machine does meanwhile touches both, and each figure is the better quartile of its samples.
 *
 * Options: --samples N, --events N, --domains N,N,…, --json, --output FILE.
 */

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { count, duration, table } from '../../src/cli/screen.js'
import { DESIGNS, type Design } from '../../src/xenbus/index.js'
import { Load, type Sample } from './load.js'

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
    timeRatio: rates[0]! / rates[1]!,
    p99Ratio: p99s[1]! / p99s[0]!,
  }
}

const { values } = parseArgs({
  options: {
    samples: { type: 'string', default: '21' },
    events: { type: 'string', default: '4000' },
    domains: { type: 'string', default: '1,100,1000,10000' },
    json: { type: 'boolean', default: false },
    output: { type: 'string' },
  },
})

const rows: Row[] = []
for (const domains of values.domains.split(',').map(Number))
  for (const design of DESIGNS) {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${design}, ${count(domains)} domains`)
    rows.push(measure(design, domains, Number(values.samples), Number(values.events)))
  }
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')

const about = {
  cpu: cpus()[0]?.model ?? 'unknown',
  node: process.version,
  samples: values.samples,
  events: values.events,
}
const json = JSON.stringify({ ...about, rows }, null, 2)
if (values.output) writeFileSync(values.output, `${json}\n`)
if (values.json) process.stdout.write(`${json}\n`)
else {
  const ratio = (value: number) => (Number.isFinite(value) && value > 0 ? value.toFixed(2) : '–')
  const lines = table(
    ['domains', 'design', 'events/s', 'p99', 'events/s, one stalled', 'p99, one stalled', 'time ratio', 'p99 ratio'],
    rows.map((row) => [
      count(row.domains),
      row.design,
      count(row.perSecond),
      duration(row.p99Ns),
      row.stalledPerSecond ? count(row.stalledPerSecond) : 'none',
      row.stalledPerSecond ? duration(row.stalledP99Ns) : '–',
      ratio(row.timeRatio),
      ratio(row.p99Ratio),
    ]),
  )
  process.stdout.write(
    `${about.cpu}, Node ${about.node}; the better quartile of ${about.samples} samples of ${about.events} events\n\n`,
  )
  process.stdout.write(`${lines.join('\n')}\n`)
}
