/**
 * Which form of event channels a guest asks for, and what it falls back to (NL-query-1, NL-mig-2).
 *
 *     a list      the forms as listed, the first that the host grants; none: two levels, or a refusal if `exact`
 *     a number    that many levels, then each fewer, at last two
 *     'fifo'      FIFO, then two levels
 *     'best'      trees and FIFO by the channels that each would have, the most first, at last two levels
 *
 * A refused attempt leaves everything as it was, so one follows another, and the result of each is kept.
 */

import {
  type Args,
  DOMID_SELF,
  EVTCHN_FIFO_NR_CHANNELS,
  fullTreePages,
  maxDepth,
  maxEvtchns,
  sharedInfo,
} from '../abi/index.js'
import { Errno, XenError } from '../errno.js'
import type { Attempt, ChannelForm, Registrar } from './form.js'
import { registerQueues } from './queues.js'
import { registerTree } from './register.js'
import { Tree } from './tree.js'

/**
 * What to ask for. A number: that many levels, or fewer if they are refused. `fifo`: the FIFO ABI, else two levels.
 * `best`: whatever gives the most channels; so the deepest tree if it has more than FIFO's 131,072, which a 64-bit guest
 * has from three levels on and a 32-bit one from four, then FIFO, then smaller trees, at last two levels.
 */
export type WantedLevels = 2 | 3 | 4 | 5 | 'fifo' | 'best'

/** What a guest wants. */
export interface Wanted {
  levels: WantedLevels | readonly WantedLevels[]
  nrPages?: number | undefined
  /** Only what is listed, with the pages that are asked for. */
  exact?: boolean | undefined
}

/**
 * Registers what is wanted or the next best, at last two levels. `attempts` gets the result of each try.
 * @throws XenError with the last attempt's errno if `exact` and nothing that is listed can be had.
 */
export function registerForm(by: Registrar, wanted: Wanted, attempts: Attempt[]): ChannelForm {
  const { levels, exact } = wanted
  const listed = typeof levels === 'object' ? levels : exact ? [levels] : undefined
  if (!listed) return fallBack(by, wanted, levels as WantedLevels, attempts)
  for (const each of listed) {
    const form =
      each === 2 || each === 'best'
        ? fallBack(by, wanted, each, attempts)
        : each === 'fifo'
          ? registerQueues(by, attempts)
          : registerTree(by, { ...wanted, levels: each }, attempts)
    if (form) return form
  }
  if (!exact) return twoLevels(by, attempts)
  const last = attempts.at(-1)!.answer
  const errno = Object.hasOwn(Errno, last) ? Errno[last as keyof typeof Errno] : Errno.ENOMEM
  const tried = attempts.map((each) => `${each.levels}: ${each.answer}`).join(', ')
  throw new XenError('GuestKernel.boot', errno, `none of the forms asked for can be had (${tried})`)
}

/** One wish with all that it falls back to. */
function fallBack(by: Registrar, wanted: Wanted, levels: WantedLevels, attempts: Attempt[]): ChannelForm {
  const { bits } = by.platform
  const { nrPages } = wanted
  const best = levels === 'best'
  const deepest = best ? maxDepth(bits) : levels === 'fifo' ? 2 : levels
  let queues = levels === 'fifo' ? registerQueues(by, attempts) : null
  let triedQueues = !best
  for (let depth = deepest; depth > 2; depth--) {
    if (!triedQueues && expectedChannels(by, depth, nrPages) <= EVTCHN_FIFO_NR_CHANNELS) {
      triedQueues = true
      queues = registerQueues(by, attempts)
      if (queues) break
    }
    const tree = registerTree(by, { levels: depth, nrPages }, attempts)
    if (tree) return tree
    const { answer } = attempts.at(-1)!
    if (answer === 'ENOSYS' || answer === 'EPERM') break
  }
  if (!triedQueues) queues = registerQueues(by, attempts)
  return queues ?? twoLevels(by, attempts)
}

/** Two levels, which every domain has already. */
function twoLevels(by: Registrar, attempts: Attempt[]): ChannelForm {
  attempts.push({ levels: 2, nrPages: 0, answer: 'ok' })
  return new Tree(by, { levels: 2, channels: sharedInfo(by.platform.bits).words ** 2, frames: null })
}

/** Channels of a tree as this host would grant it; infinite if it would not, which the attempt itself will tell. */
function expectedChannels({ calls, platform }: Registrar, levels: number, pages?: number): number {
  const query: Args = { dom: DOMID_SELF, max_levels: 0, max_pages: 0, abi: 0 }
  if (calls.evtchn(0, 'query_nlevel', query) < 0) return 0
  if (query.max_levels! < levels) return Number.POSITIVE_INFINITY
  const { bits } = platform
  return maxEvtchns(bits, levels, Math.min(pages ?? fullTreePages(bits, levels), query.max_pages!))
}
