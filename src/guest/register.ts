/**
 * Registering a tree by hypercall. The guest lays out frames of its own RAM, names the
 * selectors of every vCPU, then commits with one register_nlevel (NL-query-1, NL-reg-3). For FIFO see queues.ts; choose.ts
 * says which form is tried when.
 */

import {
  type Args,
  DOMID_SELF,
  encode,
  fullTreePages,
  levelBytes,
  maxEvtchns,
  PAGE_SIZE,
  SELECTOR_AREA,
} from '../abi/index.js'
import { Errno, errnoName } from '../errno.js'
import type { Attempt, Registrar } from './form.js'
import { fillFrame } from './frames.js'
import type { GuestHypercalls } from './platform.js'
import { type SelectorFrames, Tree, type TreeFrames } from './tree.js'

/** What is asked of one depth. */
export interface TreeSize {
  levels: number
  /** Default: as many as the full tree takes or the host grants. */
  nrPages?: number | undefined
  /** Ask for `nrPages` as they are, even if the host grants fewer. */
  exact?: boolean | undefined
}

/** One depth: asks what is granted, clamps the pages, lays out and registers. Null leaves everything as it was. */
export function registerTree(by: Registrar, size: TreeSize, attempts: Attempt[]): Tree | null {
  const { levels } = size
  let nrPages = Math.min(size.nrPages ?? Number.POSITIVE_INFINITY, fullTreePages(by.platform.bits, levels))
  const failed = (answer: string) => {
    attempts.push({ levels, nrPages, answer })
    return null
  }
  const query: Args = { dom: DOMID_SELF, max_levels: 0, max_pages: 0, abi: 0 }
  const asked = by.calls.evtchn(0, 'query_nlevel', query)
  if (asked < 0) return failed(errnoName(asked))
  const clamps = !size.exact || size.nrPages === undefined
  if (query.max_levels! >= levels && clamps) nrPages = Math.min(nrPages, query.max_pages!)
  // The host's own reason comes first: it does not depend on how much memory the guest has.
  const refused = query.max_levels! < levels || nrPages > query.max_pages! ? refusal(by, levels, nrPages) : 0
  if (refused < 0) return failed(errnoName(refused))
  const frames = layOut(by, levels, nrPages)
  if (!frames) return failed('no memory')
  const out: Args = {}
  const rc = register(by, levels, nrPages, frames, out)
  if (rc < 0) {
    by.frames.release(frames.all)
    return failed(errnoName(rc))
  }
  attempts.push({ levels, nrPages, answer: 'ok' })
  return new Tree(by, { levels, channels: out.nr_channels!, frames })
}

/**
 * Why the host does not grant a size: its checks of size come before it looks at the areas (NL-sel-1), so none are laid
 * out. The areas lie beyond the end of memory: where the size is granted after all, nothing is recorded either.
 */
function refusal({ calls, platform }: Registrar, levels: number, nrPages: number): number {
  const areas = platform.memory.frames * PAGE_SIZE
  const rc = calls.evtchn(0, 'set_nlevel_selectors', { vcpu: 0, levels, nr_pages: nrPages, pad: 0, areas })
  return rc === -Errno.EFAULT ? 0 : rc
}

