/**
 * The FIFO ABI on the hypervisor's side: what Xen keeps private, and the port operations (spec part 4;
 * xen/common/event_fifo.c).
 *
 *     guest memory                                   here
 *     control block: ready, head[16]   per vCPU      address of the block, tail[16]      per vCPU
 *     event words: PENDING MASKED LINKED BUSY LINK   priority, saved pending, last queue  per port (src/domain/port_table.ts)
 *                                                    addresses of the array's pages
 *
 * A queue is a vCPU and a priority. Its tail may be stale: the guest has consumed the event since, which shows in the
 * tail's word, that is no longer LINKED. Whatever the guest writes into its words, a raise touches the word of the port,
 * the word of one tail, one head and one ready word, a bounded number of times each.
 *
 * Locks: a raise holds the queue that the port was last on and the one that it goes to (EC-lock-5). Its priority may change
 * while it waits for them, so it looks again, three times at most (EC-fifo-4, -5). Today one thread runs hypercalls and
 * nothing is ever waited for; the interleavings are explored in test/fifo, where the locks are real.
 */

import {
  ABI_FIFO,
  type Bits,
  EVTCHN_FIFO_BUSY,
  EVTCHN_FIFO_LINK_BITS,
  EVTCHN_FIFO_LINKED,
  EVTCHN_FIFO_MASKED,
  EVTCHN_FIFO_MAX_PAGES,
  EVTCHN_FIFO_MAX_QUEUES,
  EVTCHN_FIFO_NR_CHANNELS,
  EVTCHN_FIFO_PENDING,
  EVTCHN_FIFO_PRIORITY_DEFAULT,
  EVTCHN_FIFO_WORDS_PER_PAGE,
} from '../abi/index.js'
import { sharedInts } from '../machine/buffers.js'
import type { Core } from '../machine/core.js'
import type { GuestMemory } from '../machine/memory.js'
import type { Delivery, PortOps } from './port_ops.js'

/** No block, no page: no address has this value, for words and blocks are aligned. */
const NONE = -1

/** Per vCPU: the block's address, the tails, the locks. */
const BLOCK = 0
const TAILS = 1
const LOCKS = TAILS + EVTCHN_FIFO_MAX_QUEUES
const PER_VCPU = LOCKS + EVTCHN_FIFO_MAX_QUEUES

const LINK_MASK = 2 ** EVTCHN_FIFO_LINK_BITS - 1

const NR_PAGES = 0
const DROPPED = 1
/** Tries to lock the queues of an event (EC-fifo-4). */
const LOCK_TRIES = 3
const FOUGHT = 2

/** A control block as the guest registered it. */
export interface ControlBlock {
  readonly gfn: number
  readonly offset: number
}

/** What FifoState holds, as plain data; addresses are guest frames. */
export interface FifoSnapshot {
  /** Frames of the event array, in order. */
  pages: number[]
  /** Per vCPU: its control block or null, and the tail of each queue. */
  queues: { block: ControlBlock | null; tails: number[] }[]
}

/** A queue as lastq names it (EC-port-1), and its vCPU, its priority, its lock. */
const queueOf = (vcpu: number, priority: number): number => (vcpu << 16) | priority
const vcpuOf = (queue: number): number => queue >>> 16
const priorityOf = (queue: number): number => queue & 0xff
const lockOf = (queue: number): number => vcpuOf(queue) * PER_VCPU + LOCKS + priorityOf(queue)

/** Queues, control blocks and event array of a domain: from its first init_control to its reset or death. */
export class FifoState {
  readonly #vcpus: Int32Array
  readonly #pages = sharedInts(EVTCHN_FIFO_MAX_PAGES)
  readonly #counts = sharedInts(3)
  readonly #blocks: (ControlBlock | null)[]
  readonly #pageGfns: number[] = []

  /** Queues of `vcpus` vCPUs, all empty, no block, no page. */
  constructor(vcpus: number) {
    this.#vcpus = sharedInts(vcpus * PER_VCPU)
    this.#blocks = Array<null>(vcpus).fill(null)
    for (let vcpu = 0; vcpu < vcpus; vcpu++) this.#vcpus[vcpu * PER_VCPU + BLOCK] = NONE
  }

  /** A vCPU's control block as registered; null = none. */
  controlBlock(vcpu: number): ControlBlock | null {
    return this.#blocks[vcpu]!
  }

  /** Absolute address of a vCPU's control block; -1 = none. */
  blockAt(vcpu: number): number {
    return this.#vcpus[vcpu * PER_VCPU + BLOCK]!
  }

  /** Maps a vCPU's block at an absolute address; the queues are there already (EC-XSA-358). Holds the frame. */
  mapBlock(memory: GuestMemory, vcpu: number, block: ControlBlock, address: number): void {
    memory.hold(block.gfn)
    this.#blocks[vcpu] = block
    this.#vcpus[vcpu * PER_VCPU + BLOCK] = address
  }

