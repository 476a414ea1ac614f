/**
 * Which form of event channels a guest asks for, and what it falls back to (NL-query-1, NL-mig-2).
 *
 *     a list      the forms as listed, the first that the host grants; none: two levels, or a refusal if `exact`
 *     a number    that many levels, then each fewer, FIFO if it has more channels than two levels, at last two levels
 *     'fifo'      FIFO, then two levels
 *     'best'      the form with the most channels that the domain may open; of equals the one that holds the fewest
 *                 frames of the guest's; then the next
 *
 * A refused attempt leaves everything as it was, so one follows another, and the result of each is kept.
 */

import { maxDepth } from '../abi/index.js'
import { Errno, errnoName, XenError } from '../errno.js'
import type { Attempt, ChannelForm, OwnForm, Registrar } from './form.js'
import { type Prospect, Prospects } from './prospects.js'
import { registerQueues } from './queues.js'
import { registerTree } from './register.js'
import { Tree } from './tree.js'

/**
 * What to ask for. A number: that many levels, or fewer, or FIFO if they are refused. `fifo`: the FIFO ABI, else two levels.
 * `best`: whatever gives the most channels that the domain may open (`max_evtchn_port`), at the least cost. So a domain
 * without a limit gets the deepest tree, and one that xl made, which may open 1,023, stays on two levels, which hold as many.
 */
export type WantedLevels = 2 | 3 | 4 | 5 | 'fifo' | 'best' | OwnForm

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
  const own = isOwn(levels)
  const listed = Array.isArray(levels)
    ? (levels as readonly WantedLevels[])
    : exact || own
      ? [levels as WantedLevels]
      : undefined
  if (!listed) return fallBack(by, wanted, levels as Known, attempts)
  for (const each of listed) {
    const form = isOwn(each)
      ? registerOwn(by, each, attempts)
      : each === 2 || each === 'best'
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

/** The forms that the driver knows by itself. */
type Known = Exclude<WantedLevels, OwnForm>

const isOwn = (levels: Wanted['levels']): levels is OwnForm => typeof levels === 'object' && 'register' in levels

/** A form of the embedder's. Null: it was refused, and gave its frames back. */
function registerOwn(by: Registrar, form: OwnForm, attempts: Attempt[]): ChannelForm | null {
  const made = form.register(by)
  const refused = typeof made === 'number'
  const nrPages = 0
  attempts.push({ levels: form.name, nrPages, answer: refused ? errnoName(made) : 'ok' })
  return refused ? null : made
}

/** One wish with all that it falls back to. */
function fallBack(by: Registrar, wanted: Wanted, levels: Known, attempts: Attempt[]): ChannelForm {
  const prospects = new Prospects(by)
  const order = levels === 'best' ? mostFirst(by, prospects, wanted) : fewerFirst(prospects, levels, wanted)
  let trees = true
  for (const { levels: each, nrPages } of order) {
    if (each === 2) break
    if (each !== 'fifo' && !trees) continue
    const form = each === 'fifo' ? registerQueues(by, attempts) : registerTree(by, { levels: each, nrPages }, attempts)
    if (form) return form
    // What refuses one tree so refuses all.
    const { answer } = attempts.at(-1)!
    if (answer === 'ENOSYS' || answer === 'EPERM') trees = trees && each === 'fifo'
  }
  return twoLevels(by, attempts)
}

/** Every form by its channels, the most first; of equals the cheapest. Two levels, which need nothing, are where it ends. */
function mostFirst({ platform }: Registrar, prospects: Prospects, { nrPages }: Wanted): readonly Prospect[] {
  const depths = Array.from({ length: maxDepth(platform.bits) - 2 }, (_, i) => maxDepth(platform.bits) - i)
  const all = [...depths.map((levels) => prospects.tree(levels, nrPages)), prospects.fifo(), prospects.twoLevels()]
  return all.sort((a, b) => {
    if (a.channels !== b.channels) return a.channels < b.channels ? 1 : -1
    // What the host does not grant is asked for from the deepest on: each refusal is kept as an attempt.
    return a.channels === Number.POSITIVE_INFINITY ? b.frames - a.frames : a.frames - b.frames
  })
}

/** That many levels, each fewer, then FIFO if it holds more than two levels do. */
function fewerFirst(prospects: Prospects, levels: number | 'fifo', { nrPages }: Wanted): readonly Prospect[] {
  const fifo = prospects.fifo()
  if (levels === 'fifo') return [fifo]
  const depths = Array.from({ length: levels - 2 }, (_, i) => levels - i)
  // A number is what the guest wants, with all of its pages.
  const trees = depths.map((depth) => ({ ...prospects.tree(depth), nrPages: nrPages ?? Number.POSITIVE_INFINITY }))
  const worth = levels > 2 && fifo.channels > prospects.twoLevels().channels
  return worth ? [...trees, fifo] : trees
}

/** Two levels, which every domain has already. */
function twoLevels(by: Registrar, attempts: Attempt[]): ChannelForm {
  attempts.push({ levels: 2, nrPages: 0, answer: 'ok' })
  return new Tree(by, { levels: 2, channels: new Prospects(by).twoLevels().channels, frames: null })
}
