/**
 * The switch from two levels to n: NL-reg-4, NL-reg-5, and the three ways of NL-set-3 to keep senders out of it.
 *
 *     guest        stop machine ────────────────────────────────────────────────────────────────── n-level from here
 *     lock         lock ─ move ─ deactivate ─ level 1 := 0 ─ new depth ─ unlock ─ activate
 *     wait         new depth ─ wait ─ move ─ deactivate ─ level 1 := 0 ─ activate
 *     reload       new depth ─ move ─ deactivate ─ level 1 := 0 ─ activate
 *
 *     move         for each word: take old ─ or leaf ─ load old mask ─ store mask
 *
 * "Stop machine" is the guest's duty of NL-reg-5. Reset is the same switch backwards and is not explored apart; nor is a
 * move of vcpu_info.
 */

import { describe, it } from 'vitest'
import { type Case, losesAnEvent, losesNothing } from './check.js'
import { type Depth, Tree } from './model.js'
import { activate, activateSteps, climb, moveSteps, type Operation } from './operations.js'
import { Scanner } from './scanner.js'
import { type Step, StepThread } from './steps.js'

const settle: Step[] = ['deactivate', 'zero 1']
const LOCK: readonly Step[] = ['lock', ...moveSteps, ...settle, 'new depth', 'unlock']
const WAIT: readonly Step[] = ['new depth', 'wait', ...moveSteps, ...settle]
const RELOAD: readonly Step[] = ['new depth', ...moveSteps, ...settle]

const sending = (n: Depth): Step[] => ['depth', 'leaf', 'mask', 'vcpu', 'active', ...climb(n)]
const reloading = (n: Depth): Step[] => ['depth', 'leaf, go on', 'depth again', ...sending(n).slice(2)]

/** What the guest does around the hypercall, or fails to do. */
const stopMachine: Operation = { what: 'guest', steps: ['stop machine'] }
const resume: Operation = { what: 'guest', steps: ['resume'] }

interface Options {
  /** The switch. */
  readonly steps: readonly Step[]
  /** How senders are kept out, and their steps. */
  readonly under?: Operation['under']
  readonly sends?: readonly Step[]
  /** What comes after the switch proper. */
  readonly afterwards?: readonly Operation[]
  /** Before and after the call. */
  readonly before?: readonly Operation[]
  readonly after?: readonly Operation[]
  /** Another thread of the guest, on vCPU 0. */
  readonly guest?: readonly Operation[]
  /** The guest scans n levels from the start. */
  readonly early?: boolean
}

/** A sender a list, two levels in force, port 1 pending, all masks of the new leaf set and none of the old one. */
function switching(n: Depth, ports: number[][], options: Options): Case {
  const { steps, under, sends = sending(n), afterwards = [activate(n, 0)], guest = [], early = false } = options
  const { before = [stopMachine], after = [resume] } = options
  const tree = new Tree(n)
  const senders = ports.map((list, i) => {
    const operations = list.map((port) => ({ what: `send ${port}`, port, steps: sends, ...(under && { under }) }))
    return new StepThread(tree, `sender ${i}`, operations)
  })
  const register: Operation = { what: 'register_nlevel', vcpu: 0, steps }
  const caller = new StepThread(tree, 'caller', [...before, register, ...afterwards, ...after])
  const prepare: Case['prepare'] = (s) => {
    s[tree.depth] = 2
    s[tree.guestDepth] = early ? n : 2
    s[tree.active[0]!] = 2
    s[tree.mask] = (1 << tree.ports) - 1
    tree.sent(s, 1)
  }
  const others = guest.length ? [new StepThread(tree, 'guest', guest)] : []
  return { tree, threads: [...senders, caller, ...others, new Scanner(tree)], prepare }
}

