/** `evtchn bench`: the cost of a level on this machine. */

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { type CostRow, measureCost } from './cost.js'
import { choice, helpText, type OptionSpecs, parse, whole } from './options.js'
import { count, Screen, table } from './screen.js'

const SPECS: OptionSpecs = {
  bits: { type: 'string', value: '32|64', help: 'word width of the guest', default: '64' },
  samples: { type: 'string', value: 'N', help: 'samples of each cell, interleaved', default: '101' },
  seed: { type: 'string', value: 'N', help: 'for the choice of ports', default: '1' },
  single: { type: 'boolean', help: 'measure the build without atomics' },
  json: { type: 'boolean', help: 'print the rows as JSON' },
  output: { type: 'string', value: 'FILE', help: 'write the JSON to a file as well' },
}
const ABOUT = `Measures send and scan for 2, 3 and 4 levels beside a flat scan of the same bitmap, and checks that the
ports delivered are the ports sent. Medians of interleaved samples, ns per event.`

/** The cost table as lines. */
export function costTable(rows: readonly CostRow[]): string[] {
  const depths = [2, 3, 4]
  const header = [
    'pending',
    ...depths.map((n) => `send n=${n}`),
    ...depths.map((n) => `scan n=${n}`),
    ...depths.map((n) => `flat n=${n}`),
  ]
  const cell = (k: number, n: number, value: (row: CostRow) => number) => {
    const row = rows.find((each) => each.pending === k && each.levels === n)
    if (!row) return '–'
    const ns = value(row)
    return ns < 100 ? ns.toFixed(1) : count(ns)
  }
  const body = [...new Set(rows.map((row) => row.pending))].map((k) => [
    count(k),
    ...depths.map((n) => cell(k, n, (row) => row.sendNs)),
    ...depths.map((n) => cell(k, n, (row) => row.scanNs)),
    ...depths.map((n) => cell(k, n, (row) => row.flatNs)),
  ])
  return table(header, body)
}

/** The subcommand. */
export const bench = {
  summary: 'measure what a level costs: send and scan, 2 to 4 levels, beside a flat scan',
  run(argv: string[]): number {
    const values = parse('bench', SPECS, argv)
    if (values.help) {
      process.stdout.write(helpText('bench', ABOUT, SPECS))
      return 0
    }
    const bits = Number(choice('bench', values, 'bits', ['32', '64'])) as 32 | 64
    const samples = whole('bench', values, 'samples', 3, 100_000)
    const seed = whole('bench', values, 'seed', 0, 2 ** 32 - 1)
    const screen = new Screen(values.json === true)
    const threads = values.single !== true
    const pending = [1, 16, 256, 4096, 65536]
    const rows = measureCost({ bits, pending, samples, seed, threads, progress: (text) => screen.progress(text) })
    screen.done()
    const result = { cpu: cpus()[0]?.model ?? 'unknown', node: process.version, threads, seed, rows }
    screen.line(
      `ns per event, ${bits}-bit words, ${threads ? 'with' : 'without'} atomics; ${result.cpu}, Node ${result.node}`,
    )
    screen.line(`uniformly spread ports; n levels hold ${channelsText(rows)} channels`)
    screen.line()
    for (const line of costTable(rows)) screen.line(line)
    const text = `${JSON.stringify(result, null, 2)}\n`
    if (values.json) process.stdout.write(text)
    if (typeof values.output === 'string') writeFileSync(values.output, text)
    return 0
  },
}

function channelsText(rows: readonly CostRow[]): string {
  return [2, 3, 4].map((n) => count(rows.find((row) => row.levels === n)?.channels ?? 0)).join(', ')
}
