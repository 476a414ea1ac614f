/**
 * Trees and queues in a memory of their own, without a hypervisor around them: addresses resolved, nothing masked, one
 * vCPU. What is measured on them is the core (evtchn/core), called from JavaScript as the library calls it.
 */

import {
  type Bits,
  EVTCHN_FIFO_MAX_PAGES,
  EVTCHN_FIFO_NR_CHANNELS,
  EVTCHN_FIFO_PRIORITY_DEFAULT,
  EVTCHN_FIFO_WORDS_PER_PAGE,
  fullTreePages,
  levelBits,
  maxEvtchns,
  PAGE_SIZE,
} from '../../abi/index.js'
import { type Climb, type Core, climbOf, coreOf, createMemory, type Scan, scanOf } from '../../machine/core.js'

/** leafSet: the bit was clear, and is not masked. */
const NEWLY_PENDING = 2
/** Most ports that one scan takes. */
export const MOST_PENDING = 65_536
const OUT_PAGES = (MOST_PENDING * 4) / PAGE_SIZE

/** One ABI in a memory of its own, as the measurement sees it. */
export interface Bare {
  /** Lowest port that can be used: FIFO links no port 0. */
  readonly first: number
  readonly channels: number
  send(ports: Uint32Array): void
  scan(max: number): number
  taken(count: number): Uint32Array
  flatScan?(out: Uint32Array): number
  clearSelectors(): void
}

/** A tree in a memory of its own, without a hypervisor around it: addresses resolved, nothing masked. */
export class BareTree implements Bare {
  readonly first = 0
  readonly channels: number
  readonly #core: Core
  readonly #climb: Climb
  readonly #scan: Scan
  readonly #levels: number
  readonly #b: number
  readonly #pending: number
  readonly #mask: number
  readonly #selectors: number[] = []
  readonly #descriptor: number
  readonly #out: number
  readonly #words: Int32Array
  #top = 0

  constructor(bits: Bits, levels: number, shared: boolean) {
    const pages = levels === 2 ? 1 : fullTreePages(bits, levels)
    this.channels = maxEvtchns(bits, levels, pages)
    this.#levels = levels
    this.#b = bits === 64 ? 6 : 5
    this.#core = coreOf(createMemory(4 * pages + OUT_PAGES + 64, shared))
    const take = (count: number) => {
      this.#top += count * PAGE_SIZE
      return this.#top - count * PAGE_SIZE
    }
    const info = take(1)
    this.#pending = take(pages)
    this.#mask = take(pages)
    for (let k = 2; k < levels; k++)
      this.#selectors[k] = take(Math.ceil(levelBits(bits, levels, k, this.channels) / (8 * PAGE_SIZE)))
    this.#descriptor = take(1)
    this.#out = take(OUT_PAGES)
    const words = new Int32Array(this.#core.memory.buffer)
    this.#words = words
    const tableOf = (first: number, count: number) => {
      const at = take(Math.ceil((count * 4) / PAGE_SIZE))
      for (let i = 0; i < count; i++) words[at / 4 + i] = first + i * PAGE_SIZE
      return at
    }
    const last = levels > 2 ? tableOf(this.#selectors[levels - 1]!, Math.ceil(pages / bits)) : 0
    const d = this.#descriptor / 4
    const inner = levels > 3 ? this.#selectors[2]! : 0
    const second = levels > 4 ? this.#selectors[3]! : 0
    const leaf =
      levels === 2 ? [this.#pending, this.#mask] : [tableOf(this.#pending, pages), tableOf(this.#mask, pages)]
    words.set([info, info + 8, inner, second, last, leaf[0]!, leaf[1]!, 0, this.channels, 0], d)
    this.#climb = climbOf(this.#core, levels, bits)
    this.#scan = scanOf(this.#core, levels, bits)
  }

  send(ports: Uint32Array): void {
    const core = this.#core
    const climb = this.#climb
    const n = this.#levels
    for (const port of ports) {
      const page = (port >> 15) * PAGE_SIZE
      if (core.leafSet(this.#pending + page, this.#mask + page, port) !== NEWLY_PENDING) continue
      // The last selector level is the only one that can be longer than a page.
      const last = n > 2 ? this.#selectors[n - 1]! + (port >> (this.#b + 15)) * PAGE_SIZE : 0
      const [l2, l3] = [this.#selectors[2] ?? 0, this.#selectors[3] ?? 0]
      climb(port, 0, 8, n === 3 ? last : l2, n === 4 ? last : l3, n === 5 ? last : 0)
    }
  }

  scan(max: number): number {
    return this.#scan(this.#descriptor, this.#out, max)
  }

  taken(count: number): Uint32Array {
    return new Uint32Array(this.#core.memory.buffer, this.#out, count)
  }

  /** Reads the whole leaf, pending and not masked, and clears what it finds; into `out`. */
  flatScan(out: Uint32Array): number {
    const words = this.#words
    const pending = this.#pending / 4
    const mask = this.#mask / 4
    const end = this.channels / 32
    let found = 0
    for (let i = 0; i < end; i++) {
      let due = words[pending + i]! & ~words[mask + i]!
      if (!due) continue
      words[pending + i]! &= ~due
      for (; due; due &= due - 1) out[found++] = i * 32 + 31 - Math.clz32(due & -due)
    }
    return found
  }

  /** Clears the selectors and the flag: what a flat scan leaves behind. */
  clearSelectors(): void {
    this.scan(MOST_PENDING)
  }
}

/** fifoRaise: the event is to be put on a queue. */
const NEWLY_LINKED = 2
/** fifoSetLink: the queue is empty, the event becomes its head. */
const NEW_HEAD = 0

/** FIFO queues in the same way: one queue of the default priority, and its tail, which the hypervisor keeps for itself. */
export class BareQueues implements Bare {
  readonly first = 1
  readonly channels = EVTCHN_FIFO_NR_CHANNELS
  readonly #core: Core
  readonly #info: number
  readonly #block: number
  readonly #descriptor: number
  readonly #out: number
  #tail = 0

  constructor(shared: boolean) {
    // The array first, so that a port's word is at 4 × port.
    const pages = EVTCHN_FIFO_MAX_PAGES
    const memory = createMemory(pages + OUT_PAGES + 4, shared)
    this.#core = coreOf(memory)
    const at = (page: number) => (pages + page) * PAGE_SIZE
    this.#info = at(0)
    this.#block = at(1)
    const table = at(2)
    this.#descriptor = at(3)
    this.#out = at(4)
    const words = new Int32Array(memory.buffer)
    for (let page = 0; page < pages; page++) words[table / 4 + page] = page * EVTCHN_FIFO_WORDS_PER_PAGE * 4
    words.set([this.#info, this.#block, table, this.channels], this.#descriptor / 4)
  }

  send(ports: Uint32Array): void {
    const core = this.#core
    for (const port of ports) {
      if (!(core.fifoRaise(port * 4) & NEWLY_LINKED)) continue
      const linked = this.#tail ? core.fifoSetLink(this.#tail * 4, port) : NEW_HEAD
      if (linked === NEW_HEAD) core.fifoSetHead(this.#block, EVTCHN_FIFO_PRIORITY_DEFAULT, port)
      this.#tail = port
      if (linked === NEW_HEAD) core.fifoReady(this.#block, EVTCHN_FIFO_PRIORITY_DEFAULT, this.#info)
    }
  }

  scan(max: number): number {
    return this.#core.fifoScan(this.#descriptor, this.#out, max)
  }

  taken(count: number): Uint32Array {
    return new Uint32Array(this.#core.memory.buffer, this.#out, count)
  }

  clearSelectors(): void {}
}
