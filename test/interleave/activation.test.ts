/**
 * A vCPU's selectors become active: NL-sel-3, NL-sel-4.
 *
 *     hypervisor    publish ─ fill level n-1 ─ … ─ fill level 1 ─ mark events pending and notify
 *     sender        leaf ─ mask ─ vcpu ─ active? ─ climb, or latch
 *     scan          of a vCPU that is called at any time, also for nothing
 *
 * An event that was latched before the areas were published is found by the scan that the last step asks for; one that
 * came later has climbed. A fill is an operation a word.
 */

import { describe, expect, it } from 'vitest'
import { type Case, losesAnEvent, losesNothing } from './check.js'
import { type Depth, selectorLevels, Tree } from './model.js'
import { activate, activateSteps, climb, send, sendSteps } from './operations.js'
import { Scanner } from './scanner.js'
import { type Step, StepThread } from './steps.js'

const last = (n: Depth) => (1 << n) - 1

/** The steps of NL-sel-3 that are not one. */
const fills = (n: Depth) => selectorLevels(n).map((k): Step => `fill ${k}`)
const mark: Step[] = ['own flag', 'kick']

/** All orders of a list. */
function permutations<T>(list: readonly T[]): T[][] {
  if (list.length < 2) return [[...list]]
  return list.flatMap((first, i) => permutations(list.filter((_, j) => j !== i)).map((rest) => [first, ...rest]))
}

interface Options {
  readonly steps?: readonly Step[]
  readonly sending?: readonly Step[]
  /** The upcall flag before, and whether an upcall is due from before. */
  readonly flag?: 0 | 1
  readonly due?: 0 | 1
}

/** A sender a list; port 1 is latched. */
function activation(n: Depth, ports: number[][], options: Options = {}): Case {
  const { steps = activateSteps(n), sending = sendSteps(n), flag = 0, due = 1 } = options
  const tree = new Tree(n)
  const senders = ports.map((list, i) => {
    const sends = list.map((port) => send(n, port, sending))
    return new StepThread(tree, `sender ${i}`, sends)
  })
  const hypervisor = new StepThread(tree, 'hypervisor', [activate(n, 0, steps)])
  const prepare: Case['prepare'] = (s) => {
    s[tree.active[0]!] = 0
    tree.sent(s, 1)
    s[tree.flag[0]!] = flag
    s[tree.kick[0]!] = due
  }
  return { tree, threads: [...senders, hypervisor, new Scanner(tree)], prepare }
}

describe('the activation of selectors', () => {
  it.each([
    [2, 0, 0, 1],
    [2, 0, 1, 1],
    [2, 1, 0, 1],
    [2, 1, 1, 1],
    [3, 0, 1, 1],
    [3, 1, 0, 1],
  ] as const)(
    'NL-sel-3: beside two senders loses nothing (n = %i, flag %i and upcall %i before, over %i states)',
    (n, flag, due, states) => {
      losesNothing(activation(n, [[0, last(n)], [2]], { flag, due }), states)
    },
  )

  it.each([[4, 1]] as const)('NL-sel-3: beside two senders loses nothing (n = %i, over %i states)', (n, states) => {
    losesNothing(activation(n, [[0], [last(n)]]), states)
  })
})

describe('orders that nlevel.md excludes lose an event', () => {
  const depths = [2, 3, 4] as const
  const blocks = (n: Depth): Record<string, Step[]> => ({ publish: ['publish'], fill: fills(n), mark })

  const orders = [
    ['publish', 'mark', 'fill'],
    ['fill', 'publish', 'mark'],
    ['fill', 'mark', 'publish'],
    ['mark', 'publish', 'fill'],
    ['mark', 'fill', 'publish'],
  ]
  it.each(orders.flatMap((order) => depths.map((n) => [...order, n] as const)))(
    'NL-sel-3: %s, %s, %s (n = %i)',
    (first, second, third, n) => {
      const steps = [first, second, third].flatMap((block) => blocks(n as Depth)[block as string]!)
      losesAnEvent(activation(n as Depth, [[0, last(n as Depth)], [2]], { steps }))
    },
  )

  it.each([
    [3, 'fill 1, fill 2'],
    [4, 'fill 3, fill 1, fill 2'],
    [4, 'fill 2, fill 3, fill 1'],
    [4, 'fill 2, fill 1, fill 3'],
    [4, 'fill 1, fill 3, fill 2'],
    [4, 'fill 1, fill 2, fill 3'],
  ] as const)('NL-sel-3: n = %i, and the levels go %s', (n, order) => {
    const steps: Step[] = ['publish', ...(order.split(', ') as Step[]), ...mark]
    losesAnEvent(activation(n, [[0, last(n)], [2]], { steps }))
  })

  it.each(depths)('NL-sel-3: a flag that was set before keeps the vCPU from being notified (n = %i)', (n) => {
    const steps = activateSteps(n).map((step) => (step === 'own flag' ? 'flag' : step))
    losesAnEvent(activation(n, [[0]], { steps, flag: 1, due: 0 }))
  })

  it.each(depths)("NL-sel-4: a sender asks whether they are active before the leaf's test-and-set (n = %i)", (n) => {
    losesAnEvent(activation(n, [[0]], { sending: ['vcpu', 'active', 'leaf', 'mask', ...climb(n)] }))
  })
})

describe('level by level', () => {
  // Filled but not published is as good as not filled, while level 1 is empty: nobody comes down there and no sender
  // climbs. So the areas may be published after any fills but that of level 1. NL-sel-3 is stricter than it must be.
  const harmless: Record<number, readonly string[]> = {
    2: [],
    3: ['fill 2, publish, fill 1, mark'],
    4: [
      'fill 3, publish, fill 2, fill 1, mark',
      'fill 2, publish, fill 3, fill 1, mark',
      'fill 3, fill 2, publish, fill 1, mark',
      'fill 2, fill 3, publish, fill 1, mark',
    ],
  }
  const parts = (n: Depth) => ['publish', ...fills(n), 'mark']
  const stepsOf = (order: readonly string[]) => order.flatMap((part) => (part === 'mark' ? mark : [part as Step]))

  it.each([
    [5, 2],
    [22, 3],
    [115, 4],
  ] as const)('NL-sel-3: %i other orders of publish, fills and mark lose an event (n = %i)', (losers, n) => {
    const allowed = [parts(n).join(', '), ...harmless[n]!]
    const others = permutations(parts(n)).filter((order) => !allowed.includes(order.join(', ')))
    expect(others).toHaveLength(losers)
    for (const order of others) losesAnEvent(activation(n, [[0, last(n)], [2]], { steps: stepsOf(order) }))
  })

  it.each([
    [3, 1],
    [4, 1],
  ] as const)(
    'NL-sel-3: to publish after fills but before that of level 1 loses nothing (n = %i, over %i states each)',
    (n, states) => {
      for (const order of harmless[n]!)
        losesNothing(activation(n, [[0], [2]], { steps: stepsOf(order.split(', ')) }), states)
    },
  )
})
