/**
 * N levels in contiguous pages, below an address if the host says so: the restrictions that Jan Beulich's review calls "a
 * secondary aspect". One call has three frame numbers instead of arrays.
 *
 *     evtchn_register_contiguous, 40 bytes
 *       0 levels   4 nr_pages   8 pending_gfn   16 mask_gfn   24 selectors_gfn   32 nr_vcpus   36 pad
 *
 * From selectors_gfn on: level 2 of vCPU 0, level 3 of vCPU 0, …, level 2 of vCPU 1, …, each from a page of its own on.
 * It saves the arrays and their copies: 16 bytes a leaf page. It costs the guest a run of free frames, which a kernel that has
 * run for a while may not have, and a page for each level of each vCPU.
 */

import { levelBytes, MAX_LEAF_PAGES, maxEvtchns, PAGE_SIZE, struct } from '../abi/index.js'
import { among, options, within } from '../check.js'
import { Errno } from '../errno.js'
import type { ChannelForm, Registrar } from '../guest/index.js'
import type { OwnGuest } from '../host/own_abi.js'
import { call, fill, registered, type Variant } from './common.js'

const CMD = 130

const REGISTER = struct('evtchn_register_contiguous', 40, {
  levels: [0, 4, 'in'],
  nr_pages: [4, 4, 'in'],
  pending_gfn: [8, 8, 'in'],
  mask_gfn: [16, 8, 'in'],
  selectors_gfn: [24, 8, 'in'],
  nr_vcpus: [32, 4, 'in'],
  pad: [36, 4, 'in'],
})

const run32 = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i)

/** Selectors from a frame on, each level of each vCPU from a page of its own; and how many frames these are. */
function selectorsFrom(first: number, bits: 32 | 64, levels: number, nrPages: number, vcpus: number) {
  const channels = maxEvtchns(bits, levels, nrPages)
  let gfn = first
  const selectors = Array.from({ length: vcpus }, () =>
    Array.from({ length: levels - 2 }, (_, i) => {
      const pages = Math.ceil(levelBytes(bits, levels, i + 2, channels) / PAGE_SIZE)
      const gfns = run32(gfn, pages)
      gfn += pages
      return { gfns, offset: 0 }
    }),
  )
  return { selectors, frames: gfn - first }
}

function run(guest: OwnGuest, args: Record<string, number>, belowGfn: number) {
  const { EINVAL, ENOSPC } = Errno
  const { levels, nr_pages: nrPages, pending_gfn, mask_gfn, selectors_gfn, nr_vcpus } = args as Record<string, number>
  if (args.pad) return guest.refuse(EINVAL, `pad is ${args.pad}, not 0`)
  // Before anything is computed from them: the numbers are the guest's.
  if (levels! > guest.maxLevels || nrPages! > guest.maxLeafPages)
    return guest.refuse(
      ENOSPC,
      `${levels} levels and ${nrPages} pages; ${guest.maxLevels} and ${guest.maxLeafPages} are granted`,
    )
  if (levels! < 3 || nrPages! < 1) return guest.refuse(EINVAL, `${levels} levels and ${nrPages} pages`)
  if (nr_vcpus! < 1 || nr_vcpus! > guest.vcpus)
    return guest.refuse(EINVAL, `${nr_vcpus} vCPUs; the domain has ${guest.vcpus}`)
  const { selectors, frames } = selectorsFrom(selectors_gfn!, guest.bits, levels!, nrPages!, nr_vcpus!)
  const end = Math.max(pending_gfn! + nrPages!, mask_gfn! + nrPages!, selectors_gfn! + frames)
  if (end > belowGfn) return guest.refuse(EINVAL, `frames up to ${end}; all are to be below ${belowGfn}`)
  const tree = { levels: levels!, pendingGfns: run32(pending_gfn!, nrPages!), maskGfns: run32(mask_gfn!, nrPages!) }
  return guest.registerTree({ ...tree, selectors })
}

function register(by: Registrar, levels: number, nrPages: number): ChannelForm | number {
  const { vcpus, bits } = by.platform
  const { frames } = selectorsFrom(0, bits, levels, nrPages, vcpus)
  const all = by.frames.allocateRun(2 * nrPages + frames)
  if (!all) return -Errno.ENOMEM
  const [pending_gfn, mask_gfn, selectors_gfn] = [all[0]!, all[nrPages]!, all[2 * nrPages]!]
  const pending = run32(pending_gfn, nrPages)
  const mask = run32(mask_gfn, nrPages)
  const { selectors } = selectorsFrom(selectors_gfn, bits, levels, nrPages, vcpus)
  fill(by, all, 0)
  fill(by, mask, 0xff)
  return registered(by, levels, { pending, mask, selectors, all }, 1, () =>
    call(by, CMD, REGISTER, {
      levels,
      nr_pages: nrPages,
      pending_gfn,
      mask_gfn,
      selectors_gfn,
      nr_vcpus: vcpus,
      pad: 0,
    }),
  )
}

/** `levels` and `nrPages` that the guest asks for, default 3 and 1; `belowGfn`: no frame at or beyond it. Default: no limit. */
export function contiguousLevels(given: { levels?: 3 | 4 | 5; nrPages?: number; belowGfn?: number } = {}): Variant {
  const {
    levels = 3,
    nrPages = 1,
    belowGfn = Number.POSITIVE_INFINITY,
  } = options('contiguousLevels', given, {
    levels: among<3 | 4 | 5>(3, 4, 5),
    nrPages: within(1, MAX_LEAF_PAGES),
    belowGfn: within(1, Number.MAX_SAFE_INTEGER),
  })
  const name = `contiguous, ${levels} levels`
  const operation = { name: 'EVTCHNOP_register_contiguous', cmd: CMD, struct: REGISTER }
  return {
    abi: { name, operations: [{ ...operation, run: (guest, args) => run(guest, args, belowGfn) }] },
    form: { name, register: (by) => register(by, levels, nrPages) },
  }
}
