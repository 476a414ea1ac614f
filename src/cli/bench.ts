/** `evtchn bench`: the cost of a level on this machine. */

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { type CostRow, measureCost } from './cost.js'
import { ABIS, CheckError, choice, type Form, helpText, type OptionSpecs, parse, whole } from './options.js'
import { count, Screen, table } from './screen.js'

const SPECS: OptionSpecs = {
  abi: { type: 'string', value: 'LIST', help: 'some of 2, 3, 4 and fifo, with commas between', default: '2,3,4' },
  bits: { type: 'string', value: '32|64', help: 'word width of the guest', default: '64' },
  samples: { type: 'string', value: 'N', help: 'samples of each cell, interleaved', default: '101' },
  seed: { type: 'string', value: 'N', help: 'for the choice of ports', default: '1' },
  single: { type: 'boolean', help: 'measure the build without atomics' },
  json: { type: 'boolean', help: 'print the rows as JSON' },
  output: { type: 'string', value: 'FILE', help: 'write the JSON to a file as well' },
}
const ABOUT = `Measures send and scan for 2, 3 and 4 levels, and for FIFO queues if asked, beside a flat scan of the same bitmap, and checks that the
ports delivered are the ports sent. Medians of interleaved samples, ns per event.`

/** The cost table as lines. */
export function costTable(rows: readonly CostRow[]): string[] {
  const forms = [...new Set(rows.map((row) => row.levels))]
  const depths = forms.filter((form) => form !== 'fifo')
  const name = (form: Form) => (form === 'fifo' ? 'fifo' : `n=${form}`)
  const header = [
    'pending',
    ...forms.map((form) => `send ${name(form)}`),
    ...forms.map((form) => `scan ${name(form)}`),
    ...depths.map((form) => `flat ${name(form)}`),
  ]
  const cell = (k: number, n: Form, value: (row: CostRow) => number | null) => {
    const row = rows.find((each) => each.pending === k && each.levels === n)
    if (!row) return '–'
    const ns = value(row) ?? Number.NaN
    return ns < 100 ? ns.toFixed(1) : count(ns)
  }
  const body = [...new Set(rows.map((row) => row.pending))].map((k) => [
    count(k),
    ...forms.map((n) => cell(k, n, (row) => row.sendNs)),
    ...forms.map((n) => cell(k, n, (row) => row.scanNs)),
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
    const abis = String(values.abi)
      .split(',')
      .map((abi) => choice('bench', { abi }, 'abi', ABIS))
    const samples = whole('bench', values, 'samples', 3, 100_000)
    const seed = whole('bench', values, 'seed', 0, 2 ** 32 - 1)
    const { output } = values
    if (typeof output === 'string') writeOutput(output, '')
    const screen = new Screen(values.json === true)
    const threads = values.single !== true
    const pending = [1, 16, 256, 4096, 65536]
    const rows = measureCost({ bits, abis, pending, samples, seed, threads, progress: (text) => screen.progress(text) })
    screen.done()
    const result = { cpu: cpus()[0]?.model ?? 'unknown', node: process.version, threads, seed, rows }
    screen.line(
      `ns per event, ${bits}-bit words, ${threads ? 'with' : 'without'} atomics; ${result.cpu}, Node ${result.node}`,
    )
    screen.line(`uniformly spread ports; ${channelsText(rows)} channels`)
    screen.line()
    for (const line of costTable(rows)) screen.line(line)
    const text = `${JSON.stringify(result, null, 2)}\n`
    if (values.json) process.stdout.write(text)
    if (typeof output === 'string') writeOutput(output, text)
    return 0
  },
}

/** Also before the measuring begins: that it cannot be written is better known at once. */
function writeOutput(file: string, text: string): void {
  try {
    writeFileSync(file, text)
  } catch (error) {
    throw new CheckError(
      `evtchn bench: --output ${JSON.stringify(file)} cannot be written: ${(error as Error).message}`,
    )
  }
}

function channelsText(rows: readonly CostRow[]): string {
  const channels = new Map(rows.map((row) => [row.levels === 'fifo' ? 'FIFO' : `n=${row.levels}`, row.channels]))
  return [...channels].map(([form, most]) => `${form} ${count(most)}`).join(', ')
}
