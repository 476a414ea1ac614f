/**
 * Registering a tree by hypercall. The guest lays out frames of its own RAM, names the
 * selectors of every vCPU, then commits with one register_nlevel (NL-query-1, NL-reg-3). For FIFO see queues.ts; choose.ts
 * says which form is tried when.
 */

import { type Args, DOMID_SELF, fullTreePages, levelBytes, maxEvtchns, PAGE_SIZE } from '../abi/index.js'
import { Errno, errnoName } from '../errno.js'
import type { Attempt, Registrar } from './form.js'
import { fillFrame } from './frames.js'
import type { GuestPlatform } from './platform.js'
import { dropSelectors, nameSelectors, type SelectorFrames, writeGfns } from './selectors.js'
import { Tree, type TreeFrames } from './tree.js'

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

/** One selector level of a tree: bytes from one vCPU's to the next, vCPUs to a frame (0: frames to a vCPU), frames. */
interface SelectorLevel {
  readonly size: number
  readonly stride: number
  readonly perFrame: number
  readonly frames: number
}

/** How the selectors of all vCPUs lie in frames, level 2 first. */
function selectorLevels({ bits, vcpus }: GuestPlatform, levels: number, nrPages: number): readonly SelectorLevel[] {
  const channels = maxEvtchns(bits, levels, nrPages)
  return Array.from({ length: levels - 2 }, (_, i) => {
    const size = levelBytes(bits, levels, i + 2, channels)
    // A level that fits in a page shares one with the same level of other vCPUs, none crossing its end, each from a
    // multiple of 8 on (NL-sel-2).
    const stride = (size + 7) & ~7
    const perFrame = stride > PAGE_SIZE ? 0 : Math.floor(PAGE_SIZE / stride)
    return {
      size,
      stride,
      perFrame,
      frames: perFrame ? Math.ceil(vcpus / perFrame) : vcpus * Math.ceil(size / PAGE_SIZE),
    }
  })
}

/** Frames that a tree takes: two bitmaps, and selectors for every vCPU. */
export const framesOfTree = (platform: GuestPlatform, levels: number, nrPages: number): number =>
  selectorLevels(platform, levels, nrPages).reduce((sum, { frames }) => sum + frames, 2 * nrPages)

/** Takes frames for a tree: pending zeroed, mask all ones, selectors zeroed (NL-reg-3). Null: not enough RAM. */
function layOut({ platform, frames }: Registrar, levels: number, nrPages: number): TreeFrames | null {
  const { vcpus, memory } = platform
  const all = frames.allocate(framesOfTree(platform, levels, nrPages))
  if (!all) return null
  const rest = all.values()
  const take = (count: number) => Array.from({ length: count }, () => rest.next().value as number)
  const pending = take(nrPages)
  const mask = take(nrPages)
  const selectors: SelectorFrames[][] = Array.from({ length: vcpus }, () => [])
  for (const { size, stride, perFrame, frames: count } of selectorLevels(platform, levels, nrPages)) {
    const gfns = take(count)
    const own = Math.ceil(size / PAGE_SIZE)
    selectors.forEach((levelsOf, vcpu) => {
      if (perFrame) levelsOf.push({ gfns: [gfns[Math.floor(vcpu / perFrame)]!], offset: (vcpu % perFrame) * stride })
      else levelsOf.push({ gfns: gfns.slice(vcpu * own, (vcpu + 1) * own), offset: 0 })
    })
  }
  for (const gfn of all) fillFrame(memory, gfn, 0)
  for (const gfn of mask) fillFrame(memory, gfn, 0xff)
  return { pending, mask, selectors, all }
}

/** Names the selectors of every vCPU, then commits. A failure drops what was named. */
function register(by: Registrar, levels: number, nrPages: number, frames: TreeFrames, out: Args): number {
  const { calls } = by
  // Arrays for the hypercalls: a leaf array of at most 1,024 frame numbers is two frames long.
  const scratch = by.frames.allocateRun(5)
  if (!scratch) return -Errno.ENOMEM
  const [pendingGpa, maskGpa, areasGpa] = [0, 2, 4].map((i) => scratch[i]! * PAGE_SIZE) as [number, number, number]
  try {
    const named: number[] = []
    for (const vcpu of by.up) {
      const rc = nameSelectors(calls, areasGpa, { levels, nrPages }, vcpu, frames.selectors[vcpu]!)
      if (rc < 0) {
        dropSelectors(calls, named)
        return rc
      }
      named.push(vcpu)
    }
    writeGfns(calls, pendingGpa, frames.pending)
    writeGfns(calls, maskGpa, frames.mask)
    Object.assign(out, { levels, nr_pages: nrPages, pending_gfns: pendingGpa, mask_gfns: maskGpa, pad: 0 })
    const rc = calls.evtchn(0, 'register_nlevel', out)
    if (rc < 0) dropSelectors(calls, named)
    return rc
  } finally {
    by.frames.release(scratch)
  }
}
