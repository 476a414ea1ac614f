/** The tables of the levels. */

import { count, digits as threeDigits } from '../../src/cli/format.js'
import type { Column, Row } from '../../src/cli/table.js'
import type { BenchTable } from '../options.js'
import { NAMES, OPS, type Op } from './contender.js'
import { type Measured, nsOf, type Results, ratioOf } from './results.js'

const digits = (value: number | undefined) => (value === undefined ? undefined : threeDigits(value))

const WORDS: Record<Op, string> = { send: 'Send', scan: 'Scan' }

/** Each row of a table: a number of ports, a placement and a depth. */
function rowsOf(measured: readonly Measured[], cells: (m: Measured, levels: number) => Row): Row[] {
  const rows: Row[] = []
  for (const m of measured) {
    const depths = [...new Set(m.rows.map(({ levels }) => levels))]
    for (const levels of depths) rows.push([count(m.k), m.placement, String(levels), ...cells(m, levels)])
  }
  return rows
}

const KEYS: Column[] = ['pending', 'placed', 'levels'].map((name) => ({
  head: ['', '', name],
  left: name === 'placed',
  key: true,
}))

/** The core in both builds and both uses, and C; and what a level more costs. */
function coreTable(title: string, measured: readonly Measured[], native: boolean): BenchTable {
  const columns: Column[] = [
    ...KEYS,
    { head: ['', 'core', 'ns'] },
    { head: ['', 'C', native ? 'ns' : 'no C'] },
    { head: ['core', 'to C', native ? '×' : 'compiler'] },
    { head: ['C,', 'native', native ? 'ns' : ''] },
    { head: ['core', 'to it', native ? '×' : ''] },
    { head: ['core,', 'single', 'ns'] },
    { head: ['', 'calls', 'ns'] },
    { head: ['calls,', 'single', 'ns'] },
    { head: ['core to', '2 levels', '×'] },
    { head: ['single to', '2 levels', '×'] },
    { head: ['C to', '2 levels', '×'] },
    { head: ['', 'words', '/event'] },
    { head: ['words to', '2 levels', '×'] },
  ]
  const rows = rowsOf(measured, (m, levels) => [
    digits(nsOf(m, NAMES.core, levels)),
    digits(nsOf(m, NAMES.native, levels)),
    digits(ratioOf(m, NAMES.core, levels, NAMES.native)),
    digits(nsOf(m, NAMES.nativeOwn, levels)),
    digits(ratioOf(m, NAMES.core, levels, NAMES.nativeOwn)),
    digits(nsOf(m, NAMES.coreSingle, levels)),
    digits(nsOf(m, NAMES.calls, levels)),
    digits(nsOf(m, NAMES.callsSingle, levels)),
    ...[NAMES.core, NAMES.coreSingle, NAMES.native].map((name) =>
      levels === 2 ? undefined : digits(ratioOf(m, name, levels, name, 2)),
    ),
    digits(m.words[levels]),
    levels === 2 || !m.words[2] ? undefined : digits(m.words[levels]! / m.words[2]),
  ])
  return { title, columns, rows }
}

/** Peers, each with the factor to the use of the core that it would replace. */
const PEERS: readonly (readonly [name: string, to: string, head: readonly [string, string]])[] = [
  [NAMES.flat, NAMES.core, ['', 'flat']],
  [NAMES.flatSingle, NAMES.coreSingle, ['flat,', 'single']],
  [NAMES.atomics, NAMES.calls, ['', 'Atomics']],
  [NAMES.bitset, NAMES.callsSingle, ['', 'bitset']],
  [NAMES.typedfastbitset, NAMES.callsSingle, ['typedfast', 'bitset']],
  [NAMES.set, NAMES.callsSingle, ['', 'Set']],
]

function peerTable(title: string, measured: readonly Measured[]): BenchTable {
  const columns: Column[] = [...KEYS]
  for (const [, , head] of PEERS) columns.push({ head: [...head, 'ns'] }, { head: ['', '', '×'] })
  const rows = rowsOf(measured, (m, levels) =>
    PEERS.flatMap(([name, to]) => [digits(nsOf(m, name, levels)), digits(ratioOf(m, name, levels, to))]),
  )
  return { title, columns, rows }
}

/** What the columns mean. */
export const LEGEND: readonly string[] = [
  "ns per event, medians of the rounds; factors (×) are medians of the rounds' ratios.",
  'placed   spread: over all ports of the depth, at 4 levels mostly cache and TLB misses; near: over the first W² ports; clustered: one run. The last two are the same ports at every depth.',
  'words    selector and leaf words that an event touches, shared ones in shares: a count, no time. It explains the factors to 2 levels.',
  'core     build for shared memory (atomics), loop inside wasm; single: build for one thread; calls: each step a call from JavaScript, as the library does it. C: same algorithm, atomic builtins, loop inside, -O2; native: with -march=native, for this processor as the engine compiles.',
  "peers    flat: the leaf walked word by word in wasm, × core; Atomics: the core's algorithm in TypeScript, × calls; bitset, typedfastbitset and Set, × calls, single: they do less, having no mask, no upcall flag and no second thread.",
]

/** All tables. */
export function report({ measured, compiler }: Results): BenchTable[] {
  return [64, 32].flatMap((bits) =>
    OPS.flatMap((op) => {
      const part = measured.filter((m) => m.op === op && m.bits === bits)
      if (part.length === 0) return []
      const title = `${WORDS[op]}, ${bits}-bit words`
      return [coreTable(`${title}: the core`, part, compiler !== undefined), peerTable(`${title}: peers`, part)]
    }),
  )
}
