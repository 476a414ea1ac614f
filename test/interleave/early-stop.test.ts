/**
 * A scan that stops early and gives back: NL-scan-2, with the cyclic order of NL-scan-3 from every start.
 *
 *     level 1      [ taken, not followed | followed ]       kept, too, what lies below the start
 *                                             │
 *     level 2                  [ taken, not followed | followed ]
 *                                                          │
 *     leaf                                 [ not served | served ]  ◄── the buffer is full
 *
 * Between its exchange and the give-back the scan owns those bits: a sender that finds the bit above or below set or
 * taken relies on it. An upcall may nest anywhere, also within the give-back; that is what its order is for.
 */

import { describe, it } from 'vitest'
import { type Case, losesAnEvent, losesNothing, neverEnds } from './check.js'
import { type Depth, Tree } from './model.js'
import { send } from './operations.js'
import { type Back, backSteps, type ScanOptions } from './scan_options.js'
import { Scanner } from './scanner.js'
import { StepThread } from './steps.js'

const last = (n: Depth) => (1 << n) - 1
const every = (n: Depth) => Array.from({ length: 1 << n }, (_, port) => port)

/** A sender a list, `sent` before them, a buffer of one port, and upcalls that nest if there is a `nested`. */
function early(n: Depth, sends: number[][], sent: number[], how: ScanOptions = {}, nested = false): Case {
  const tree = new Tree(n)
  const senders = sends.map((list, i) => {
    const operations = list.map((port) => send(n, port))
    return new StepThread(tree, `sender ${i}`, operations)
  })
  const outer = new Scanner(tree, 0, { buffer: 1, ...how })
  const scans = nested ? [outer, new Scanner(tree, 0, { buffer: 1, ...how }, outer)] : [outer]
  const prepare: Case['prepare'] = (s) => {
    for (const port of sent) tree.sent(s, port)
  }
  return { tree, threads: [...senders, ...scans], prepare, starts: every(n) }
}

describe('a scan that stops early', () => {
  const two = (n: Depth) => [[0, last(n)], [1]]
  const ends = (n: Depth) => [[0], [last(n)]]
  const some = (n: Depth) => [1, 2, last(n)]

  it.each([
    [2, 1, 1],
    [3, 1, 1],
    [4, 1, 1],
    [3, 2, 1],
    [3, 'any', 1],
  ] as const)(
    'NL-scan-2: beside two senders loses nothing (n = %i, buffer = %s, over %i states)',
    (n, buffer, states) => {
      losesNothing(early(n, two(n), some(n), { buffer }), states)
    },
  )

  it.each([
    [2, 1],
    [3, 1],
    [4, 1],
  ] as const)('NL-scan-2: with an upcall that nests anywhere loses nothing (n = %i, over %i states)', (n, states) => {
    losesNothing(early(n, ends(n), some(n), {}, true), states)
  })

  it.each([
    [2, 1],
    [3, 1],
  ] as const)(
    'NL-scan-6: by a driver that scans while the flag is set loses nothing (n = %i, over %i states)',
    (n, states) => {
      losesNothing(early(n, ends(n), some(n), { again: 'while flag' }, true), states)
    },
  )

  it.each([
    [2, 1],
    [3, 1],
  ] as const)(
    'EC-up-6: with upcalls as long as the flag is set loses nothing (n = %i, over %i states)',
    (n, states) => {
      losesNothing(early(n, [[0, last(n)]], some(n), { upcall: 'level' }, true), states)
    },
  )

  it.each([
    [2, 1],
    [3, 1],
    [4, 1],
  ] as const)('NL-scan-2: that gives back leaf bits too loses nothing (n = %i, over %i states)', (n, states) => {
    const back: Back[] = ['leaf', ...backSteps(n)]
    losesNothing(early(n, ends(n), [0, 1, last(n)], { overflow: 'all', back }, true), states)
  })
})

