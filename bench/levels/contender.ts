/** Who takes part. */

import type { Bits } from 'evtchn/abi'
import type { Group } from './plan.js'

export type Op = 'send' | 'scan'
export const OPS = ['send', 'scan'] as const

/** What a contender is given at the start of a group: the depth and the ports, lists × trees × k. */
export interface Task {
  readonly group: Group
  readonly levels: number
  readonly bits: Bits
  readonly ports: Uint32Array
  readonly seed: number
}

/** A contender inside this process: raises and scans; the cycle around it is cycle.ts. */
export interface Contender {
  /** Trees that it raises and scans in a cycle. */
  readonly trees: number
  /** Raises the ports of a list in the first `trees` trees; returns how many vCPUs must be notified: one a tree. */
  send(list: number, trees: number): number
  /** Scans the first `trees` trees; returns how many ports it delivered. */
  scan(trees: number): number
  /** The ports that the last scan delivered in a tree. */
  delivered(tree: number): ArrayLike<number>
  /** Lets the next scan begin at port 0. Contenders that have it deliver in the same order, which is checked. */
  rewind?(): void
  /** Scans one tree with room for `max` ports. Contenders that have it are checked with buffers that fill up. */
  short?(tree: number, max: number): ArrayLike<number>
}

/** A contender as the rounds see it: in this process, or another program. */
export interface Runner {
  readonly name: string
  readonly levels: number
  /** True if `check` and `sample` return promises. */
  readonly remote: boolean
  /** Events in a cycle. */
  readonly events: number
  /**
   * Raises and scans the first lists and throws a CheckError unless the ports delivered are the ports raised. Returns a
   * digest of the ports in the order of their delivery, or nothing if the contender has an order of its own.
   */
  check(): number | undefined | Promise<number | undefined>
  /** Nanoseconds per event of one half of so many cycles, without those that took over `limit` ns; NaN if all did. */
  sample(op: Op, cycles: number, limit: number): number | Promise<number>
  close(): void
}

/** Lists that a check goes through; all of them would take minutes where the leaf is walked. */
export const CHECKED_LISTS = 32

/** Names of the contenders, in the order of the tables. `threads` is the build for shared memory, with real atomics. */
export const NAMES = {
  core: 'core',
  coreSingle: 'core, single',
  calls: 'calls',
  callsSingle: 'calls, single',
  native: 'C',
  nativeOwn: 'C, -march=native',
  flat: 'flat',
  flatSingle: 'flat, single',
  atomics: 'Atomics',
  bitset: 'bitset',
  typedfastbitset: 'typedfastbitset',
  set: 'Set',
} as const
