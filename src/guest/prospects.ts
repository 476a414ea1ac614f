/**
 * What a guest may expect of each form before it registers one: how many channels, and how many frames of its own it
 * would hold. EVTCHNOP_query_nlevel2 tells it (NL-query-2); on a host without that, query_nlevel and geometry.
 *
 *     nr_channels < room of the tree      the domain's own limit, on every form
 *     otherwise                           the limit is at least the tree's room, and unknown: taken for none
 */

import {
  EVTCHN_FIFO_NR_CHANNELS,
  EVTCHN_FIFO_WORDS_PER_PAGE,
  fullTree,
  fullTreePages,
  maxEvtchns,
  PAGE_BITS,
} from '../abi/index.js'
import type { Registrar } from './form.js'
import { queryGranted } from './query.js'
import { controlFrames } from './queues.js'
import { framesOfTree } from './register.js'

/** One form that a guest could ask for. */
export interface Prospect {
  readonly levels: number | 'fifo'
  /** Leaf pages of a tree; 0 for the other forms. */
  readonly nrPages: number
  /** Usable port numbers, 0 included. */
  readonly channels: number
  /** Frames of the guest's that it holds when all channels are in use. */
  readonly frames: number
}

/** What a host says before anything is registered. */
export class Prospects {
  readonly #by: Registrar
  /** 2 where the domain can register no tree. */
  readonly maxLevels: number
  readonly maxPages: number
  /** Port numbers that the domain may use on any form, 0 included; infinite if that is not known. */
  readonly limit: number

  constructor(by: Registrar) {
    this.#by = by
    const { bits } = by.platform
    const { maxLevels, maxPages, nrChannels = Number.POSITIVE_INFINITY } = queryGranted(by.calls)
    this.maxLevels = maxLevels
    this.maxPages = maxPages
    this.limit = nrChannels < maxEvtchns(bits, maxLevels, maxPages) ? nrChannels : Number.POSITIVE_INFINITY
  }

  /** Two levels, which cost nothing: their words are in shared_info. */
  twoLevels(): Prospect {
    const room = fullTree(this.#by.platform.bits, 2)
    return { levels: 2, nrPages: 0, channels: Math.min(room, this.limit), frames: 0 }
  }

  /** FIFO. What it grows by is counted as if it had grown: a page for each 1,024 ports. */
  fifo(): Prospect {
    const channels = Math.min(EVTCHN_FIFO_NR_CHANNELS, this.limit)
    const pages = Math.ceil(channels / EVTCHN_FIFO_WORDS_PER_PAGE)
    return { levels: 'fifo', nrPages: 0, channels, frames: controlFrames(this.#by.platform.vcpus) + pages }
  }

  /**
   * A tree with the leaf pages that the domain's channels need, at most `pages`. One that the host does not grant is taken
   * at its full size: its refusal is told by the attempt.
   */
  tree(levels: number, pages = Number.POSITIVE_INFINITY): Prospect {
    const { platform } = this.#by
    const { bits } = platform
    const granted = levels <= this.maxLevels ? this.maxPages : Number.POSITIVE_INFINITY
    const nrPages = Math.max(
      1,
      Math.min(pages, fullTreePages(bits, levels), granted, Math.ceil(this.limit / PAGE_BITS)),
    )
    const room = levels <= this.maxLevels ? maxEvtchns(bits, levels, nrPages) : Number.POSITIVE_INFINITY
    const frames = framesOfTree(platform, levels, nrPages)
    return { levels, nrPages, channels: Math.min(room, this.limit), frames }
  }
}

/** Port numbers that a domain may open on words with room for `room`, 0 included: for own forms. */
export const usableChannels = (by: Registrar, room: number): number => Math.min(room, new Prospects(by).limit)
