/**
 * What is measured: groups of contenders that raise and scan the same number of ports, placed in the same way.
 *
 *     spread      uniformly over all ports of the depth: the deeper the tree, the fewer neighbours an event has
 *     near        uniformly over the first W² ports, which every depth has: the same ports at every depth
 *     clustered   one contiguous run somewhere in the smallest tree that holds it: the same ports at every depth
 *
 * One port is a run as well; it is not measured twice.
 */

import { type Bits, fullTree } from 'evtchn/abi'
import { type Placement, PortDraw } from './ports.js'

export const LEVELS = [2, 3, 4] as const
export const PENDING = [1, 16, 256, 4096, 65536] as const
/** Of these, what a quick look takes. */
export const QUICK_PENDING: readonly number[] = [1, 256, 4096]
export const PLACEMENTS = ['spread', 'near', 'clustered'] as const

/** Contenders of one group run in turn, round by round. */
export interface Group {
  readonly bits: Bits
  /** Number of pending ports. */
  readonly k: number
  readonly placement: Placement
  /** The depths that have room for k ports placed like that. */
  readonly levels: readonly number[]
  /** Trees that one cycle raises and scans (see cycle.ts). */
  readonly trees: number
  /** Different sets of ports for each tree, used in turn (see cycle.ts). */
  readonly lists: number
}

/** Most trees in a cycle. */
export const MAX_TREES = 16
/** Ports that a cycle raises, if it takes no more trees than that. */
const CYCLE_PORTS = 64
/** Sets of ports before the first comes again, and ports before that, whichever is less. See cycle.ts. */
const SETS = 4096
const PORTS = 65536

/** Ports that a placement of k ports draws from at a depth. */
export function rangeOf(bits: Bits, levels: number, placement: Placement, k: number): number {
  if (placement === 'spread') return fullTree(bits, levels)
  const near = fullTree(bits, 2)
  if (placement === 'near') return near
  return LEVELS.map((n) => fullTree(bits, n)).find((ports) => ports >= k) ?? near
}

/** What is measured: each of these with each other, where it can be. */
export interface Selection {
  readonly bits: readonly Bits[]
  readonly levels: readonly number[]
  readonly pending: readonly number[]
  readonly placed: readonly Placement[]
}

/** All groups of a selection. */
export function plan({ bits: widths, levels: depths, pending, placed }: Selection): Group[] {
  const groups: Group[] = []
  for (const bits of widths)
    for (const k of pending)
      for (const placement of placed) {
        // One port is a run as well; see above.
        if (k === 1 && placement === 'clustered') continue
        const levels = depths.filter((n) => k <= Math.min(fullTree(bits, n), rangeOf(bits, n, placement, k)))
        if (levels.length === 0) continue
        const trees = Math.min(MAX_TREES, Math.ceil(CYCLE_PORTS / k))
        const lists = Math.max(2, Math.min(SETS, PORTS / k) / trees)
        groups.push({ bits, k, placement, levels, trees, lists })
      }
  return groups
}

/** The ports of a group at one depth: lists × trees × k, drawn from the seed. */
export function portsOf(group: Group, levels: number, seed: number): Uint32Array {
  const { bits, k, placement, trees, lists } = group
  const all = new Uint32Array(lists * trees * k)
  const draw = new PortDraw(seed, rangeOf(bits, levels, placement, k), placement === 'clustered')
  for (let at = 0; at < all.length; at += k) draw.fill(all.subarray(at, at + k))
  return all
}
