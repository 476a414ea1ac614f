/** `npm run bench:abis`: two levels, three levels and FIFO in one run; see bench.ts for what is timed. */

import { bytes, count } from '../../src/cli/format.js'
import { notAllowed } from '../../src/cli/options.js'
import type { Summary } from '../../src/cli/statistics.js'
import { BENCH, type BenchTable, benchCommand } from '../options.js'
import { Bench, type Figures } from './bench.js'
import { ABIS } from './machine.js'
import { type VariantRow, variants } from './variants.js'

const ABOUT = `Times the library's own path under each ABI: a raise is the port operation that a send ends in, a drain is the guest driver's upcall with handlers that count. Then the latency of an urgent event behind others, and memory.`

const OPTIONS = {
  abi: BENCH.abi(ABIS, ABIS),
  bits: BENCH.bits,
  pending: BENCH.pending([1, 16, 256, 1000, 4000, 4096, 65_536]),
  samples: BENCH.samples(41, 9),
  seed: BENCH.seed('for the choice of ports'),
  single: BENCH.single,
}

const MANY = 100_000
/** Channels of a guest and how many of them are pending. */
const SIZES: readonly (readonly [channels: number, pending: number])[] = [
  [1000, 1],
  [1000, 16],
  [1000, 256],
  [1000, 1000],
  [4000, 4000],
  [MANY, 1],
  [MANY, 256],
  [MANY, 4096],
  [MANY, 65_536],
]

function cell(value: Summary | number | undefined, unit: string): string | undefined {
  if (value === undefined) return undefined
  const middle = typeof value === 'number' ? value : value.median
  if (unit === 'bytes') return bytes(middle)
  return middle < 100 ? middle.toFixed(1) : count(middle)
}

const asTable = ({ title, unit, corner, columns, rows }: Figures): BenchTable => ({
  title,
  ...(unit !== 'bytes' && { unit }),
  columns: [corner, ...columns],
  rows: rows.map(({ label, cells }) => [label, ...cells.map((each) => cell(each, unit))]),
})

const variantTable = (rows: readonly VariantRow[]): BenchTable => ({
  title: 'Variants, 1,000 channels, 256 pending',
  columns: ['ABI', 'calls to register', 'host pages', 'guest frames', 'channels', 'moves', 'send, ns', 'consume, ns'],
  rows: rows.map((each) => [
    each.name,
    count(each.calls),
    count(each.hostPages),
    count(each.guestFrames),
    count(each.channels),
    each.moves,
    each.sendNs.toFixed(1),
    each.consumeNs.toFixed(1),
  ]),
})

await benchCommand('bench:abis', ABOUT, OPTIONS, ({ values, screen }) => {
  const bits = values.bits === '32' ? 32 : 64
  const { seed, quick, pending } = values
  const threads = !values.single
  const samples = values.samples ?? (quick ? 9 : 41)
  const bench = new Bench({ abis: values.abi, bits, threads, samples, seed })
  const sizes = SIZES.filter(([channels, k]) => (bits === 64 || channels < MANY) && pending.includes(k))
  if (!sizes.length) throw notAllowed('bench:abis', 'pending', pending.join(','), SIZES.map(([, k]) => k).join(', '))
  screen.progress('send and consume')
  const [send, consume] = bench.sendAndConsume(sizes)
  screen.progress('latency')
  const latency = bench.latency([1, 16, 256, ...(bits === 64 ? [4000, 65_536] : [1000, 30_000])])
  screen.progress('memory')
  const memory = bench.memory([10, 1000, MANY])
  screen.progress('variants')
  const rows = variants(samples * 5, seed)
  const figures = [send, consume, latency, memory]
  const how = `${bits}-bit guest, ${threads ? 'with' : 'without'} atomics, seed ${seed}, medians of ${samples} samples`
  return {
    about: [how],
    tables: [...figures.map(asTable), variantTable(rows)],
    result: { send, consume, latency, memory, variants: rows },
  }
})
