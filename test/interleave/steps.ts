/**
 * Threads as lists of steps: all that runs beside the scans. A step is one memory operation, and the order of a list is
 * the order of the operations, so another order is another array:
 *
 *     leaf          test-and-set the leaf's pending bit; stop if it was set                              NL-set-1
 *     mask          load the mask bit; stop if it is set
 *     vcpu, active  load the notify vCPU; load the depth of its active selectors, stop if it is another  NL-sel-4
 *     load k        load the port's bit in level k; stop if it is set                                    NL-set-2
 *     set k         test-and-set it; stop if it was set
 *     flag, kick    test-and-set the upcall flag, stop if it was set; raise the upcall
 *
 * "Stop" ends the operation, not the thread. What a load found is kept until the operation has done what it must in any
 * case: a mask loaded before the leaf's test-and-set stops the climb, not the send; a bit of level k found set stops the
 * climb where it would be set.
 */

import type { State, Thread } from './explore.js'
import type { Level, Tree } from './model.js'
import type { Operation } from './operations.js'

export type Step =
  | keyof typeof ACTIONS
  | `${keyof typeof LEVEL_ACTIONS} ${Level}`
  | `${keyof typeof WORD_ACTIONS} ${0 | 1}`

// What the steps do.

type Answer = 'go on' | 'stop' | 'repeat'
type Action = (s: State, t: Context) => Answer
type LevelAction = (s: State, t: Context, level: Level) => Answer

/** What a step sees: its operation and the locals of its thread. */
interface Context {
  readonly tree: Tree
  readonly port: number
  readonly bit: number
  readonly fixedVcpu: number | undefined
  /** Word of the level or of the old leaf that the step is about. */
  readonly word: number
  readonly local: Locals
}

/** Cells of a thread. `depth` 0 = not loaded; `why` 1 = a load has said that there is nothing to climb for. */
interface Locals {
  readonly depth: number
  readonly vcpu: number
  readonly word: number
  /** Bits that loads found set, by level. */
  readonly seen: number
  readonly why: number
}

/** The depth that the operation loaded, or the tree's where it loads none. */
const depthOf = (s: State, t: Context) => s[t.local.depth]! || t.tree.n
const vcpuOf = (s: State, t: Context) => t.fixedVcpu ?? s[t.local.vcpu]!
const stopIf = (condition: unknown): Answer => (condition ? 'stop' : 'go on')

/** Sets a bit; true if it was set. */
function testAndSet(s: State, cell: number, bit: number): boolean {
  const was = s[cell]! & bit
  s[cell]! |= bit
  return was !== 0
}

/** Clears a bit; true if it was set. */
function testAndClear(s: State, cell: number, bit: number): boolean {
  const was = s[cell]! & bit
  s[cell]! &= ~bit
  return was !== 0
}

/** The leaf's test-and-set, and the entry in the test's book. */
function raise(s: State, t: Context): boolean {
  s[t.tree.due]! |= t.bit
  return testAndSet(s, t.tree.pendingAt(depthOf(s, t)), t.bit)
}

/** Cell and bit of the port in a selector level. */
const selector = (s: State, t: Context, level: Level) => t.tree.selectors[vcpuOf(s, t)]![level]!
const selectorBit = (s: State, t: Context, level: Level) => 1 << (t.port >> (depthOf(s, t) - level))