/** Takes frames for a tree: pending zeroed, mask all ones, selectors zeroed (NL-reg-3). Null: not enough RAM. */
function layOut({ platform, frames }: Registrar, levels: number, nrPages: number): TreeFrames | null {
  const { bits, vcpus, memory } = platform
  const channels = maxEvtchns(bits, levels, nrPages)
  const sizes = Array.from({ length: levels - 2 }, (_, i) => levelBytes(bits, levels, i + 2, channels))
  // A level that fits in a page shares one with the same level of other vCPUs, none crossing its end, each from a
  // multiple of 8 on (NL-sel-2).
  const strides = sizes.map((size) => (size + 7) & ~7)
  const perFrame = strides.map((stride) => (stride > PAGE_SIZE ? 0 : Math.floor(PAGE_SIZE / stride)))
  const wanted = sizes.map((size, i) =>
    perFrame[i] ? Math.ceil(vcpus / perFrame[i]) : vcpus * Math.ceil(size / PAGE_SIZE),
  )
  const all = frames.allocate(wanted.reduce((sum, count) => sum + count, 2 * nrPages))
  if (!all) return null
  const rest = all.values()
  const take = (count: number) => Array.from({ length: count }, () => rest.next().value as number)
  const pending = take(nrPages)
  const mask = take(nrPages)
  const selectors: SelectorFrames[][] = Array.from({ length: vcpus }, () => [])
  sizes.forEach((size, i) => {
    const each = perFrame[i]!
    const gfns = take(wanted[i]!)
    const own = Math.ceil(size / PAGE_SIZE)
    selectors.forEach((levelsOf, vcpu) => {
      if (each) levelsOf.push({ gfns: [gfns[Math.floor(vcpu / each)]!], offset: (vcpu % each) * strides[i]! })
      else levelsOf.push({ gfns: gfns.slice(vcpu * own, (vcpu + 1) * own), offset: 0 })
    })
  })
  for (const gfn of all) fillFrame(memory, gfn, 0)
  for (const gfn of mask) fillFrame(memory, gfn, 0xff)
  return { pending, mask, selectors, all }
}

/** Names the selectors of every vCPU, then commits. A failure drops what was named. */
function register(by: Registrar, levels: number, nrPages: number, frames: TreeFrames, out: Args): number {
  const { calls, platform } = by
  // Arrays for the hypercalls: a leaf array of at most 1,024 frame numbers is two frames long.
  const scratch = by.frames.allocateRun(5)
  if (!scratch) return -Errno.ENOMEM
  const [pendingGpa, maskGpa, areasGpa] = [0, 2, 4].map((i) => scratch[i]! * PAGE_SIZE) as [number, number, number]
  try {
    for (let vcpu = 0; vcpu < platform.vcpus; vcpu++) {
      writeAreas(calls, areasGpa, frames.selectors[vcpu]!)
      const args = { vcpu, levels, nr_pages: nrPages, pad: 0, areas: areasGpa }
      const rc = calls.evtchn(0, 'set_nlevel_selectors', args)
      if (rc < 0) return dropSelectors(by, vcpu, rc)
    }
    writeGfns(calls, pendingGpa, frames.pending)
    writeGfns(calls, maskGpa, frames.mask)
    Object.assign(out, { levels, nr_pages: nrPages, pending_gfns: pendingGpa, mask_gfns: maskGpa, pad: 0 })
    const rc = calls.evtchn(0, 'register_nlevel', out)
    return rc < 0 ? dropSelectors(by, platform.vcpus, rc) : rc
  } finally {
    by.frames.release(scratch)
  }
}

function dropSelectors({ calls }: Registrar, vcpus: number, rc: number): number {
  for (let vcpu = 0; vcpu < vcpus; vcpu++)
    calls.evtchn(0, 'set_nlevel_selectors', { vcpu, levels: 0, nr_pages: 0, pad: 0, areas: 0 })
  return rc
}

/** selector_area[], level 2 first, each one's frame numbers behind it. */
function writeAreas(calls: GuestHypercalls, gpa: number, levels: readonly SelectorFrames[]): void {
  let at = gpa + levels.length * SELECTOR_AREA.size
  levels.forEach((level, i) => {
    const row = { gfns: at, nr_pages: level.gfns.length, offset: level.offset }
    encode(SELECTOR_AREA, calls.view(gpa + i * SELECTOR_AREA.size, SELECTOR_AREA.size), row)
    writeGfns(calls, at, level.gfns)
    at += level.gfns.length * 8
  })
}

function writeGfns(calls: GuestHypercalls, gpa: number, gfns: readonly number[]): void {
  const view = calls.view(gpa, gfns.length * 8)
  gfns.forEach((gfn, i) => {
    view.setBigUint64(i * 8, BigInt(gfn), true)
  })
}