describe('orders that nlevel.md excludes lose an event', () => {
  const depths = [2, 3, 4] as const
  /** All the ways to go wrong have the same beginning: full words at both ends, and senders to either. */
  const wrong = (n: Depth, how: ScanOptions) => early(n, [[last(n)], [0]], [0, 1, 2, last(n)], how)
  const wrongNested = (n: Depth, how: ScanOptions) => early(n, [[last(n)], [0]], [0, 1, 2, last(n)], how, true)
  const without = (n: Depth, what: string) => backSteps(n).filter((step) => !step.startsWith(what))

  it.each(depths)('NL-scan-1: bits are taken, not followed and not given back (n = %i)', (n) => {
    losesAnEvent(wrong(n, { back: [] }))
  })

  it.each(depths)('NL-scan-2: the give-back loads and stores (n = %i)', (n) => {
    losesAnEvent(wrong(n, { or: 'load, store' }))
  })

  it.each(depths)('NL-scan-2: the give-back ends at a bit that is set already (n = %i)', (n) => {
    losesAnEvent(wrong(n, { stop: 'whole' }))
  })

  it.each(depths)('NL-scan-2: bits that were taken and not followed stay away (n = %i)', (n) => {
    losesAnEvent(wrong(n, { back: without(n, 'rest') }))
  })

  it.each(depths)('NL-scan-3: bits that were kept for the second pass stay away (n = %i)', (n) => {
    losesAnEvent(wrong(n, { back: without(n, 'kept') }))
  })

  it.each([3, 4] as const)('NL-scan-2: ancestors of what goes back stay away (n = %i)', (n) => {
    losesAnEvent(wrong(n, { ancestors: false }))
  })

  it.each(depths)('NL-scan-2: the selector bit of the word half served stays away (n = %i)', (n) => {
    losesAnEvent(wrong(n, { overflow: 'forget' }))
  })

  it.each(depths)('NL-scan-2: leaf bits that were cleared and not served stay away (n = %i)', (n) => {
    losesAnEvent(wrong(n, { overflow: 'all' }))
  })

  it.each(depths)('NL-scan-2: the flag stays clear (n = %i)', (n) => {
    losesAnEvent(wrong(n, { back: without(n, 'flag'), again: 'while flag' }))
  })

  it.each(depths)('NL-scan-6: a guest that has given back does not scan again (n = %i)', (n) => {
    losesAnEvent(wrong(n, { again: 'never' }))
  })

  it.each([3, 4] as const)('NL-scan-2: an upcall nests in a give-back from level 1 down (n = %i)', (n) => {
    losesAnEvent(wrongNested(n, { back: [...without(n, 'flag').reverse(), 'flag'] }))
  })

  it.each(depths)('NL-scan-2: an upcall nests in a give-back that begins with the flag (n = %i)', (n) => {
    losesAnEvent(wrongNested(n, { back: ['flag', ...without(n, 'flag')], again: 'while flag' }))
  })

  it.each(depths)('NL-scan-2: an upcall nests in a give-back that ends with the leaf (n = %i)', (n) => {
    losesAnEvent(wrongNested(n, { overflow: 'all', back: [...without(n, 'flag'), 'leaf', 'flag'] }))
  })

  it.each(depths)('NL-scan-2: a scan that stops without having served a port never ends (n = %i)', (n) => {
    neverEnds(wrong(n, { buffer: 'none' }))
  })
})

describe('orders that nlevel.md excludes and that lose nothing here', () => {
  const without = (n: Depth, what: string) => backSteps(n).filter((step) => step !== what)
  const one = (n: Depth, how: ScanOptions, nested = true) => early(n, [[0], [last(n)]], [1, 2, last(n)], how, nested)

  it('NL-scan-2: a give-back from level 1 down in which no upcall nests (n = 3, over 1 states)', () => {
    losesNothing(one(3, { back: [...without(3, 'flag').reverse(), 'flag'] }, false), 1)
  })

  it('NL-scan-2: the flag first, by a driver that scans again after each give-back (n = 3, over 1 states)', () => {
    losesNothing(one(3, { back: ['flag', ...without(3, 'flag')] }), 1)
  })

  // Whoever has set the bit meanwhile is a climb, and a climb goes on to the flag. All other bits do go back.
  it('NL-scan-2: the ancestors of a bit that is set already stay away (n = 3, over 1 states)', () => {
    losesNothing(one(3, { stop: 'branch' }), 1)
  })
})
