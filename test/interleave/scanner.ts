/**
 * The guest's scan as a thread: rounds over the tree whenever an upcall is due (NL-scan-1…4). Step by step the round of
 * assembly/guest/scan.ts: `rest` and `kept` per level, two passes, a buffer that may fill, a give-back.
 *
 *     idle ── kick ──► flag := 0 ──► take level 1 ──► take level 2 … ──► pending ──► mask ──► filter ──► clear, serve ──┐
 *      ▲                                  ▲                                                                             │
 *      │                                  └───────────────────── next bit ◄─────────────────────────────────────────────┤
 *      └──── again? ◄──── give back: rest n-1, kept n-1, … rest 1, kept 1, flag ◄────────────────────────── buffer full ┘
 *
 * Every box is one memory operation. What is asked to go wrong is an option; the defaults are the rules.
 *
 * A nested scan is an upcall that interrupts one: it has locals of its own, shares `next`, and the outer one does not
 * move before it has ended.
 */

import type { State, Thread } from './explore.js'
import type { Tree } from './model.js'
import {
  AGAIN,
  BACK,
  BACK_STORE,
  CLEAR,
  FILTER,
  FLAG,
  IDLE,
  LABELS,
  MASK,
  PENDING,
  SERVE,
  STORE,
  TAKE,
  ZERO,
} from './scan_counters.js'
import { backSteps, ones, RULES, type ScanOptions } from './scan_options.js'

/** The scans of one vCPU, or those that interrupt them. */
export class Scanner implements Thread {
  readonly name: string
  readonly #tree: Tree
  readonly #vcpu: number
  readonly #how: Required<ScanOptions>
  /** The give-back: what, and at which level. */
  readonly #back: readonly (readonly [what: string, level: number])[]
  readonly #outer: Scanner | undefined
  #inner: Scanner | undefined
  readonly #pc: number
  /** Depth of the tree that this round scans. */
  readonly #depth: number
  /** Where it is: a level, the index of its word there, and which bit of a word of level n-1 leads to the leaf word. */
  readonly #level: number
  readonly #index: number
  readonly #bit: number
  /** The cyclic order: the port to begin with, and whether this is the pass below it. */
  readonly #start: number
  readonly #wrapped: number
  /** Per level: bits taken and not followed yet, and bits kept for the second pass. */
  readonly #rest: number[] = [-1]
  readonly #kept: number[] = [-1]
  readonly #levels: readonly number[]
  /** Of a leaf word: bits to serve, and bits cleared that the buffer cannot hold. A word loaded to be stored. */
  readonly #due: number
  readonly #left: number
  readonly #loaded: number
  readonly #served: number
  /** Position in the give-back. */
  readonly #at: number
  readonly #locals: readonly number[]

