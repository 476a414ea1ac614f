/** Geometry of the N-level tree (nlevel.md section 1). Pure arithmetic; W = word bits, b = log2 W, n = levels. */

import { PAGE_BITS } from './numbers.js'
import { type Bits, wordShift } from './shared_info.js'

/** Deepest tree that the table offers: 4 for 64-bit, 5 for 32-bit. */
export const maxDepth = (bits: Bits): number => (bits === 64 ? 4 : 5)

/** W^n. */
export const fullTree = (bits: Bits, levels: number): number => 2 ** (wordShift(bits) * levels)

/** Leaf pages per bitmap that W^n channels need. */
export const fullTreePages = (bits: Bits, levels: number): number => Math.ceil(fullTree(bits, levels) / PAGE_BITS)

/** Channels of a tree: W² at n = 2, else min(W^n, pages · P) (NL-tree-3). */
export function maxEvtchns(bits: Bits, levels: number, nrPages: number): number {
  return levels === 2 ? fullTree(bits, 2) : Math.min(fullTree(bits, levels), nrPages * PAGE_BITS)
}

/** Bits of level k, not rounded (NL-tree-2). */
export function levelBits(bits: Bits, levels: number, k: number, channels: number): number {
  return Math.ceil(channels / 2 ** (wordShift(bits) * (levels - k)))
}

/** Bytes of level k's words, 1 < k < n. */
export function levelBytes(bits: Bits, levels: number, k: number, channels: number): number {
  return Math.ceil(levelBits(bits, levels, k, channels) / bits) * (bits / 8)
}
