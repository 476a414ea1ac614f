/**
 * The tree of nlevel.md with W = 2, as cells of a state, and what must hold when everything has come to rest.
 *
 *     n = 3       level 1        [ 1 0 ]                         per vCPU, with an upcall flag
 *                                  |  \
 *                 level 2     [ 1 0 ] [ 0 0 ]                    per vCPU
 *                              /  |     |  \
 *                 leaf     [1 0] [0 0] [0 0] [0 0]               pending and mask, one pair per domain
 *                  port     0 1   2 3   4 5   6 7
 *
 * The bitmap of a level is one cell; its words are pairs of bits, and every step touches one word only. Port p is bit
 * p >> (n - k) of level k. Two is the smallest width at which a word has a neighbour bit, which is all that the early
 * stop and the sharing of words are about.
 *
 * Upcalls are edges: whoever takes the flag from 0 to 1 sets `kick`, the vCPU's interrupt latch, and an upcall consumes
 * it. That is the hardest case: a level-triggered upcall looks at the flag itself and can only come more often.
 *
 * `due` is not memory but the book that the test keeps: a bit per port, set with the test-and-set of the leaf by every
 * send (merged ones too) and cleared with the clear of the leaf bit before the handler runs. What is due at rest was
 * sent and not delivered at or after the send.
 */

import { Layout, type State } from './explore.js'

/** Levels of a tree that is small enough to explore. */
export type Depth = 2 | 3 | 4

/** A selector level. */
export type Level = 1 | 2 | 3

/** The selector levels of a tree, from the one above the leaf to level 1. */
export function selectorLevels(n: Depth): Level[] {
  return ([3, 2, 1] as const).filter((k) => k < n)
}

/** Shared memory of one domain: the guest's words, the hypervisor's private state and the test's book. */
export class Tree {
  readonly layout = new Layout()
  readonly n: Depth
  readonly vcpus: number
  readonly ports: number

  /** Guest memory: the leaf. `old…` are the words in shared_info, which a switched domain leaves behind. */
  readonly pending: number
  readonly mask: number
  readonly oldPending = this.layout.cell(4)
  readonly oldMask = this.layout.cell(4)
  /** Guest memory per vCPU: selectors by level (index 0 is not used), upcall flag, filter, where the next scan begins. */
  readonly selectors: number[][]
  readonly flag: number[]
  readonly filter: number[]
  readonly next: number[]

  /** Hypervisor: depth in force, bits of the ports whose notify vCPU is 1, per vCPU the depth of its active selectors. */
  readonly depth = this.layout.cell(3)
  readonly notify: number
  readonly active: number[]
  /** Hypervisor: the delivery lock, and who is inside an operation (a bit a thread), and whom a switch waits for. */
  readonly readers = this.layout.cell(3)
  readonly writer = this.layout.cell(1)
  readonly inside = this.layout.cell(4)
  readonly awaited = this.layout.cell(4)

  /** Per vCPU: interrupt latch, and whether its guest code holds upcalls off. Depth that the guest's scans use. */
  readonly kick: number[]
  readonly held: number[]
  readonly guestDepth = this.layout.cell(3)
  /** The test's book: sent and not delivered; and which masks the guest believes to be set. */
  readonly due: number
  readonly believed: number
  /** Program counters of the scans of each vCPU, the outermost first; 0 = not scanning. */
  readonly scans: number[][]
  #marks = 0

  constructor(n: Depth, vcpus = 1) {
    const perVcpu = (bits: number) => Array.from({ length: vcpus }, () => this.layout.cell(bits))
    this.n = n
    this.vcpus = vcpus
    this.ports = 1 << n
    this.pending = this.layout.cell(this.ports)
    this.mask = this.layout.cell(this.ports)
    this.notify = this.layout.cell(this.ports)
    this.due = this.layout.cell(this.ports)
    this.believed = this.layout.cell(this.ports)
    this.selectors = Array.from({ length: vcpus }, () => {
      const levels: number[] = [-1]
      for (let k = 1; k < n; k++) levels.push(this.layout.cell(1 << k))
      return levels
    })
    this.flag = perVcpu(1)
    this.kick = perVcpu(1)
    this.held = perVcpu(1)
    this.active = perVcpu(3)
    this.next = perVcpu(n)
    this.filter = perVcpu(this.ports)
    this.scans = Array.from({ length: vcpus }, () => [])
  }

