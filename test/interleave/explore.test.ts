/** The explorer itself: it sees every schedule, and the three ways in which one can go wrong. */

import { describe, expect, it } from 'vitest'
import { ENDLESS, explore, Layout, type Problem, STUCK, type State, type Thread } from './explore.js'

/** A thread of steps without branches. `run` is called with the number of the step. */
function straight(layout: Layout, name: string, steps: number, run: (s: State, step: number) => void): Thread {
  const pc = layout.cell(3)
  return {
    name,
    ways: (s) => (s[pc]! < steps ? 1 : 0),
    atRest: (s) => s[pc] === steps,
    label: (s) => `step ${s[pc]}`,
    step(s) {
      run(s, s[pc]!)
      s[pc]!++
    },
  }
}

const nothing = () => {}
const problem = (layout: Layout, threads: Thread[], verdict: Problem['verdict'] = () => null): Problem => ({
  layout,
  threads,
  initial: [new Int32Array(layout.cells)],
  verdict,
})

describe('the explorer', () => {
  it('visits every state of two independent threads once', () => {
    const layout = new Layout()
    const threads = [straight(layout, 'a', 3, nothing), straight(layout, 'b', 4, nothing)]
    expect(explore(problem(layout, threads))).toEqual({ states: 4 * 5, ends: 1, flaw: null })
  })

  it('finds the lost update of two threads that load and store, and says how', () => {
    const layout = new Layout()
    const counter = layout.cell(2)
    const threads = ['a', 'b'].map((name) => {
      const local = layout.cell(2)
      return straight(layout, name, 2, (s, step) => {
        if (step === 0) s[local] = s[counter]!
        else s[counter] = s[local]! + 1
      })
    })
    const { flaw } = explore(problem(layout, threads, (s) => (s[counter] === 2 ? null : 'an update is lost')))
    expect(flaw).toEqual({
      what: 'an update is lost',
      schedule: ['a: step 0', 'b: step 0', 'a: step 1', 'b: step 1'],
    })
  })

  it('follows every way in which a step can go', () => {
    const layout = new Layout()
    const cell = layout.cell(2)
    const thread: Thread = {
      name: 'dice',
      ways: (s) => (s[cell] === 0 ? 3 : 0),
      atRest: (s) => s[cell] !== 0,
      label: () => 'throw',
      step: (s, way) => {
        s[cell] = way + 1
      },
    }
    expect(explore(problem(layout, [thread]))).toEqual({ states: 4, ends: 3, flaw: null })
  })

  it('reports a schedule that comes back to where it was', () => {
    const layout = new Layout()
    const cell = layout.cell(1)
    const flip = (s: State) => {
      s[cell]! ^= 1
    }
    const spinner: Thread = { name: 'spinner', ways: () => 1, atRest: () => true, label: () => 'flip', step: flip }
    const { flaw } = explore(problem(layout, [spinner]))
    expect(flaw).toEqual({ what: ENDLESS, schedule: ['spinner: flip', 'spinner: flip'] })
  })

  it('reports threads that wait for each other', () => {
    const layout = new Layout()
    const waiting = { ...straight(layout, 'waiting', 1, nothing), ways: () => 0 }
    expect(explore(problem(layout, [waiting])).flaw?.what).toBe(STUCK)
  })

  it('refuses to stop half way and a value that does not fit its cell', () => {
    const layout = new Layout()
    const threads = [straight(layout, 'a', 7, nothing), straight(layout, 'b', 7, nothing)]
    expect(() => explore(problem(layout, threads), { limit: 63 })).toThrow('more than 63 states')
    expect(explore(problem(layout, threads), { limit: 64 }).states).toBe(64)
    const narrow = new Layout()
    const cell = narrow.cell(1)
    const two = straight(narrow, 'two', 1, (s) => {
      s[cell] = 2
    })
    expect(() => explore(problem(narrow, [two]))).toThrow(RangeError)
  })
})
