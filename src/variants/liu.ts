/**
 * Wei Liu's three levels (RFC and series of December 2012 to March 2013), as far as the public record tells: one structure
 * registers everything at once, the bitmaps before the selectors of all vCPUs.
 *
 *     evtchn_register_3level, 40 bytes
 *       0 nr_pages (1 … 8)   4 nr_vcpus   8 evtchn_pending → u64[nr_pages]   16 evtchn_mask → u64[nr_pages]
 *       24 l2sel_mfns → u64[nr_vcpus]   32 l2sel_offsets → u32[nr_vcpus]
 *
 * What hindsight changed in the N-level ABI, field by field:
 *   no `levels`        three, and no more: the review of 2012 had asked for a number
 *   nr_pages           8 at most, which a fourth level would outgrow
 *   nr_vcpus, l2sel_*  all vCPUs in one call: one that comes up later has no selector, and is never upcalled.
 *                      set_nlevel_selectors is a call of its own for each, before the commit or after it
 *   no way to ask      the guest tries, and learns from the error
 */

import { PAGE_SIZE, struct } from '../abi/index.js'
import { options, within } from '../check.js'
import { Errno } from '../errno.js'
import type { ChannelForm, Registrar } from '../guest/index.js'
import type { OwnGuest } from '../host/own_abi.js'
import { call, fill, registered, type Variant, write } from './common.js'

const LEVELS = 3
const CMD = 128
/** Leaf pages of a full tree of three levels, 64 bits. */
const MAX_L3_PAGES = 8

const REGISTER = struct('evtchn_register_3level', 40, {
  nr_pages: [0, 4, 'in'],
  nr_vcpus: [4, 4, 'in'],
  evtchn_pending: [8, 8, 'in'],
  evtchn_mask: [16, 8, 'in'],
  l2sel_mfns: [24, 8, 'in'],
  l2sel_offsets: [32, 8, 'in'],
})

function run(guest: OwnGuest, args: Record<string, number>) {
  const { EINVAL, EFAULT } = Errno
  const nrPages = args.nr_pages!
  const nrVcpus = args.nr_vcpus!
  if (nrPages < 1 || nrPages > MAX_L3_PAGES)
    return guest.refuse(EINVAL, `${nrPages} pages; 1 to ${MAX_L3_PAGES} are allowed`)
  if (nrVcpus < 1 || nrVcpus > guest.vcpus)
    return guest.refuse(EINVAL, `${nrVcpus} vCPUs; the domain has ${guest.vcpus}`)
  const pendingGfns = guest.readGfns(args.evtchn_pending!, nrPages)
  const maskGfns = guest.readGfns(args.evtchn_mask!, nrPages)
  const mfns = guest.readGfns(args.l2sel_mfns!, nrVcpus)
  const offsets = guest.readU32s(args.l2sel_offsets!, nrVcpus)
  if (!pendingGfns || !maskGfns || !mfns || !offsets) return guest.refuse(EFAULT, 'an array cannot be read')
  const selectors = mfns.map((gfn, i) => [{ gfns: [gfn], offset: offsets[i]! }])
  return guest.registerTree({ levels: LEVELS, pendingGfns, maskGfns, selectors })
}

/** The guest's half. `nrPages`: leaf pages; default a full tree's. */
function register(by: Registrar, nrPages: number): ChannelForm | number {
  const { vcpus, bits } = by.platform
  // 512 bytes of selectors a vCPU with 64-bit words, 128 with 32-bit ones: several share a frame.
  const each = bits === 64 ? 512 : 128
  const perFrame = PAGE_SIZE / each
  const all = by.frames.allocate(2 * nrPages + Math.ceil(vcpus / perFrame))
  if (!all) return -Errno.ENOMEM
  const pending = all.slice(0, nrPages)
  const mask = all.slice(nrPages, 2 * nrPages)
  const l2sel = all.slice(2 * nrPages)
  fill(by, [...pending, ...l2sel], 0)
  fill(by, mask, 0xff)
  const mfns = Array.from({ length: vcpus }, (_, vcpu) => l2sel[Math.floor(vcpu / perFrame)]!)
  const offsets = mfns.map((_, vcpu) => (vcpu % perFrame) * each)
  const selectors = mfns.map((gfn, i) => [{ gfns: [gfn], offset: offsets[i]! }])
  const scratchFrames = Math.ceil((16 * nrPages + 12 * vcpus + 32) / PAGE_SIZE)
  return registered(by, LEVELS, { pending, mask, selectors, all }, scratchFrames, (evtchn_pending) => {
    const evtchn_mask = write(by, evtchn_pending, pending, 8)
    const l2sel_mfns = write(by, evtchn_mask, mask, 8)
    const l2sel_offsets = write(by, l2sel_mfns, mfns, 8)
    write(by, l2sel_offsets, offsets, 4)
    const args = { nr_pages: nrPages, nr_vcpus: vcpus, evtchn_pending, evtchn_mask, l2sel_mfns, l2sel_offsets }
    return call(by, CMD, REGISTER, args)
  })
}

/** The ABI and its form. `nrPages`: leaf pages that the guest registers, 1 to 8. Default: 8, and 1 for 32-bit guests. */
export function liuLevels(given: { nrPages?: number } = {}): Variant {
  const { nrPages } = options('liuLevels', given, { nrPages: within(1, MAX_L3_PAGES) })
  const name = 'Wei Liu, 3 levels'
  return {
    abi: { name, operations: [{ name: 'EVTCHNOP_register_3level', cmd: CMD, struct: REGISTER, run }] },
    form: { name, register: (by) => register(by, nrPages ?? (by.platform.bits === 64 ? MAX_L3_PAGES : 1)) },
  }
}