const ACTIONS = {
  leaf: (s, t) => stopIf(raise(s, t)),
  'leaf, go on'(s, t) {
    s[t.local.word] = raise(s, t) ? 1 : 0
    return 'go on'
  },
  mask(s, t) {
    if (s[t.tree.maskAt(depthOf(s, t))]! & t.bit) s[t.local.why] = 1
    return 'go on'
  },
  'set mask'(s, t) {
    s[t.tree.believed]! |= t.bit
    testAndSet(s, t.tree.maskAt(depthOf(s, t)), t.bit)
    return 'go on'
  },
  'clear mask'(s, t) {
    s[t.tree.believed]! &= ~t.bit
    return stopIf(!testAndClear(s, t.tree.maskAt(depthOf(s, t)), t.bit))
  },
  pending(s, t) {
    if (!(s[t.tree.pendingAt(depthOf(s, t))]! & t.bit)) s[t.local.why] = 1
    return 'go on'
  },
  vcpu(s, t) {
    s[t.local.vcpu] = s[t.tree.notify]! & t.bit ? 1 : 0
    return 'go on'
  },
  active(s, t) {
    if (s[t.tree.active[vcpuOf(s, t)]!] !== depthOf(s, t)) s[t.local.why] = 1
    return 'go on'
  },
  flag: (s, t) => stopIf(testAndSet(s, t.tree.flag[vcpuOf(s, t)]!, 1)),
  /** Sets the flag whatever it was: the guest's own (NL-scan-5), and the notification of NL-sel-3. */
  'own flag'(s, t) {
    s[t.tree.flag[vcpuOf(s, t)]!] = 1
    return 'go on'
  },
  kick(s, t) {
    s[t.tree.kick[vcpuOf(s, t)]!] = 1
    return 'go on'
  },

  /** The choice of NL-scan-5: go on if the guest's table says that the port is bound here. */
  choose: (s, t) => stopIf(!(s[t.tree.filter[vcpuOf(s, t)]!]! & t.bit)),
  'filter in'(s, t) {
    s[t.tree.filter[vcpuOf(s, t)]!]! |= t.bit
    return 'go on'
  },
  'filter out'(s, t) {
    s[t.tree.filter[1 - vcpuOf(s, t)]!]! &= ~t.bit
    return 'go on'
  },
  notify(s, t) {
    if (vcpuOf(s, t)) s[t.tree.notify]! |= t.bit
    else s[t.tree.notify]! &= ~t.bit
    return 'go on'
  },

  publish(s, t) {
    s[t.tree.active[vcpuOf(s, t)]!] = t.tree.n
    return 'go on'
  },

  // The switch. What it waits for is in READY.
  depth(s, t) {
    s[t.local.depth] = s[t.tree.depth]!
    return 'go on'
  },
  'guest depth'(s, t) {
    s[t.local.depth] = s[t.tree.guestDepth]!
    return 'go on'
  },
  'depth again'(s, t) {
    if (s[t.local.depth] === s[t.tree.depth]) return stopIf(s[t.local.word])
    s[t.local.depth] = s[t.tree.depth]!
    s[t.local.word] = 0
    return 'repeat'
  },
  'stop machine'(s, t) {
    for (const cell of t.tree.held) s[cell] = 1
    return 'go on'
  },
  lock(s, t) {
    s[t.tree.writer] = 1
    return 'go on'
  },
  deactivate(s, t) {
    s[t.tree.active[vcpuOf(s, t)]!] = 0
    return 'go on'
  },
  'zero 1'(s, t) {
    s[t.tree.selectors[vcpuOf(s, t)]![1]!] = 0
    return 'go on'
  },
  'new depth'(s, t) {
    s[t.tree.depth] = t.tree.n
    s[t.tree.awaited] = s[t.tree.inside]!
    return 'go on'
  },
  wait: () => 'go on',
  unlock(s, t) {
    s[t.tree.writer] = 0
    return 'go on'
  },
  resume(s, t) {
    s[t.tree.guestDepth] = t.tree.n
    for (const cell of t.tree.held) s[cell] = 0
    return 'go on'
  },
} satisfies Record<string, Action>

/** A word of two bits in a cell that holds a whole bitmap. */
const wordAt = (s: State, cell: number, word: number) => (s[cell]! >> (2 * word)) & 3
function storeWord(s: State, cell: number, word: number, value: number): void {
  s[cell] = (s[cell]! & ~(3 << (2 * word))) | (value << (2 * word))
}

