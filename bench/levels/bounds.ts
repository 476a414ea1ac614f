/**
 * The bounds that the project set itself, each with the worst value that was measured. A bound is judged by medians of
 * one run on one machine: a look at the rows tells more. Nothing here changes the exit code.
 */

import { count, digits } from '../../src/cli/format.js'
import { NAMES, OPS, type Op } from './contender.js'
import { type Measured, type Results, ratioOf } from './results.js'

export interface Bound {
  readonly bound: string
  /** The worst factor found, and where. */
  readonly worst: number
  readonly where: string
  /** Factors that meet the bound, of how many. */
  readonly meeting: number
  readonly of: number
  readonly met: boolean
}

interface Case {
  readonly value: number
  readonly where: string
}

const LEVEL_FACTOR = 1.5
const FLAT_FACTOR = 100
const NATIVE_FACTOR = 1.4
const NATIVE_OWN_FACTOR: Readonly<Record<Op, number>> = { send: 1.1, scan: 1.25 }

function whereOf(m: Measured, levels: number): string {
  return `${m.op}, ${m.bits}-bit, ${levels} levels, ${count(m.k)} ${m.placement}`
}

/** Judges cases by an upper or a lower limit; nothing to judge is no bound. */
function judge(bound: string, cases: readonly Case[], limit: number, upper: boolean): Bound[] {
  if (cases.length === 0) return []
  const good = ({ value }: Case) => (upper ? value <= limit : value >= limit)
  const worst = cases.reduce((x, y) => (upper === y.value > x.value ? y : x))
  const meeting = cases.filter(good).length
  return [{ bound, worst: worst.value, where: worst.where, meeting, of: cases.length, met: meeting === cases.length }]
}

/** Every ratio of two contenders that a selection of the groups has. */
function cases(
  measured: readonly Measured[],
  ratio: (m: Measured, levels: number) => number | undefined,
  depths: readonly number[] = [2, 3, 4],
): Case[] {
  return measured.flatMap((m) =>
    depths.flatMap((levels) => {
      const value = ratio(m, levels)
      return value === undefined ? [] : [{ value, where: whereOf(m, levels) }]
    }),
  )
}

/** One level more: the same ports at both depths, and ports spread over all that each depth has. */
function levelBounds(measured: readonly Measured[], op: Op): Bound[] {
  const part = measured.filter((m) => m.op === op && m.k >= 16)
  const same = part.filter((m) => m.placement !== 'spread')
  const own = part.filter((m) => m.placement === 'spread')
  return [NAMES.core, NAMES.coreSingle, NAMES.native].flatMap((name) => {
    const to2 = (m: Measured) => ratioOf(m, name, 3, name, 2)
    const bound = `${name}: 3-level ${op} within ${LEVEL_FACTOR}× 2-level, k ≥ 16`
    return [
      ...judge(`${bound}, same ports`, cases(same, to2, [3]), LEVEL_FACTOR, true),
      ...judge(`${bound}, spread over 64 or 32 times the ports`, cases(own, to2, [3]), LEVEL_FACTOR, true),
    ]
  })
}

/** One pending port of 262,144 against the walk over all of them. */
function flatBounds(measured: readonly Measured[]): Bound[] {
  const part = measured.filter((m) => m.op === 'scan' && m.bits === 64 && m.k === 1 && m.placement === 'spread')
  return (
    [
      [NAMES.flat, NAMES.core],
      [NAMES.flatSingle, NAMES.coreSingle],
    ] as const
  ).flatMap(([flat, core]) => {
    const factor = (m: Measured) => ratioOf(m, flat, 3, core)
    const bound = `${core}: 1 of 262,144 found ${FLAT_FACTOR}× faster than by the flat scan`
    return judge(bound, cases(part, factor, [3]), FLAT_FACTOR, false)
  })
}

/** C for any processor, and C for this one: the same atomics in the same order. */
function nativeBounds(measured: readonly Measured[], op: Op): Bound[] {
  const part = measured.filter((m) => m.op === op)
  const to = (name: string) => (m: Measured, levels: number) => ratioOf(m, NAMES.core, levels, name)
  const many = op === 'send' ? part : part.filter((m) => m.k >= 16)
  const factor = NATIVE_OWN_FACTOR[op]
  const which = op === 'send' ? '' : ', k ≥ 16'
  return [
    ...judge(`core: ${op} within ${NATIVE_FACTOR}× C`, cases(part, to(NAMES.native)), NATIVE_FACTOR, true),
    ...judge(`core: ${op} within ${factor}× C, -march=native${which}`, cases(many, to(NAMES.nativeOwn)), factor, true),
  ]
}

/** Scanning from JavaScript against what JavaScript has: the use of the core that each peer would replace. */
function peerBounds(measured: readonly Measured[]): Bound[] {
  const part = measured.filter((m) => m.op === 'scan')
  return (
    [
      [NAMES.atomics, NAMES.calls],
      [NAMES.bitset, NAMES.callsSingle],
      [NAMES.typedfastbitset, NAMES.callsSingle],
      [NAMES.set, NAMES.callsSingle],
    ] as const
  ).flatMap(([peer, use]) => {
    const factor = (m: Measured, levels: number) => ratioOf(m, peer, levels, use)
    return judge(`${use}: scan faster than ${peer}`, cases(part, factor), 1, false)
  })
}

/** All bounds that the run has numbers for. */
export function bounds({ measured }: Results): Bound[] {
  return [
    ...OPS.flatMap((op) => levelBounds(measured, op)),
    ...flatBounds(measured),
    ...OPS.flatMap((op) => nativeBounds(measured, op)),
    ...peerBounds(measured),
  ]
}

/** The summary. C has no bound of its own in one level more: its lines show what the ports' places cost by themselves. */
export function describeBounds(all: readonly Bound[]): string[] {
  const lines = all.flatMap(({ met, bound, worst, where, meeting, of }) => [
    `${(bound.startsWith(`${NAMES.native}:`) ? '' : met ? 'met' : 'NOT MET').padEnd(8)} ${bound}`,
    `${' '.repeat(9)}${meeting} of ${of} rows; worst ${digits(worst)}× at ${where}`,
  ])
  return ['Bounds', '', ...lines]
}