  /** Pages of the event array. */
  get nrPages(): number {
    return this.#counts[NR_PAGES]!
  }
  /** Frames of the event array, in order. */
  get pageGfns(): readonly number[] {
    return this.#pageGfns
  }

  /** Appends a page, then publishes its ports. Holds the frame. */
  addPage(memory: GuestMemory, gfn: number, address: number): void {
    memory.hold(gfn)
    this.#pageGfns.push(gfn)
    this.#pages[this.nrPages] = address
    this.#counts[NR_PAGES]!++
  }

  /** Absolute address of a port's event word; -1 = its page does not exist. */
  wordAt(port: number): number {
    const page = port >>> 10
    return page < this.#counts[NR_PAGES]! ? this.#pages[page]! + ((port & (EVTCHN_FIFO_WORDS_PER_PAGE - 1)) << 2) : NONE
  }

  /** Last event of a queue; 0 = empty. May be stale. */
  tail(vcpu: number, priority: number): number {
    return this.#vcpus[vcpu * PER_VCPU + TAILS + priority]!
  }
  setTail(vcpu: number, priority: number, port: number): void {
    this.#vcpus[vcpu * PER_VCPU + TAILS + priority] = port
  }

  /** Locks one queue or two, named as in lastq, the lower first. Nobody else can hold them today. */
  lock(one: number, other: number): void {
    const first = lockOf(Math.min(one, other))
    const second = lockOf(Math.max(one, other))
    if (this.#vcpus[first] || this.#vcpus[second]) throw new Error('queue lock: taken while held')
    this.#vcpus[first] = 1
    this.#vcpus[second] = 1
  }
  /** Unlocks them. */
  unlock(one: number, other: number): void {
    this.#vcpus[lockOf(one)] = 0
    this.#vcpus[lockOf(other)] = 0
  }

  /** Events dropped: their vCPU has no control block (EC-fifo-6), or their queues changed three times (EC-fifo-5). */
  get dropped(): number {
    return this.#counts[DROPPED]!
  }
  countDropped(): void {
    this.#counts[DROPPED]!++
  }
  /** Links that the guest's own writes spoiled (EC-fifo-19). */
  get fought(): number {
    return this.#counts[FOUGHT]!
  }
  countFought(): void {
    this.#counts[FOUGHT]!++
  }

  /** Lets go of all frames (EC-fifo-24). */
  release(memory: GuestMemory): void {
    for (const block of this.#blocks) if (block) memory.release(block.gfn)
    for (const gfn of this.#pageGfns) memory.release(gfn)
  }

  /** Everything as plain data, for saving. What each port has of its own is in the port table. */
  toJSON(): FifoSnapshot {
    return {
      pages: [...this.#pageGfns],
      queues: this.#blocks.map((block, vcpu) => ({
        block: block && { ...block },
        tails: Array.from({ length: EVTCHN_FIFO_MAX_QUEUES }, (_, priority) => this.tail(vcpu, priority)),
      })),
    }
  }

  /**
   * State from plain data that was checked before: frames by NL-frame-1, at most 128 pages, tails below the ports that
   * the pages hold, one entry of `queues` per vCPU. Holds the frames.
   */
  static from(snapshot: FifoSnapshot, memory: GuestMemory): FifoState {
    const state = new FifoState(snapshot.queues.length)
    for (const gfn of snapshot.pages) state.addPage(memory, gfn, memory.frame(gfn))
    snapshot.queues.forEach(({ block, tails }, vcpu) => {
      if (block) state.mapBlock(memory, vcpu, { ...block }, memory.frame(block.gfn) + block.offset)
      tails.forEach((port, priority) => {
        state.setTail(vcpu, priority, port)
      })
    })
    return state
  }
}

/** What fifoRaise returns. */
const NEWLY_PENDING = 1
const NEWLY_LINKED = 2
/** fifoSetLink's. */
const NEW_HEAD = 0
const LINKED_BEHIND = 1
const FOUGHT_OVER = 2

/** The FIFO ABI of one domain. */
export class FifoPortOps implements PortOps {
  readonly abi = ABI_FIFO
  readonly levels = 0
  readonly bits: Bits
  readonly maxEvtchns = EVTCHN_FIFO_NR_CHANNELS
  readonly #to: Delivery
  readonly #core: Core
  readonly #state: FifoState

  constructor(to: Delivery, bits: Bits, state: FifoState) {
    this.#to = to
    this.#core = to.core
    this.bits = bits
    this.#state = state
  }