/** Steps on one selector level. */
const LEVEL_ACTIONS = {
  load(s, t, level) {
    if (s[selector(s, t, level)]! & selectorBit(s, t, level)) s[t.local.seen]! |= 1 << level
    return 'go on'
  },
  set: (s, t, level) => stopIf(testAndSet(s, selector(s, t, level), selectorBit(s, t, level))),
  // A test-and-set in two operations, as nobody may do it.
  read(s, t, level) {
    s[t.local.word] = wordAt(s, selector(s, t, level), t.port >> (t.tree.n - level + 1))
    return stopIf(s[t.local.word]! & (1 << ((t.port >> (t.tree.n - level)) & 1)))
  },
  write(s, t, level) {
    const word = s[t.local.word]! | (1 << ((t.port >> (t.tree.n - level)) & 1))
    storeWord(s, selector(s, t, level), t.port >> (t.tree.n - level + 1), word)
    return 'go on'
  },
  fill(s, t, level) {
    s[selector(s, t, level)]! |= 3 << (2 * t.word)
    return 'go on'
  },
} satisfies Record<string, LevelAction>

/** Steps of the switch on one word of the old leaf and the same word of the new one. */
const WORD_ACTIONS = {
  'take old'(s, t) {
    s[t.local.word] = wordAt(s, t.tree.oldPending, t.word)
    storeWord(s, t.tree.oldPending, t.word, 0)
    return 'go on'
  },
  'load old'(s, t) {
    s[t.local.word] = wordAt(s, t.tree.oldPending, t.word)
    return 'go on'
  },
  'zero old'(s, t) {
    storeWord(s, t.tree.oldPending, t.word, 0)
    return 'go on'
  },
  'or leaf'(s, t) {
    s[t.tree.pending]! |= s[t.local.word]! << (2 * t.word)
    return 'go on'
  },
  'store leaf'(s, t) {
    storeWord(s, t.tree.pending, t.word, s[t.local.word]!)
    return 'go on'
  },
  'load old mask'(s, t) {
    s[t.local.word] = wordAt(s, t.tree.oldMask, t.word)
    return 'go on'
  },
  'store mask'(s, t) {
    storeWord(s, t.tree.mask, t.word, s[t.local.word]!)
    return 'go on'
  },
} satisfies Record<string, Action>

/** Steps that wait: when they can go. */
const READY: Partial<Record<Step, (s: State, tree: Tree) => boolean>> = {
  lock: (s, tree) => !s[tree.readers] && !s[tree.writer],
  wait: (s, tree) => !s[tree.awaited],
  'stop machine': (s, tree) => tree.held.every((cell, vcpu) => !s[cell] && tree.idle(s, vcpu)),
}

/** A step ready to run. */
interface Compiled {
  readonly label: string
  readonly run: (s: State) => Answer
  readonly ready: ((s: State, tree: Tree) => boolean) | undefined
  readonly operation: Operation
  /** Indices of the operation: its first step, its test-and-set of the leaf, the one after its last. */
  readonly start: number
  readonly leaf: number
  readonly end: number
  /** The operation has done what it must: a reason to stop is heeded from here on. */
  readonly mayStop: boolean
  /** The level that a climb is at; 0 = none. */
  readonly level: number
  /** It sets a bit of that level, needless if a load saw it set. */
  readonly sets: boolean
}

const MUST: readonly Step[] = ['leaf', 'leaf, go on', 'clear mask', 'notify']

/** A thread that performs operations one after the other and ends. */
export class StepThread implements Thread {
  readonly name: string
  readonly #tree: Tree
  readonly #steps: Compiled[] = []
  readonly #pc: number
  readonly #local: Locals
  readonly #cells: readonly number[]
  /** Its bit among those whom a switch waits for. */
  readonly #mark: number

