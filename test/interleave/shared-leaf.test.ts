/**
 * Two vCPUs whose ports lie in one leaf word: NL-scan-4. The word is all that they share; selectors and flags are per
 * vCPU, and each clears in the leaf what it serves and nothing else.
 *
 *     vCPU 0   [level 1] … [level n-1] ──┐
 *                                        ├──► leaf word [ port 1 | port 0 ]     port 0 on vCPU 0, port 1 on vCPU 1
 *     vCPU 1   [level 1] … [level n-1] ──┘
 */

import { describe, it } from 'vitest'
import { type Case, losesAnEvent, losesNothing } from './check.js'
import { type Depth, Tree } from './model.js'
import { send } from './operations.js'
import type { ScanOptions } from './scan_options.js'
import { Scanner } from './scanner.js'
import { StepThread } from './steps.js'

/** A sender a list; both ports have been sent before. */
function shared(n: Depth, ports: number[][], how: ScanOptions = {}): Case {
  const tree = new Tree(n, 2)
  const threads = ports.map((list, i) => {
    const sends = list.map((port) => send(n, port))
    return new StepThread(tree, `sender ${i}`, sends)
  })
  const scans = [0, 1].map((vcpu) => new Scanner(tree, vcpu, { filter: true, ...how }))
  const prepare: Case['prepare'] = (s) => {
    tree.bindToSecond(s, 1)
    tree.sent(s, 0)
    tree.sent(s, 1)
  }
  return { tree, threads: [...threads, ...scans], prepare }
}

describe('two vCPUs that share a leaf word', () => {
  const two = [
    [0, 1, 1],
    [1, 0, 0],
  ]

  it.each([
    [2, 1],
    [3, 1],
    [4, 1],
  ] as const)('NL-scan-4: two senders and two scanners lose nothing (n = %i, over %i states)', (n, states) => {
    losesNothing(shared(n, two), states)
  })

  it('NL-scan-4: three senders and two scanners lose nothing (n = 3, over 1 states)', () => {
    losesNothing(shared(3, [[0, 1], [1, 0], [2]]), 1)
  })

  it('NL-scan-4: drivers that scan while the flag is set lose nothing (n = 3, over 1 states)', () => {
    losesNothing(shared(3, two, { again: 'while flag' }), 1)
  })
})

describe('orders that nlevel.md excludes lose an event', () => {
  const depths = [2, 3, 4] as const

  it.each(depths)('NL-scan-4: without a filter one vCPU takes the event of the other (n = %i)', (n) => {
    losesAnEvent(shared(n, [], { filter: false }))
  })

  it.each(depths)('NL-scan-4: served leaf bits are cleared by a load and a store (n = %i)', (n) => {
    losesAnEvent(shared(n, [[1]], { clear: 'load, store' }))
  })

  it.each(depths)('NL-scan-4: the leaf word is exchanged with 0 (n = %i)', (n) => {
    losesAnEvent(shared(n, [[1]], { clear: 'exchange' }))
  })
})
