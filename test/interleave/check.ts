/** What the tests of this directory say about a model: that it loses nothing under any schedule, or that it does. */

import { expect } from 'vitest'
import { show } from '../settings.js'
import { ENDLESS, explore, type Problem, type State, type Thread } from './explore.js'
import type { Tree } from './model.js'

/** Threads over a tree. */
export interface Case {
  readonly tree: Tree
  readonly threads: readonly Thread[]
  /** Changes the tree at rest to the beginning. */
  readonly prepare?: (s: State) => void
  /** Ports with which the first scan begins: a beginning for each; default 0. */
  readonly starts?: readonly number[]
}

function problemOf({ tree, threads, prepare, starts = [0] }: Case): Omit<Problem, 'verdict'> {
  const initial = starts.map((start) => {
    const s = tree.atRest()
    prepare?.(s)
    for (const cell of tree.next) s[cell] = start
    return s
  })
  return { layout: tree.layout, threads, initial }
}

/**
 * Explores a case whole: every schedule ends, every thread with it, nothing is lost and the tree is clean. More than
 * `atLeast` states, so that a model that has lost its threads does not pass.
 */
export function losesNothing(of: Case, atLeast: number): void {
  const result = explore({ ...problemOf(of), verdict: (s) => of.tree.broken(s) })
  if (show('states')) console.log(`${result.states} states: ${expect.getState().currentTestName}`)
  expect(result.flaw).toBeNull()
  expect(result.ends).toBeGreaterThan(0)
  expect(result.states).toBeGreaterThan(atLeast)
}

/** Explores a case until a schedule loses an event, not merely until the tree is left dirty. Answers that schedule. */
export function losesAnEvent(of: Case): readonly string[] {
  const { flaw } = explore({ ...problemOf(of), verdict: (s) => of.tree.lost(s) }, { cycles: false })
  expect(flaw?.what).toMatch(/^port \d+ is lost/)
  if (show('schedules')) console.log(`${expect.getState().currentTestName}\n  ${flaw?.schedule.join('\n  ')}`)
  return flaw!.schedule
}

/** Explores a case until a schedule comes back to a state it was in. */
export function neverEnds(of: Case): void {
  const { flaw } = explore({ ...problemOf(of), verdict: (s) => of.tree.lost(s) })
  expect(flaw?.what).toBe(ENDLESS)
}
