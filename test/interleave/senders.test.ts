/**
 * Senders and one scan: NL-set-1, NL-set-2 and NL-scan-1 against each other.
 *
 *     sender    leaf ─ mask ─ vcpu ─ active ─ level n-1 ─ … ─ level 1 ─ flag ─ kick        upward
 *     scan      flag ─ level 1 ─ … ─ level n-1 ─ leaf ─ clear                              downward
 *
 * They meet in every level. A sender that finds its bit set leaves the rest to whoever set it or will take it; that
 * holds only while each of the two goes in one direction and each word changes hands in one operation.
 *
 * Left out: that the leaf bit takes the read-modify-write without a test before it (NL-set-2). The reason is the order
 * of the sender's earlier writes on processors with store buffers, which single steps on one memory cannot show.
 */

import { describe, expect, it } from 'vitest'
import { type Case, losesAnEvent, losesNothing } from './check.js'
import { type Depth, type Level, selectorLevels, Tree } from './model.js'
import { climb, send, sendSteps } from './operations.js'
import type { ScanOptions } from './scan_options.js'
import { Scanner } from './scanner.js'
import { type Step, StepThread } from './steps.js'

const last = (n: Depth) => (1 << n) - 1

/** Senders that send their ports in turn, by the steps given. Port 1 has been sent before. */
function senders(n: Depth, ports: number[][], how: ScanOptions = {}, steps: readonly Step[] = sendSteps(n)): Case {
  const tree = new Tree(n)
  const threads = ports.map((list, i) => {
    const sends = list.map((port) => send(n, port, steps))
    return new StepThread(tree, `sender ${i}`, sends)
  })
  return { tree, threads: [...threads, new Scanner(tree, 0, how)], prepare: (s) => tree.sent(s, 1) }
}

describe('senders and a scan', () => {
  /** The same port, neighbours in a word, and the far end of the tree. */
  const two = (n: Depth) => [
    [0, 1, 2],
    [1, last(n), 0],
  ]

  it.each([
    [2, 91_000],
    [3, 143_000],
    [4, 212_000],
  ] as const)('NL-set-1, NL-scan-1: two senders and a scanner lose nothing (n = %i, over %i states)', (n, states) => {
    losesNothing(senders(n, two(n)), states)
  })

  it.each([
    [2, 86_000],
    [3, 145_000],
  ] as const)('NL-set-1: three senders and a scanner lose nothing (n = %i, over %i states)', (n, states) => {
    losesNothing(senders(n, [[0, 1], [last(n)], [2]]), states)
  })

  it('NL-scan-1: a driver that scans while the flag is set loses nothing (n = 3, over 309000 states)', () => {
    losesNothing(senders(3, two(3), { again: 'while flag' }), 309_000)
  })

  it('EC-up-6: with upcalls as long as the flag is set nothing is lost (n = 3, over 245000 states)', () => {
    losesNothing(senders(3, two(3), { upcall: 'level' }), 245_000)
  })
})

describe('orders that nlevel.md excludes lose an event', () => {
  const depths = [2, 3, 4] as const
  /** NL-set-1 with another second half. */
  const climbing = (steps: readonly Step[]): Step[] => ['leaf', 'mask', 'vcpu', 'active', ...steps]

  it.each(depths)('NL-scan-1: the flag is cleared after the exchange of level 1 (n = %i)', (n) => {
    losesAnEvent(senders(n, [[last(n)]], { begin: ['level 1', 'flag'] }))
  })

  it.each(depths)('NL-scan-1: a pending bit is cleared after its handler has run (n = %i)', (n) => {
    losesAnEvent(senders(n, [[1]], { serve: 'before clear' }))
  })

  it.each(depths)('NL-scan-1: a selector word is zeroed after what is beneath it was looked at (n = %i)', (n) => {
    losesAnEvent(senders(n, [[0]], { take: 'load, store after' }))
  })

  it.each(depths)('NL-scan-1: a selector word is taken by a load and a store (n = %i)', (n) => {
    losesAnEvent(senders(n, [[last(n)]], { take: 'load, store' }))
  })

  it.each([3, 4] as const)('NL-set-1: the climb goes from level 1 down (n = %i)', (n) => {
    const down = selectorLevels(n).reverse()
    const steps = [...down.map((k): Step => `set ${k}`), 'flag' as const, 'kick' as const]
    losesAnEvent(senders(n, [[last(n)]], {}, climbing(steps)))
  })

  it.each(depths)('NL-set-1: the flag is set before level 1 (n = %i)', (n) => {
    const below = climb(n).filter((step) => step !== 'load 1' && step !== 'set 1')
    losesAnEvent(senders(n, [[0]], {}, climbing([...below, 'set 1'])))
  })

  it.each(depths)('NL-set-1: a selector bit is set by a load and a store (n = %i)', (n) => {
    const k = selectorLevels(n)[0]!
    const swap: Partial<Record<Step, Step>> = { [`load ${k}`]: `read ${k}`, [`set ${k}`]: `write ${k}` }
    const steps = climb(n).map((step) => swap[step] ?? step)
    losesAnEvent(senders(n, [[0], [2]], {}, climbing(steps)))
  })

  const loads = depths.flatMap((n) => selectorLevels(n).map((k) => [k, n] as const))
  it.each(loads)('NL-set-2: level %i is loaded before the test-and-set of the level below it (n = %i)', (k, n) => {
    const steps = sendSteps(n).filter((step) => step !== `load ${k}`)
    const below = steps.indexOf(k === n - 1 ? 'leaf' : `set ${(k + 1) as Level}`)
    // The port shares its bit of level k with port 1, but not that of the level below.
    const port = k === n - 1 ? 0 : 1 << (n - k - 1)
    losesAnEvent(senders(n, [[port]], {}, [...steps.slice(0, below), `load ${k}`, ...steps.slice(below)]))
  })

  it.each([3, 4] as const)('NL-clear-1: a port beneath an orphan is not delivered again (n = %i)', (n) => {
    const tree = new Tree(n)
    const orphan = (s: Int32Array) => {
      s[tree.selectors[0]![2]!] = 1
    }
    const threads = [new StepThread(tree, 'sender', [send(n, 0)]), new Scanner(tree)]
    losesAnEvent({ tree, threads, prepare: orphan })
  })

  it('NL-scan-1: the schedule that loses can be read', () => {
    const schedule = losesAnEvent(senders(2, [[3]], { begin: ['level 1', 'flag'] }))
    expect(schedule).toEqual([
      'sender 0: send 3: leaf',
      'sender 0: send 3: mask',
      'sender 0: send 3: vcpu',
      'sender 0: send 3: active',
      'sender 0: send 3: load 1',
      'scan 0: upcall',
      'scan 0: take level 1 word 0',
      'sender 0: send 3: set 1',
      'sender 0: send 3: flag',
      'scan 0: flag := 0',
      'scan 0: load pending of leaf word 0',
      'scan 0: load mask of leaf word 0',
      'scan 0: clear pending of leaf word 0',
    ])
  })
})
