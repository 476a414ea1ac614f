/** `evtchn bench`: the cost of a level on this machine. */

import { ABIS, abiName, type Form, hasAbi } from './abi.js'
import { command } from './command.js'
import { type CostRow, measureCost } from './cost/measure.js'
import { machine, machineLine } from './envelope.js'
import { count } from './format.js'
import { COMMON, choice, flag, list, notAllowed, whole, wholes } from './options.js'
import type { Screen } from './screen.js'
import type { ColumnLike, Row } from './table.js'

/** The cost table: columns and rows. */
export function costTable(rows: readonly CostRow[]): { columns: ColumnLike[]; rows: Row[] } {
  const forms = [...new Set(rows.map((row) => row.levels))]
  const depths = forms.filter((form) => form !== 'fifo')
  const name = (form: Form) => (form === 'fifo' ? 'fifo' : `n=${form}`)
  const columns = [
    'pending',
    ...forms.map((form) => `send ${name(form)}`),
    ...forms.map((form) => `scan ${name(form)}`),
    ...depths.map((form) => `flat ${name(form)}`),
  ]
  const cell = (k: number, n: Form, value: (row: CostRow) => number | undefined) => {
    const row = rows.find((each) => each.pending === k && each.levels === n)
    if (!row) return undefined
    const ns = value(row)
    return ns === undefined ? undefined : ns < 100 ? ns.toFixed(1) : count(ns)
  }
  const body = [...new Set(rows.map((row) => row.pending))].map((k) => [
    count(k),
    ...forms.map((n) => cell(k, n, (row) => row.send.median)),
    ...forms.map((n) => cell(k, n, (row) => row.scan.median)),
    ...depths.map((n) => cell(k, n, (row) => row.flat?.median)),
  ])
  return { columns, rows: body }
}

function show(screen: Screen, rows: readonly CostRow[], bits: number, threads: boolean): void {
  const channels = new Map(rows.map((row) => [abiName(row.levels), row.channels]))
  screen.line(`ns per event, the core itself; ${bits}-bit words, ${threads ? 'with' : 'without'} atomics`)
  screen.line(machineLine(machine()))
  screen.line(`uniformly spread ports of ${[...channels].map(([form, most]) => `${form}: ${count(most)}`).join(', ')}`)
  screen.line()
  const { columns, rows: body } = costTable(rows)
  screen.table(columns, body)
}

/** The subcommand. */
export const bench = command({
  name: 'bench',
  summary: 'measure what a level costs: send and scan, beside a flat scan',
  about: `Measures send and scan of the core for each ABI that is named, beside a flat scan of the same bitmap, and checks that the ports delivered are the ports sent. Medians of interleaved samples, ns per event.`,
  options: {
    abi: list('ABIs to measure', { of: ABIS, preset: ['2', '3', '4'] }),
    bits: choice('word width of the guest', { of: ['32', '64'], preset: '64' }),
    pending: wholes('events pending at a time', { min: 1, max: 65_536, preset: [1, 16, 256, 4096, 65_536] }),
    samples: whole('samples of each cell, interleaved', { min: 3, max: 100_000, preset: 101 }),
    seed: COMMON.seed('for the choice of ports'),
    single: flag('measure the build without atomics'),
    json: COMMON.json,
  },
  run({ program, values, screen }) {
    const bits = values.bits === '32' ? 32 : 64
    for (const abi of values.abi)
      if (!hasAbi(abi, bits)) throw notAllowed(program, 'abi', abi, '2, 3, 4, fifo with --bits 64')
    const { abi: abis, samples, seed, pending } = values
    const threads = !values.single
    const progress = (done: number, of: number) => screen.steps('sample', done, of)
    const rows = measureCost({ bits, abis, pending, samples, seed, threads, progress })
    show(screen, rows, bits, threads)
    return { result: { unit: 'ns', threads, rows } }
  },
})
