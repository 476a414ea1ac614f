/** What was measured, and how to look things up in it. */

import type { Bits } from 'evtchn/abi'
import { median } from '../../src/cli/statistics.js'
import type { Op } from './contender.js'
import type { Placement } from './ports.js'
import { type Row, ratio } from './rounds.js'

/** One half of the cycles of one group. */
export interface Measured {
  readonly op: Op
  readonly bits: Bits
  readonly k: number
  readonly placement: Placement
  readonly rows: readonly Row[]
  /** Words of the tree per event (words.ts), by depth. */
  readonly words: Readonly<Record<number, number>>
}

/** A complete run. */
export interface Results {
  /** Version of the C compiler, if there is one. */
  readonly compiler: string | undefined
  readonly measured: readonly Measured[]
}

const rowOf = (measured: Measured, name: string, levels: number): Row | undefined =>
  measured.rows.find((row) => row.name === name && row.levels === levels)

/** Median ns per event. */
export function nsOf(measured: Measured, name: string, levels: number): number | undefined {
  const row = rowOf(measured, name, levels)
  return row && median(row.samples)
}

/** Median ratio of two contenders of the same depth, or of the same contender at two depths. */
export function ratioOf(
  measured: Measured,
  name: string,
  levels: number,
  toName: string,
  toLevels = levels,
): number | undefined {
  const row = rowOf(measured, name, levels)
  const to = rowOf(measured, toName, toLevels)
  return row && to && ratio(row, to)
}