  constructor(tree: Tree, vcpu = 0, how: ScanOptions = {}, outer?: Scanner) {
    const { layout, n } = tree
    this.name = outer ? `nested scan ${vcpu}` : `scan ${vcpu}`
    this.#tree = tree
    this.#vcpu = vcpu
    this.#how = { ...RULES, back: backSteps(n), ...how }
    this.#back = this.#how.back.map((step) => [step.split(' ')[0]!, Number(step.split(' ')[1] ?? 0)])
    this.#outer = outer
    if (outer) outer.#inner = this
    this.#pc = layout.cell(4)
    tree.scans[vcpu]!.push(this.#pc)
    this.#depth = layout.cell(3)
    this.#level = layout.cell(2)
    this.#index = layout.cell(3)
    this.#bit = layout.cell(1)
    this.#start = layout.cell(n)
    this.#wrapped = layout.cell(1)
    for (let k = 1; k < n; k++) {
      this.#rest.push(layout.cell(2))
      this.#kept.push(layout.cell(2))
    }
    this.#due = layout.cell(2)
    this.#left = layout.cell(2)
    this.#loaded = layout.cell(2)
    this.#served = layout.cell(4)
    this.#at = layout.cell(4)
    this.#levels = [...this.#rest.slice(1), ...this.#kept.slice(1)]
    const word = [this.#bit, this.#due, this.#left, this.#loaded]
    const where = [this.#depth, this.#level, this.#index, this.#start, this.#wrapped, this.#served, this.#at]
    this.#locals = [...where, ...word, ...this.#levels]
  }

  ways(s: State): number {
    const tree = this.#tree
    if (s[tree.held[this.#vcpu]!] || (this.#inner && s[this.#inner.#pc] !== IDLE)) return 0
    if (s[this.#pc] === IDLE) {
      if (this.#outer && s[this.#outer.#pc] === IDLE) return 0
      return s[this.#how.upcall === 'edge' ? tree.kick[this.#vcpu]! : tree.flag[this.#vcpu]!] ? 1 : 0
    }
    // With a time limit, chance decides after each leaf word whether it is over.
    const serves = s[this.#pc] === (this.#how.clear === 'load, store' ? STORE : CLEAR)
    return serves && this.#how.buffer === 'any' ? 2 : 1
  }

  atRest(s: State): boolean {
    return s[this.#pc] === IDLE
  }

  label(s: State): string {
    const pc = s[this.#pc]!
    if (pc === TAKE || pc === ZERO) return `${LABELS[pc]} level ${s[this.#level]} word ${s[this.#index]}`
    if (pc >= PENDING && pc <= STORE) return `${LABELS[pc]} of leaf word ${this.#leafWord(s)}`
    if (pc === BACK || pc === BACK_STORE) return `${LABELS[pc]}: ${this.#how.back[s[this.#at]!]}`
    return LABELS[pc]!
  }

  step(s: State, way: number): void {
    s[this.#pc] = this.#run(s, way)
  }

  /** One memory operation and the computation after it. Answers the next program counter, as all that follows does. */
  #run(s: State, way: number): number {
    const tree = this.#tree
    const depth = s[this.#depth]!
    switch (s[this.#pc]) {
      case IDLE:
        s[tree.kick[this.#vcpu]!] = 0
        return this.#begin(s)
      case FLAG:
        s[tree.flag[this.#vcpu]!] = 0
        return this.#begun(s, 'flag')
      case TAKE:
        return this.#take(s, depth)
      case ZERO:
        return this.#zero(s)
      case BACK:
      case BACK_STORE:
        return this.#giveBack(s)
      case AGAIN:
        return s[tree.flag[this.#vcpu]!] ? this.#begin(s) : IDLE
      default:
        return this.#onLeaf(s, depth, way)
    }
  }

  /** The operations on a leaf word. */
  #onLeaf(s: State, depth: number, way: number): number {
    const tree = this.#tree
    const cell = tree.pendingAt(depth)
    const shift = 2 * this.#leafWord(s)
    switch (s[this.#pc]) {
      case PENDING:
        s[this.#due] = (s[cell]! >> shift) & 3
        return s[this.#due] ? MASK : this.#follow(s)
      case MASK:
        s[this.#due]! &= ~(s[tree.maskAt(depth)]! >> shift)
        return s[this.#due] && this.#how.filter ? FILTER : this.#choose(s)
      case FILTER:
        s[this.#due]! &= s[tree.filter[this.#vcpu]!]! >> shift
        return this.#choose(s)
      case SERVE:
        this.#deliver(s)
        return CLEAR
      case CLEAR:
        if (this.#how.clear === 'load, store') {
          s[this.#loaded] = (s[cell]! >> shift) & 3
          return STORE
        }
        s[cell]! &= ~((this.#how.clear === 'exchange' ? 3 : s[this.#due]! | s[this.#left]!) << shift)
        return this.#cleared(s, way)
      default: // STORE
        s[cell] = (s[cell]! & ~(3 << shift)) | ((s[this.#loaded]! & ~(s[this.#due]! | s[this.#left]!)) << shift)
        s[this.#loaded] = 0
        return this.#cleared(s, way)
    }
  }

  #leafWord(s: State): number {
    return (s[this.#index]! << 1) | s[this.#bit]!
  }

  /** A round begins: the two operations of NL-scan-1, in their order. */
  #begin(s: State): number {
    s[this.#depth] = s[this.#tree.guestDepth]!
    s[this.#level] = 1
    s[this.#start] = s[this.#tree.next[this.#vcpu]!]!
    return this.#how.begin[0] === 'flag' ? FLAG : TAKE
  }

  #begun(s: State, which: 'flag' | 'level 1'): number {
    if (this.#how.begin[0] !== which) return this.#follow(s)
    return which === 'flag' ? TAKE : FLAG
  }

  /** Takes the word of the current level, or only loads it if it is to be zeroed by a store of its own. */
  #take(s: State, depth: number): number {
    const level = s[this.#level]!
    const index = s[this.#index]!
    const cell = this.#tree.selectors[this.#vcpu]![level]!
    const word = (s[cell]! >> (2 * index)) & 3
    const start = s[this.#start]!
    const down = depth - level
    s[this.#rest[level]!] = word
    if (index === start >> (down + 1) && !s[this.#wrapped]) {
      // The start cuts this word in two; its own bit is kept too if there are ports below the start beneath it.
      const at = (start >> down) & 1
      const low = (1 << at) - 1
      const own = start & ((1 << down) - 1) ? 1 << at : 0
      s[this.#kept[level]!] = word & (low | own)
      s[this.#rest[level]!] = word & ~low
    }
    if (this.#how.take === 'load, store') return ZERO
    if (this.#how.take === 'exchange') s[cell]! &= ~(3 << (2 * index))
    return this.#taken(s)
  }

  #taken(s: State): number {
    return s[this.#level] === 1 ? this.#begun(s, 'level 1') : this.#follow(s)
  }

  /** The store of 0 of those who do not exchange: at once, or when everything beneath has been followed. */
  #zero(s: State): number {
    s[this.#tree.selectors[this.#vcpu]![s[this.#level]!]!]! &= ~(3 << (2 * s[this.#index]!))
    if (this.#how.take === 'load, store') return this.#taken(s)
    return this.#ascend(s) ? this.#follow(s) : this.#end(s)
  }

  /** To the level above, or into the second pass; false if the round is over. */
  #ascend(s: State): boolean {
    if (s[this.#level]! > 1) {
      s[this.#level]!--
      s[this.#index]! >>= 1
      return true
    }
    if (s[this.#wrapped] || !s[this.#kept[1]!]) return false
    s[this.#wrapped] = 1
    s[this.#rest[1]!] = s[this.#kept[1]!]!
    s[this.#kept[1]!] = 0
    return true
  }

  /** Which word the next bit leads to. */
  #follow(s: State): number {
    const depth = s[this.#depth]!
    s[this.#due] = 0
    s[this.#bit] = 0
    for (;;) {
      const level = s[this.#level]!
      const rest = s[this.#rest[level]!]!
      if (!rest) {
        if (this.#how.take === 'load, store after') return ZERO
        if (this.#ascend(s)) continue
        return this.#end(s)
      }
      const bit = rest & 1 ? 0 : 1
      s[this.#rest[level]!] = rest & (rest - 1)
      if (level === depth - 1) {
        s[this.#bit] = bit
        return PENDING
      }
      s[this.#level]!++
      s[this.#index] = (s[this.#index]! << 1) | bit
      if (!s[this.#wrapped] || s[this.#index] !== s[this.#start]! >> (depth - level)) return TAKE
      // The path in the second pass: its word was taken in the first.
      s[this.#rest[level + 1]!] = s[this.#kept[level + 1]!]!
      s[this.#kept[level + 1]!] = 0
    }
  }

  /** Which of the bits that are pending, unmasked and ours this pass and the buffer allow. */
  #choose(s: State): number {
    const start = s[this.#start]!
    if (this.#leafWord(s) === start >> 1) {
      const early = (1 << (start & 1)) - 1
      s[this.#due]! &= s[this.#wrapped] ? early : ~early
    }
    const due = s[this.#due]!
    if (!due) return this.#follow(s)
    const { buffer, overflow, serve } = this.#how
    if (buffer === 'none') {
      s[this.#rest[s[this.#level]!]!]! |= 1 << s[this.#bit]!
      return this.#stop(s)
    }
    if (typeof buffer === 'number' && buffer && ones(due) > buffer - s[this.#served]!) {
      s[this.#due] = due & -due
      if (overflow === 'all') s[this.#left] = due & (due - 1)
      // Half served: its selector bit goes back with the rest.
      if (overflow !== 'forget') s[this.#rest[s[this.#level]!]!]! |= 1 << s[this.#bit]!
    }
    return serve === 'after clear' ? CLEAR : SERVE
  }

  /** The book: what was sent before this clear is delivered, if it is this vCPU's. */
  #deliver(s: State): void {
    const tree = this.#tree
    const bits = s[this.#due]! << (2 * this.#leafWord(s))
    const second = s[tree.notify]!
    // Without a filter there is still a handler only where the port is bound.
    const ours = this.#how.filter ? bits : bits & (this.#vcpu ? second : ~second)
    s[tree.due]! &= ~ours
  }

  /** After the clear: on to the next bit, or the end of the buffer. */
  #cleared(s: State, way: number): number {
    const { buffer, serve } = this.#how
    if (serve === 'after clear') this.#deliver(s)
    const due = s[this.#due]!
    const last = (this.#leafWord(s) << 1) | (due >> 1)
    s[this.#tree.next[this.#vcpu]!] = (last + 1) & ((1 << s[this.#depth]!) - 1)
    if (buffer === 0) return this.#follow(s)
    if (buffer === 'any') return way ? this.#stop(s) : this.#follow(s)
    s[this.#served]! += ones(due)
    return s[this.#served] === buffer ? this.#stop(s) : this.#follow(s)
  }

  /** Stops early: the ancestors of what goes back go back too; then one operation after the other. */
  #stop(s: State): number {
    if (!this.#levels.some((cell) => s[cell])) return this.#end(s)
    if (this.#how.ancestors && this.#how.stop !== 'branch')
      for (let k = s[this.#level]!; k > 1; k--) if (s[this.#rest[k]!]) this.#addParent(s, k)
    return this.#backFrom(s, 0)
  }

  /** The bit of level k-1 that leads to the current word of level k goes back. */
  #addParent(s: State, k: number): void {
    s[this.#rest[k - 1]!]! |= 1 << ((s[this.#index]! >> (s[this.#level]! - k)) & 1)
  }

  /** Bits that an operation of the give-back sets. */
  #backBits(s: State, at: number): number {
    const [what, level] = this.#back[at]!
    if (what === 'flag') return 1
    if (what === 'leaf') return s[this.#left]!
    return s[(what === 'rest' ? this.#rest : this.#kept)[level]!]!
  }

  /** The word that it sets them in: its index in a cell. */
  #backWord(s: State, at: number): number {
    const [what, level] = this.#back[at]!
    if (what === 'flag') return 0
    if (what === 'leaf') return this.#leafWord(s)
    return what === 'rest'
      ? s[this.#index]! >> (s[this.#level]! - level)
      : s[this.#start]! >> (s[this.#depth]! - level + 1)
  }

  #backCell(s: State, at: number): number {
    const tree = this.#tree
    const [what, level] = this.#back[at]!
    if (what === 'flag') return tree.flag[this.#vcpu]!
    if (what === 'leaf') return tree.pendingAt(s[this.#depth]!)
    return tree.selectors[this.#vcpu]![level]!
  }

  /** The first operation of the give-back from `at` on that has something to do. */
  #backFrom(s: State, at: number): number {
    let next = at
    while (next < this.#back.length && !this.#backBits(s, next)) next++
    s[this.#at] = next
    if (next < this.#back.length) return BACK
    const pc = this.#end(s)
    return this.#how.again === 'after give-back' ? this.#begin(s) : pc
  }

  #giveBack(s: State): number {
    const at = s[this.#at]!
    const { or, stop } = this.#how
    const cell = this.#backCell(s, at)
    const bits = this.#backBits(s, at)
    const shift = 2 * this.#backWord(s, at)
    let was = (s[cell]! >> shift) & 3
    if (or === 'load, store') {
      if (s[this.#pc] === BACK) {
        s[this.#loaded] = was
        return BACK_STORE
      }
      was = s[this.#loaded]!
      s[this.#loaded] = 0
    }
    s[cell] = (s[cell]! & ~(3 << shift)) | ((was | bits) << shift)
    if (stop === 'whole' && was & bits) return this.#backFrom(s, this.#back.length)
    const [what, level] = this.#back[at]!
    if (stop === 'branch' && what === 'rest' && level > 1 && bits & ~was) this.#addParent(s, level)
    return this.#backFrom(s, at + 1)
  }

  /** The round is over. */
  #end(s: State): number {
    for (const cell of this.#locals) s[cell] = 0
    return this.#how.again === 'while flag' ? AGAIN : IDLE
  }
}
