/**
 * The words of a domain that events go through, by name: an address in its memory is a word of the leaf, of a selector
 * level, of a FIFO queue, or an upcall flag; and back. For traces, debuggers, tests and pictures.
 *
 *     part       level   vcpu      word
 *     upcall     0       the vCPU  0           byte evtchn_upcall_pending
 *     selector   1 … n-1 the vCPU  its index   level 1 is evtchn_pending_sel
 *     pending    n       -         its index   the leaf
 *     mask       n       -         its index
 *     event      0       -         the port    FIFO's event word
 *     ready      0       the vCPU  0           head of a FIFO control block
 *     head       0       the vCPU  priority
 *
 * A map is of one moment: the switch to another ABI, a reset and a vCPU's new vcpu_info make it old.
 */

import { type Bits, EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_WORDS_PER_PAGE, PAGE_SIZE, sharedInfo } from '../abi/index.js'
import type { Domain } from './domain.js'

/** What a word is for. */
export type WordPart = 'upcall' | 'selector' | 'pending' | 'mask' | 'event' | 'ready' | 'head'

/** A word by name. */
export interface Word {
  readonly part: WordPart
  /** Level of the tree; 0 for what is no part of a tree. */
  readonly level: number
  /** Undefined for what is the whole domain's. */
  readonly vcpu: number | undefined
  /** Index of the word in its level; a port's number for `event`, a priority for `head`. */
  readonly word: number
}

/** A byte of a word. */
export interface WordByte extends Word {
  /** Offset in the word: an access of 32 bits may be to the upper half of a word of 64. */
  readonly byte: number
}

/** A run of words without a gap. */
interface Run extends Word {
  readonly at: number
  readonly bytes: number
  /** Bytes of one word. */
  readonly width: number
}

/** Names of the words of one domain. Made by `Domain.words`. */
export class WordMap {
  readonly #runs: readonly Run[]

  /** @internal */
  constructor(domain: Domain) {
    this.#runs = runsOf(domain)
    Object.freeze(this)
  }

  /** The word at a byte of the memory; undefined if no event goes through it. */
  at(address: number): WordByte | undefined {
    const run = this.#runs.find(({ at, bytes }) => address >= at && address < at + bytes)
    if (!run) return undefined
    const offset = address - run.at
    const { part, level, vcpu, width } = run
    return { part, level, vcpu, word: run.word + Math.floor(offset / width), byte: offset % width }
  }

  /** Byte of the memory at which a word begins; undefined if the domain has no such word. */
  address({ part, level, vcpu, word }: Word): number | undefined {
    for (const run of this.#runs) {
      if (run.part !== part || run.level !== level || run.vcpu !== vcpu) continue
      const offset = (word - run.word) * run.width
      if (offset >= 0 && offset < run.bytes) return run.at + offset
    }
    return undefined
  }
}

/** The vCPUs' own words. */
function ofVcpus(domain: Domain, bits: Bits): Run[] {
  const width = bits / 8
  return domain.vcpus.flatMap(({ vcpuId: vcpu, onDummy, info, recorded, activeDepth }) => {
    if (onDummy) return []
    const flag: Run = { part: 'upcall', level: 0, vcpu, word: 0, at: info, bytes: 1, width: 1 }
    if (domain.fifo) return [flag]
    const top: Run = { part: 'selector', level: 1, vcpu, word: 0, at: info + sharedInfo(bits).sel, bytes: width, width }
    const areas = activeDepth > 2 && recorded ? recorded.areas : []
    const lower = areas.flatMap(({ pages }, i) => {
      // Level k has W^(k-1) words at most; an area of one page may share it with another vCPU's.
      let left = bits ** (i + 1)
      return pages.map((at, page): Run => {
        const words = Math.min(left, PAGE_SIZE / width)
        left -= words
        return {
          part: 'selector',
          level: i + 2,
          vcpu,
          word: (page * PAGE_SIZE) / width,
          at,
          bytes: words * width,
          width,
        }
      })
    })
    return [flag, top, ...lower]
  })
}

/** The leaf of a tree. */
function ofLeaf(domain: Domain, bits: Bits): Run[] {
  const width = bits / 8
  const layout = sharedInfo(bits)
  const level = domain.levels
  const run = (part: 'pending' | 'mask', at: number, page: number, bytes: number): Run => ({
    ...{ part, level, vcpu: undefined, word: (page * PAGE_SIZE) / width, at, bytes, width },
  })
  const { nlevel, sharedInfoAt, memory } = domain
  if (!nlevel) {
    const bytes = layout.words * width
    return [run('pending', sharedInfoAt + layout.pending, 0, bytes), run('mask', sharedInfoAt + layout.mask, 0, bytes)]
  }
  const pages = (part: 'pending' | 'mask', gfns: readonly number[]) =>
    gfns.map((gfn, page) => run(part, memory.frame(gfn), page, PAGE_SIZE))
  return [...pages('pending', nlevel.pendingGfns), ...pages('mask', nlevel.maskGfns)]
}

/** The event array and the control blocks of FIFO. */
function ofFifo(domain: Domain): Run[] {
  const fifo = domain.fifo!
  const events = fifo.pageGfns.map(
    (gfn, page): Run => ({
      ...{ part: 'event', level: 0, vcpu: undefined, word: page * EVTCHN_FIFO_WORDS_PER_PAGE },
      ...{ at: domain.memory.frame(gfn), bytes: PAGE_SIZE, width: 4 },
    }),
  )
  const blocks = domain.vcpus.flatMap(({ vcpuId: vcpu }): Run[] => {
    const at = fifo.blockAt(vcpu)
    if (!fifo.controlBlock(vcpu)) return []
    return [
      { part: 'ready', level: 0, vcpu, word: 0, at, bytes: 4, width: 4 },
      { part: 'head', level: 0, vcpu, word: 0, at: at + 8, bytes: 4 * EVTCHN_FIFO_MAX_QUEUES, width: 4 },
    ]
  })
  return [...blocks, ...events]
}

function runsOf(domain: Domain): Run[] {
  const { bits } = domain
  return [...ofVcpus(domain, bits), ...(domain.fifo ? ofFifo(domain) : ofLeaf(domain, bits))]
}