  constructor(tree: Tree, name: string, operations: readonly Operation[]) {
    const { layout } = tree
    this.name = name
    this.#tree = tree
    this.#mark = tree.newMark()
    this.#pc = layout.cell(6)
    this.#local = {
      depth: layout.cell(3),
      vcpu: layout.cell(1),
      word: layout.cell(2),
      seen: layout.cell(4),
      why: layout.cell(1),
    }
    this.#cells = Object.values(this.#local)
    for (const operation of operations) this.#compile(operation)
  }

  #compile(operation: Operation): void {
    const start = this.#steps.length
    const must = Math.max(...operation.steps.map((step, i) => (MUST.includes(step) ? i : -1)))
    // A fill is one operation a word; everything else is one.
    const parts = operation.steps.flatMap((step, i) => {
      const [, name = step, digit] = /^(.*) (\d)$/.exec(step) ?? []
      const words = name === 'fill' ? 1 << (Number(digit) - 1) : 1
      return Array.from({ length: words }, (_, word) => ({ step, i, name, digit: Number(digit ?? 0), word, words }))
    })
    for (const { step, i, name, digit, word, words } of parts) {
      const { port = 0, vcpu } = operation
      const isLevel = name in LEVEL_ACTIONS
      const t: Context = {
        tree: this.#tree,
        port,
        bit: 1 << port,
        fixedVcpu: vcpu,
        word: isLevel ? word : digit,
        local: this.#local,
      }
      const simple = (ACTIONS as Record<string, Action>)[step] ?? (WORD_ACTIONS as Record<string, Action>)[name]
      const onLevel = (LEVEL_ACTIONS as Record<string, LevelAction>)[name]
      this.#steps.push({
        label: `${operation.what}: ${step}${words > 1 ? ` word ${word}` : ''}`,
        run: simple ? (s) => simple(s, t) : (s) => onLevel!(s, t, digit as Level),
        ready: READY[step],
        operation,
        start,
        leaf: start + parts.findIndex((part) => part.step.startsWith('leaf')),
        end: start + parts.length,
        mayStop: i > must,
        level: isLevel ? digit : 0,
        sets: name === 'set',
      })
    }
  }

  ways(s: State): number {
    const pc = s[this.#pc]!
    const step = this.#steps[pc]
    if (!step) return 0
    const { on, under } = step.operation
    if (pc === step.start && on !== undefined && s[this.#tree.held[on]!]) return 0
    if (pc === step.start && under === 'lock' && s[this.#tree.writer]) return 0
    return !step.ready || step.ready(s, this.#tree) ? 1 : 0
  }

  atRest(s: State): boolean {
    return s[this.#pc] === this.#steps.length
  }

  label(s: State): string {
    return this.#steps[s[this.#pc]!]!.label
  }

  step(s: State): void {
    const at = s[this.#pc]!
    const { start, leaf, end, operation, run } = this.#steps[at]!
    if (at === start) this.#enter(s, operation)
    const answer = run(s)
    let pc = answer === 'stop' ? end : answer === 'repeat' ? leaf : at + 1
    while (pc < end) {
      const next = this.#steps[pc]!
      if (next.mayStop && (s[this.#local.why] || (next.sets && (s[this.#local.seen]! >> next.level) & 1))) pc = end
      else if (next.level >= (s[this.#local.depth] || this.#tree.n)) pc++
      else break
    }
    if (pc === end) this.#leave(s, operation)
    s[this.#pc] = pc
  }

  // Entering with the first step and leaving with the last loses no schedule: to enter earlier or leave later can only
  // make others wait longer.
  #enter(s: State, { on, under }: Operation): void {
    if (on !== undefined) s[this.#tree.held[on]!] = 1
    if (under === 'lock') s[this.#tree.readers]!++
    if (under === 'mark') s[this.#tree.inside]! |= this.#mark
  }

  #leave(s: State, { on, under }: Operation): void {
    if (on !== undefined) s[this.#tree.held[on]!] = 0
    if (under === 'lock') s[this.#tree.readers]!--
    if (under === 'mark') {
      s[this.#tree.inside]! &= ~this.#mark
      s[this.#tree.awaited]! &= ~this.#mark
    }
    for (const cell of this.#cells) s[cell] = 0
  }
}