  /** Raises an event: Xen's evtchn_fifo_set_pending (EC-fifo-3…16). */
  setPending(port: number): void {
    const { ports } = this.#to
    const word = this.#state.wordAt(port)
    if (word === NONE) {
      // Remembered until the page comes (EC-bug-4). No upcall is made: there is no word to look at.
      ports.setSavedPending(port)
      return
    }
    const vcpuId = ports.notifyVcpu(port)
    for (let tries = 0; tries < LOCK_TRIES; tries++) {
      const queue = queueOf(vcpuId, ports.priority(port))
      const old = ports.lastQueue(port)
      this.#state.lock(old, queue)
      if (queue === queueOf(vcpuId, ports.priority(port)) && old === ports.lastQueue(port)) {
        // Last: a poller that is woken before the event is linked may not find it (EC-bug-8).
        if (this.#raise(port, word, vcpuId, old, queue)) this.#to.checkPollers(port)
        return
      }
      this.#state.unlock(old, queue)
    }
    this.#state.countDropped()
  }

  /** With both queues locked; unlocks them. Answers whether PENDING was clear. */
  #raise(port: number, word: number, vcpuId: number, old: number, queue: number): boolean {
    const state = this.#state
    const block = state.blockAt(vcpuId)
    if (block === NONE) {
      // Before PENDING is touched: a bit that stays up without an event would swallow all later ones (EC-bug-12).
      state.unlock(old, queue)
      state.countDropped()
      return false
    }
    const found = this.#core.fifoRaise(word)
    const linked = found & NEWLY_LINKED ? this.#link(port, block, old, queue) : LINKED_BEHIND
    state.unlock(old, queue)
    // READY for a new head only (EC-bug-3).
    if (linked === NEW_HEAD) {
      const vcpu = this.#to.vcpus[vcpuId]!
      if (vcpu.onDummy) this.#core.bitSet(block, priorityOf(queue))
      else if (this.#core.fifoReady(block, priorityOf(queue), vcpu.info)) this.#to.kick(vcpu)
    }
    return (found & NEWLY_PENDING) !== 0
  }

  /** Puts a newly linked event at the end of its queue (EC-fifo-9…13); returns what fifoSetLink returns. */
  #link(port: number, block: number, old: number, queue: number): number {
    const state = this.#state
    // The port was the last of its old queue and is on none now, so that queue is empty: a tail left there would be
    // followed once the port is linked elsewhere (EC-bug-5).
    if (state.tail(vcpuOf(old), priorityOf(old)) === port) state.setTail(vcpuOf(old), priorityOf(old), 0)
    if (old !== queue) this.#to.ports.setLastQueue(port, queue)
    const tail = state.tail(vcpuOf(queue), priorityOf(queue))
    const linked = tail ? this.#core.fifoSetLink(state.wordAt(tail), port) : NEW_HEAD
    if (linked === NEW_HEAD) this.#core.fifoSetHead(block, priorityOf(queue), port)
    else if (linked === FOUGHT_OVER) state.countFought()
    state.setTail(vcpuOf(queue), priorityOf(queue), port)
    return linked
  }

  /** PENDING only; a queued event stays where it is and is skipped by the guest (EC-fifo-20). */
  clearPending(port: number): void {
    const word = this.#state.wordAt(port)
    if (word !== NONE) this.#core.bitClear(word, EVTCHN_FIFO_PENDING)
  }

  /** Unmasks: mask first, then pending (EC-fifo-21). Pollers are not woken, for PENDING was set before. */
  unmask(port: number): void {
    const word = this.#state.wordAt(port)
    if (word === NONE) return
    this.#core.bitClear(word, EVTCHN_FIFO_MASKED)
    if (this.#core.bitTest(word, EVTCHN_FIFO_PENDING)) this.setPending(port)
  }

  #test(port: number, bit: number): boolean {
    const word = this.#state.wordAt(port)
    return word !== NONE && this.#core.bitTest(word, bit) === 1
  }

  isPending(port: number): boolean {
    return this.#test(port, EVTCHN_FIFO_PENDING)
  }
  isMasked(port: number): boolean {
    return this.#state.wordAt(port) === NONE || this.#test(port, EVTCHN_FIFO_MASKED)
  }
  isBusy(port: number): boolean {
    return this.#test(port, EVTCHN_FIFO_LINKED)
  }

  init(port: number): void {
    this.#to.ports.setPriority(port, EVTCHN_FIFO_PRIORITY_DEFAULT)
  }

  setPriority(port: number, priority: number): boolean {
    if (priority >= EVTCHN_FIFO_MAX_QUEUES) return false
    this.#to.ports.setPriority(port, priority)
    return true
  }

  /** A queued event stays on the old vCPU's queue until it is consumed (EC-fifo-14). */
  moved(): void {}

  /** The word for the dump: `?` without a page; else B if BUSY, a space, LINK or a dash if not LINKED (EC-dump-7). */
  selectorDigits(port: number): string {
    const at = this.#state.wordAt(port)
    if (at === NONE) return '?     '
    const word = this.#core.fifoWord(at)
    const is = (bit: number) => ((word >>> bit) & 1) === 1
    const link = is(EVTCHN_FIFO_LINKED) ? String(word & LINK_MASK) : '-'
    return `${is(EVTCHN_FIFO_BUSY) ? 'B' : ' '} ${link.padEnd(4)}`
  }
}
