/** What was measured, and how to look things up in it. */

import type { Bits } from 'evtchn/abi'
import type { Op } from './contender.js'
import type { Machine } from './machine.js'
import type { Placement } from './ports.js'
import { median, type Row, ratio } from './rounds.js'

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

/** A complete run: what --json writes, with medians added for readers that want no samples. */
export interface Results {
  readonly machine: Machine
  readonly date: string
  readonly seed: number
  readonly rounds: number
  readonly quick: boolean
  readonly measured: readonly Measured[]
}

export const rowOf = (measured: Measured, name: string, levels: number): Row | undefined =>
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
