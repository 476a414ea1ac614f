/**
 * Naming a vCPU's selectors to the hypervisor: set_nlevel_selectors with its arrays in guest memory. Before register_nlevel
 * they are only recorded, and the commit makes them active; for a vCPU that is added to a registered tree they are active at
 * once, with every bit set, and the vCPU scans once in full (NL-sel-3).
 *
 *     areas      selector_area[levels - 2], level 2 first, each one's frame numbers behind them
 */

import { encode, PAGE_SIZE, SELECTOR_AREA } from '../abi/index.js'
import type { OnRefusal } from '../errno.js'
import { Errno } from '../errno.js'
import type { FrameAllocator } from './frames.js'
import type { GuestHypercalls } from './platform.js'

/** One selector level of one vCPU: its frames, and the offset of the words in the first. */
export interface SelectorFrames {
  readonly gfns: readonly number[]
  readonly offset: number
}

/** A tree's depth and leaf pages. */
export interface Shape {
  readonly levels: number
  readonly nrPages: number
}

/** Names the selectors of a vCPU, with the arrays at guest-physical address `areas`. Returns 0 or -errno. */
export function nameSelectors(
  calls: GuestHypercalls,
  areas: number,
  { levels, nrPages }: Shape,
  vcpu: number,
  selectors: readonly SelectorFrames[],
  onRefusal?: OnRefusal,
): number {
  let at = areas + selectors.length * SELECTOR_AREA.size
  selectors.forEach((level, i) => {
    const row = { gfns: at, nr_pages: level.gfns.length, offset: level.offset }
    encode(SELECTOR_AREA, calls.view(areas + i * SELECTOR_AREA.size, SELECTOR_AREA.size), row)
    writeGfns(calls, at, level.gfns)
    at += level.gfns.length * 8
  })
  return calls.evtchn(0, 'set_nlevel_selectors', { vcpu, levels, nr_pages: nrPages, pad: 0, areas }, onRefusal)
}

/** The same for a vCPU of a registered tree, with a frame of the guest's for the arrays. */
export function addSelectors(
  by: { readonly calls: GuestHypercalls; readonly frames: FrameAllocator },
  shape: Shape,
  vcpu: number,
  selectors: readonly SelectorFrames[],
  onRefusal: OnRefusal,
): number {
  const scratch = by.frames.allocate(1)
  if (!scratch) return -Errno.ENOMEM
  const rc = nameSelectors(by.calls, scratch[0]! * PAGE_SIZE, shape, vcpu, selectors, onRefusal)
  by.frames.release(scratch)
  return rc
}

/** Drops what was named of the first `vcpus` vCPUs and not committed. */
export function dropSelectors(calls: GuestHypercalls, vcpus: readonly number[]): void {
  for (const vcpu of vcpus) calls.evtchn(0, 'set_nlevel_selectors', { vcpu, levels: 0, nr_pages: 0, pad: 0, areas: 0 })
}

/** Frame numbers as u64[] in guest memory. */
export function writeGfns(calls: GuestHypercalls, gpa: number, gfns: readonly number[]): void {
  const view = calls.view(gpa, gfns.length * 8)
  gfns.forEach((gfn, i) => {
    view.setBigUint64(i * 8, BigInt(gfn), true)
  })
}
