/**
 * A step of the simulation: what is done, and four numbers to choose its arguments from. A step means the same beside any
 * others, so a story can be shortened by leaving steps out.
 */

import { seeded } from '../../src/cli/random.js'

const NUMBER = 2 ** 20

/** One step, as drawn. */
export interface Step {
  readonly kind: string
  readonly numbers: readonly [number, number, number, number]
}

/** The steps of a seed: `weights` says how often each kind comes. */
export function draw(seed: number, count: number, weights: Readonly<Record<string, number>>): Step[] {
  const random = seeded(seed)
  const kinds = Object.entries(weights).flatMap(([kind, weight]) => Array<string>(weight).fill(kind))
  const number = () => random(NUMBER)
  return Array.from({ length: count }, () => ({
    kind: kinds[random(kinds.length)]!,
    numbers: [number(), number(), number(), number()],
  }))
}

/** One of a list, by a number; undefined if it is empty. */
export const choose = <T>(from: readonly T[], number: number): T | undefined => from[number % (from.length || 1)]

/** What a user's function throws on purpose: it must stay with that user. */
export class Injected extends Error {}

/** What must never be. */
export class Violation extends Error {}

/** @throws Violation */
export function must(holds: boolean, what: string | (() => string)): void {
  if (!holds) throw new Violation(typeof what === 'string' ? what : what())
}
