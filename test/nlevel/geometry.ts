/**
 * The geometry of a tree as nlevel.md section 1 has it, written from the rules and not from the library, so that the two
 * can differ. W bits a word, n levels, P = 32,768 bits a page.
 *
 *     level 1      vcpu_info.evtchn_pending_sel            bit p div W^(n-1)
 *     level k      selector frames of the vCPU             bit p div W^(n-k)
 *     level n      pending and mask frames of the domain   bit p
 */

import type { Bits } from '../../src/abi/index.js'

export const P = 32768
export const PAGE = 4096

/** Frames of one selector level of a vCPU; its words begin at `offset` of the first. */
export interface Area {
  gfns: number[]
  offset: number
}

/** A tree laid out in frames. */
export interface Plan {
  bits: Bits
  levels: number
  nrPages: number
  pending: number[]
  mask: number[]
  /** Per vCPU, level 2 first. */
  selectors: Area[][]
  /** The first frame behind it all. */
  end: number
}

/** NL-tree-3: what port numbers fit. */
export const channelsOf = (bits: Bits, levels: number, nrPages: number): number =>
  levels === 2 ? bits * bits : Math.min(bits ** levels, nrPages * P)

/** Leaf pages of the full tree. */
export const fullPages = (bits: Bits, levels: number): number => Math.ceil(bits ** levels / P)

/** NL-tree-2: the bit of a port in level k, and how many bits that level has. */
export const bitAt = (bits: Bits, levels: number, k: number, port: number): number =>
  Math.floor(port / bits ** (levels - k))
export const bitsAt = (bits: Bits, levels: number, k: number, channels: number): number =>
  Math.ceil(channels / bits ** (levels - k))

/** Bytes of level k, in whole words. */
export const bytesAt = (bits: Bits, levels: number, k: number, channels: number): number =>
  (Math.ceil(bitsAt(bits, levels, k, channels) / bits) * bits) / 8

/**
 * Lays a tree out from frame `first` on. An area that is smaller than its frame ends where the frame ends, as near as a
 * multiple of 8 allows: a write beyond it leaves the frame.
 */
export function plan(bits: Bits, levels: number, nrPages: number, vcpus: number, first: number): Plan {
  let next = first
  const take = (count: number) => Array.from({ length: count }, () => next++)
  const channels = channelsOf(bits, levels, nrPages)
  const pending = take(nrPages)
  const mask = take(nrPages)
  const selectors = Array.from({ length: vcpus }, () =>
    Array.from({ length: levels - 2 }, (_, i) => {
      const size = bytesAt(bits, levels, i + 2, channels)
      const offset = size > PAGE ? 0 : (PAGE - size) & ~7
      return { gfns: take(Math.ceil(size / PAGE)), offset }
    }),
  )
  return { bits, levels, nrPages, pending, mask, selectors, end: next }
}