  /** The leaf in force at a depth: of a tree with more than two levels, depth 2 is the pair in shared_info. */
  pendingAt(depth: number): number {
    return depth === this.n ? this.pending : this.oldPending
  }
  maskAt(depth: number): number {
    return depth === this.n ? this.mask : this.oldMask
  }

  /** A bit of `inside` for one more thread. */
  newMark(): number {
    return 1 << this.#marks++
  }

  /** No scan runs on the vCPU. */
  idle(s: State, vcpu: number): boolean {
    return this.scans[vcpu]!.every((pc) => s[pc] === 0)
  }

  /**
   * A tree at rest: every port unmasked, bound to vCPU 0, no event, all selectors active. Call it when all threads have
   * been made, since each brings cells of its own.
   */
  atRest(): State {
    const s = new Int32Array(this.layout.cells)
    s[this.depth] = this.n
    s[this.guestDepth] = this.n
    for (const cell of this.active) s[cell] = this.n
    s[this.filter[0]!] = (1 << this.ports) - 1
    return s
  }

  /** Binds a port to vCPU 1, with both filters. */
  bindToSecond(s: State, port: number): void {
    s[this.notify]! |= 1 << port
    s[this.filter[0]!]! &= ~(1 << port)
    s[this.filter[1]!]! |= 1 << port
  }

  /** Masks a port. */
  maskPort(s: State, port: number): void {
    s[this.maskAt(s[this.depth]!)]! |= 1 << port
    s[this.believed]! |= 1 << port
  }

  /** A send that is complete: leaf, selectors, flag, upcall due. */
  sent(s: State, port: number): void {
    const depth = s[this.depth]!
    const vcpu = (s[this.notify]! >> port) & 1
    s[this.pendingAt(depth)]! |= 1 << port
    s[this.due]! |= 1 << port
    if (s[this.active[vcpu]!] !== depth) return
    for (let k = 1; k < depth; k++) s[this.selectors[vcpu]![k]!]! |= 1 << (port >> (depth - k))
    s[this.flag[vcpu]!] = 1
    s[this.kick[vcpu]!] = 1
  }

  /**
   * NL-reg-5 and the aim of it all: at rest no port is pending, unmasked, bound to a vCPU with active selectors and
   * undelivered, and what cannot be delivered yet is still latched.
   */
  lost(s: State): string | null {
    const depth = s[this.depth]!
    const pending = s[this.pendingAt(depth)]!
    for (let port = 0; port < this.ports; port++) {
      const bit = 1 << port
      if (s[this.due]! & bit && !(pending & bit)) return `port ${port} is lost: sent, not pending, never delivered`
      const deliverable = s[this.active[(s[this.notify]! >> port) & 1]!] === depth && !(s[this.believed]! & bit)
      if (pending & bit && deliverable) return `port ${port} is lost: pending, unmasked, and nobody will look`
    }
    return null
  }

  /**
   * The stronger claim of the orders that nlevel.md allows: nothing is lost, and no selector bit and no flag is left
   * over with nobody to look at it, which would stop the climbs of later senders (an orphan, NL-clear-1).
   */
  broken(s: State): string | null {
    const lost = this.lost(s)
    if (lost) return lost
    for (let vcpu = 0; vcpu < this.vcpus; vcpu++) {
      if (s[this.active[vcpu]!] !== s[this.depth]) continue
      for (let k = 1; k < this.n; k++)
        if (s[this.selectors[vcpu]![k]!]) return `vCPU ${vcpu} keeps a bit in level ${k} and nobody will look`
      if (s[this.flag[vcpu]!]) return `vCPU ${vcpu} keeps its upcall flag and nobody will look`
    }
    return null
  }
}