describe('the switch', () => {
  const deep = [3, 4] as const
  const ways = (n: Depth) =>
    ({
      'the delivery lock': { steps: LOCK, under: 'lock' },
      'publish, wait, move': { steps: WAIT, under: 'mark' },
      'senders that load the depth again': { steps: RELOAD, sends: reloading(n) },
    }) satisfies Record<string, Options>

  it.each([
    ['the delivery lock', 3, 1],
    ['the delivery lock', 4, 1],
    ['publish, wait, move', 3, 1],
    ['publish, wait, move', 4, 1],
    ['senders that load the depth again', 3, 1],
    ['senders that load the depth again', 4, 1],
  ] as const)('NL-set-3: with %s two senders lose nothing (n = %i, over %i states)', (way, n, states) => {
    losesNothing(switching(n, n === 3 ? [[0, 3], [3]] : [[0], [3]], ways(n)[way]), states)
  })

  it('NL-set-3: senders of one port that load the depth again lose nothing (n = 3, over 1 states)', () => {
    losesNothing(switching(3, [[3], [3, 3]], { steps: RELOAD, sends: reloading(3) }), 1)
  })

  /** The guest masks and unmasks by itself at the depth that it believes in; `on` keeps the switch out meanwhile. */
  const unmasking = (n: Depth, on?: number): Operation[] => [
    { what: 'mask 0', port: 0, vcpu: 0, steps: ['guest depth', 'set mask'], ...(on !== undefined && { on }) },
    {
      what: 'local unmask 0',
      port: 0,
      vcpu: 0,
      steps: ['guest depth', 'clear mask', 'pending', ...climb(n).slice(0, -2), 'own flag', 'kick'],
      ...(on !== undefined && { on }),
    },
  ]

  it.each([
    [3, 1],
    [4, 1],
  ] as const)(
    'NL-reg-5: a guest that masks and unmasks before and after loses nothing (n = %i, over %i states)',
    (n, states) => {
      losesNothing(switching(n, [[0, 0]], { steps: LOCK, under: 'lock', guest: unmasking(n, 0) }), states)
    },
  )

  /** A guest that scans all levels during the call, which is more than it may. */
  const scanning = { under: 'mark', before: [], early: true } as const
  it('NL-reg-4: a guest that scans n levels during the call loses nothing (n = 3, over 1 states)', () => {
    losesNothing(switching(3, [[0], [3]], { steps: WAIT, ...scanning }), 1)
  })

  it('NL-sel-3, NL-sel-4: a vCPU that gets its selectors later loses nothing (n = 3, over 1 states)', () => {
    const n = 3
    const tree = new Tree(n, 2)
    const sends = [3, 0, 3].map((port): Operation => ({ what: `send ${port}`, port, steps: sending(n), under: 'lock' }))
    const quiet = (vcpu: number): Operation => ({ what: 'register_nlevel', vcpu, steps: settle })
    const caller = new StepThread(tree, 'caller', [
      stopMachine,
      { what: 'register_nlevel', steps: ['lock', ...moveSteps] },
      ...[quiet(0), quiet(1)],
      { what: 'register_nlevel', steps: ['new depth', 'unlock'] },
      ...[activate(n, 0), resume, activate(n, 1)],
    ])
    const prepare: Case['prepare'] = (s) => {
      s[tree.depth] = 2
      s[tree.guestDepth] = 2
      s[tree.mask] = (1 << tree.ports) - 1
      for (const vcpu of [0, 1]) s[tree.active[vcpu]!] = 2
      tree.bindToSecond(s, 3)
      tree.sent(s, 3)
    }
    const scans = [0, 1].map((vcpu) => new Scanner(tree, vcpu, { filter: true }))
    losesNothing({ tree, threads: [new StepThread(tree, 'sender', sends), caller, ...scans], prepare }, 1)
  })

  describe('orders that nlevel.md excludes lose an event', () => {
    const two = [[0, 3], [3]]
    /** The switch with some steps put in the place of others. */
    const swap = (steps: readonly Step[], from: string, to: string) =>
      steps.map((step) => step.replace(from, to) as Step)

    it.each(deep)('NL-set-3: senders are not kept out of move, publish (n = %i)', (n) => {
      losesAnEvent(switching(n, two, { steps: LOCK }))
    })

    it.each(deep)('NL-set-3: publish, move without waiting (n = %i)', (n) => {
      losesAnEvent(switching(n, two, { steps: RELOAD }))
    })

    it.each(deep)('NL-set-3: senders load the depth again, but the move comes before the new depth (n = %i)', (n) => {
      losesAnEvent(switching(n, two, { steps: LOCK, sends: reloading(n) }))
    })

    it.each(deep)('NL-set-3: senders load the depth again only if the bit was clear (n = %i)', (n) => {
      const sends: Step[] = ['depth', 'leaf', 'depth again', ...sending(n).slice(2)]
      losesAnEvent(switching(n, [[3], [3]], { steps: RELOAD, sends }))
    })

    it.each(deep)('NL-reg-4: the moved word is stored over the leaf, not ORed into it (n = %i)', (n) => {
      losesAnEvent(switching(n, two, { steps: swap(WAIT, 'or leaf', 'store leaf'), under: 'mark' }))
      losesAnEvent(switching(n, two, { steps: swap(RELOAD, 'or leaf', 'store leaf'), sends: reloading(n) }))
    })

    it.each(deep)('NL-reg-4: level 1 is set to 0 after the activation (n = %i)', (n) => {
      const steps = LOCK.filter((step) => step !== 'zero 1')
      const late: Operation = { what: 'late', vcpu: 0, steps: ['zero 1'] }
      losesAnEvent(switching(n, two, { steps, under: 'lock', afterwards: [activate(n, 0), late] }))
    })

    it.each(deep)('NL-reg-4: the selectors are published and nothing is filled (n = %i)', (n) => {
      losesAnEvent(switching(n, two, { steps: LOCK, under: 'lock', afterwards: [activate(n, 0, ['publish'])] }))
    })

    it.each(deep)('NL-reg-5: a mask bit is changed in the old words during the call (n = %i)', (n) => {
      losesAnEvent(switching(n, [[0]], { steps: LOCK, under: 'lock', guest: unmasking(n) }))
    })

    it.each(deep)('NL-sel-3: a 2-level scan is under way across the call (n = %i)', (n) => {
      losesAnEvent(switching(n, two, { steps: LOCK, under: 'lock', before: [] }))
    })

    // With upcalls held off during the call the order of move and activation does not show.
    it.each(deep)('NL-reg-4: the bits are moved after the activation (n = %i)', (n) => {
      const steps: Step[] = ['new depth', 'wait', ...settle, ...activateSteps(n)]
      losesAnEvent(switching(n, two, { steps, afterwards: [{ what: 'late', steps: moveSteps }], ...scanning }))
    })
  })

  describe('orders that nlevel.md excludes and that lose nothing here', () => {
    const split = (steps: readonly Step[]): Step[] =>
      steps.flatMap((step): Step[] => {
        if (step === 'take old 0') return ['load old 0', 'zero old 0']
        return step === 'take old 1' ? ['load old 1', 'zero old 1'] : [step]
      })

    // Whoever sets an old bit between the two has loaded the old depth, and is kept out or tries again.
    it.each([
      ['the delivery lock', 1],
      ['publish, wait, move', 1],
      ['senders that load the depth again', 1],
    ] as const)(
      'NL-reg-4: with %s, an old word is taken by a load and a store (n = 3, over %i states)',
      (way, states) => {
        const options = ways(3)[way]
        losesNothing(switching(3, [[3], [3]], { ...options, steps: split(options.steps) }), states)
      },
    )
  })
})
