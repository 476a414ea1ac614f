/**
 * Attilio Rao's first proposal (September 2012): the hypervisor makes pages and maps them where the guest says. The leaf of
 * two levels, in shared_info, becomes the level in the middle, one for the whole domain.
 *
 *     evtchn_extend, 16 bytes      0 nr_pages   4 pad   8 gfns → u64[2 * nr_pages], pending first
 *
 * What Jan Beulich's answer saves is here a number, `hostPages`: pages that the hypervisor has made, two for each 32,768
 * channels, of every domain. They are a second way to fail, ENOMEM of the host's, and the guest's own pages under those
 * frames are lost. And the level in the middle is shared: when one vCPU takes a bit of it, another vCPU's event
 * below the same bit waits for the next send. So this variant is for guests of one vCPU.
 *
 * A WebAssembly memory cannot be remapped: the host's page is the guest's frame, taken over and cleared. The mask begins with
 * all ones, of which the proposal says nothing; with zeros an event for a port without a handler would come at once.
 */

import { MAX_LEAF_PAGES, PAGE_SIZE, sharedInfo, struct } from '../abi/index.js'
import { options, within } from '../check.js'
import { Errno } from '../errno.js'
import type { ChannelForm, Registrar } from '../guest/index.js'
import type { OwnGuest } from '../host/own_abi.js'
import { call, registered, type Variant, write } from './common.js'

const LEVELS = 3
const CMD = 129

const EXTEND = struct('evtchn_extend', 16, { nr_pages: [0, 4, 'in'], pad: [4, 4, 'in'], gfns: [8, 8, 'in'] })

/** The host's half: how many pages it may make, and has made. */
class Extend {
  readonly #most: number
  made = 0

  constructor(most: number) {
    this.#most = most
  }

  run(guest: OwnGuest, args: Record<string, number>) {
    const { EINVAL, EFAULT, ENOMEM, ENOSPC } = Errno
    const nrPages = args.nr_pages!
    if (args.pad) return guest.refuse(EINVAL, `pad is ${args.pad}, not 0`)
    if (nrPages < 1) return guest.refuse(EINVAL, 'no pages')
    if (nrPages > guest.maxLeafPages) return guest.refuse(ENOSPC, `${nrPages} pages; ${guest.maxLeafPages} are granted`)
    if (this.made + 2 * nrPages > this.#most)
      return guest.refuse(ENOMEM, `the hypervisor has ${this.#most - this.made} pages left for event channels`)
    const gfns = guest.readGfns(args.gfns!, 2 * nrPages)
    if (!gfns) return guest.refuse(EFAULT, 'the frames cannot be read')
    const pendingGfns = gfns.slice(0, nrPages)
    const maskGfns = gfns.slice(nrPages)
    const { memory, bits, sharedInfoGfn } = guest
    const old = gfns.map((gfn) =>
      memory.frame(gfn) < 0 ? undefined : memory.view().slice(gfn * PAGE_SIZE, (gfn + 1) * PAGE_SIZE),
    )
    const put = (gfn: number, bytes: Uint8Array | number) => {
      if (memory.frame(gfn) < 0) return
      const at = memory.view().subarray(gfn * PAGE_SIZE, (gfn + 1) * PAGE_SIZE)
      if (typeof bytes === 'number') at.fill(bytes)
      else at.set(bytes)
    }
    for (const gfn of pendingGfns) put(gfn, 0)
    for (const gfn of maskGfns) put(gfn, 0xff)
    const selector = { gfns: [sharedInfoGfn], offset: sharedInfo(bits).pending }
    const selectors = Array.from({ length: guest.vcpus }, () => [selector])
    const outcome = guest.registerTree({ levels: LEVELS, pendingGfns, maskGfns, selectors })
    // Nothing has changed after a refusal: the guest's pages are what they were.
    if (outcome) for (const [i, gfn] of gfns.entries()) put(gfn, old[i] ?? 0)
    else this.made += 2 * nrPages
    return outcome
  }
}

function register(by: Registrar, nrPages: number): ChannelForm | number {
  const all = by.frames.allocate(2 * nrPages)
  if (!all) return -Errno.ENOMEM
  const { vcpus, bits, sharedInfoGfn } = by.platform
  const pending = all.slice(0, nrPages)
  const mask = all.slice(nrPages)
  const selectors = Array.from({ length: vcpus }, () => [{ gfns: [sharedInfoGfn], offset: sharedInfo(bits).pending }])
  return registered(by, LEVELS, { pending, mask, selectors, all }, 1, (gfns) => {
    write(by, gfns, all, 8)
    return call(by, CMD, EXTEND, { nr_pages: nrPages, pad: 0, gfns })
  })
}

/** The ABI, its form, and what it has cost the host so far. */
export interface RaoVariant extends Variant {
  /** Pages that the hypervisor has made. */
  readonly hostPages: number
}

/**
 * `nrPages`: leaf pages that the guest asks for; default 1, as the proposal begins. `maxHostPages`: what the hypervisor has for
 * all domains; default 4,096.
 */
export function raoLevels(given: { nrPages?: number; maxHostPages?: number } = {}): RaoVariant {
  const { nrPages = 1, maxHostPages = 4096 } = options('raoLevels', given, {
    nrPages: within(1, MAX_LEAF_PAGES),
    maxHostPages: within(0, 2 ** 32),
  })
  const name = 'Attilio Rao, 3 levels'
  const extend = new Extend(maxHostPages)
  return {
    abi: {
      name,
      operations: [
        { name: 'EVTCHNOP_extend', cmd: CMD, struct: EXTEND, run: (guest, args) => extend.run(guest, args) },
      ],
    },
    form: { name, register: (by) => register(by, nrPages) },
    get hostPages() {
      return extend.made
    },
  }
}
