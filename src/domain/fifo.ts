/**
 * The FIFO ABI on the hypervisor's side: what Xen keeps private, and the port operations (spec part 4;
 * xen/common/event_fifo.c). A raise is the host core's (assembly/host/fifo.ts); the state it works on is set up here.
 *
 *     guest memory                                   private memory
 *     control block: ready, head[16]   per vCPU      address of the block, tail[16], locks   per vCPU
 *     event words: PENDING MASKED LINKED BUSY LINK   priority, saved pending, last queue     per port (port_table.ts)
 *                                                    addresses of the array's pages
 */

import {
  ABI_FIFO,
  type Bits,
  EVTCHN_FIFO_BUSY,
  EVTCHN_FIFO_LINK_BITS,
  EVTCHN_FIFO_LINKED,
  EVTCHN_FIFO_MAX_QUEUES,
  EVTCHN_FIFO_NR_CHANNELS,
  EVTCHN_FIFO_PRIORITY_DEFAULT,
  EVTCHN_FIFO_WORDS_PER_PAGE,
} from '../abi/index.js'
import { ABI_QUEUES, DOMAIN, FIFO, FIFO_BYTES, NONE, QUEUE, QUEUES_SHIFT } from '../machine/host_layout.js'
import type { GuestMemory } from '../machine/memory.js'
import { frameRefs } from '../machine/memory.js'
import type { PrivateMemory } from '../machine/private_memory.js'
import { CorePortOps, type Delivery } from './port_ops.js'

const LINK_MASK = 2 ** EVTCHN_FIFO_LINK_BITS - 1

// Words of the FIFO record and of a vCPU's queues.
const QUEUES = FIFO.QUEUES >> 2
const NR_PAGES = FIFO.NR_PAGES >> 2
const DROPPED = FIFO.DROPPED >> 2
const FOUGHT = FIFO.FOUGHT >> 2
const PAGES = FIFO.PAGES >> 2
const BLOCK = QUEUE.BLOCK >> 2
const TAILS = QUEUE.TAILS >> 2

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

/** Queues, control blocks and event array of a domain: from its first init_control to its reset or death. */
export class FifoState {
  readonly #memory: PrivateMemory
  readonly #vcpus: number
  /** Address of the FIFO record. */
  readonly at: number
  readonly #queues: number
  readonly #blocks: (ControlBlock | null)[]
  readonly #pageGfns: number[] = []

  /** Queues of `vcpus` vCPUs, all empty, no block, no page. @throws RangeError if the engine has no memory for them. */
  constructor(memory: PrivateMemory, vcpus: number) {
    this.#memory = memory
    this.#vcpus = vcpus
    this.#blocks = Array<null>(vcpus).fill(null)
    this.#queues = memory.take(vcpus << QUEUES_SHIFT)
    try {
      this.at = memory.take(FIFO_BYTES)
    } catch (error) {
      memory.give(this.#queues, vcpus << QUEUES_SHIFT)
      throw error
    }
    this.#set(QUEUES, this.#queues)
    for (let vcpu = 0; vcpu < vcpus; vcpu++) memory.words[this.#queueWord(vcpu) + BLOCK] = NONE
  }

  #get(word: number): number {
    return this.#memory.words[(this.at >>> 2) + word]!
  }
  #set(word: number, value: number): void {
    this.#memory.words[(this.at >>> 2) + word] = value
  }
  /** Index of the first word of a vCPU's queues. */
  #queueWord(vcpu: number): number {
    return (this.#queues + (vcpu << QUEUES_SHIFT)) >>> 2
  }

  /** Gives the records back. */
  dispose(): void {
    this.#memory.give(this.at, FIFO_BYTES)
    this.#memory.give(this.#queues, this.#vcpus << QUEUES_SHIFT)
  }

  /** A vCPU's control block as registered; null = none. */
  controlBlock(vcpu: number): ControlBlock | null {
    return this.#blocks[vcpu]!
  }

  /** Absolute address of a vCPU's control block; -1 = none. */
  blockAt(vcpu: number): number {
    return this.#memory.words[this.#queueWord(vcpu) + BLOCK]!
  }

  /** Maps a vCPU's block at an absolute address; the queues are there already (EC-XSA-358). Holds the frame. */
  mapBlock(memory: GuestMemory, vcpu: number, block: ControlBlock, address: number): void {
    frameRefs(memory).hold(block.gfn)
    this.#blocks[vcpu] = block
    this.#memory.words[this.#queueWord(vcpu) + BLOCK] = address
  }

  /** Pages of the event array. */
  get nrPages(): number {
    return this.#get(NR_PAGES)
  }
  /** Frames of the event array, in order. */
  get pageGfns(): readonly number[] {
    return this.#pageGfns
  }

  /** Appends a page, then publishes its ports. Holds the frame. */
  addPage(memory: GuestMemory, gfn: number, address: number): void {
    frameRefs(memory).hold(gfn)
    this.#pageGfns.push(gfn)
    this.#set(PAGES + this.nrPages, address)
    // Beside senders: after the page that it tells of.
    Atomics.store(this.#memory.words, (this.at >>> 2) + NR_PAGES, this.nrPages + 1)
  }

  /** Absolute address of a port's event word; -1 = its page does not exist. */
  wordAt(port: number): number {
    const page = port >>> 10
    return page < this.nrPages ? this.#get(PAGES + page) + ((port & (EVTCHN_FIFO_WORDS_PER_PAGE - 1)) << 2) : NONE
  }

  /** Last event of a queue; 0 = empty. May be stale. */
  tail(vcpu: number, priority: number): number {
    return this.#memory.words[this.#queueWord(vcpu) + TAILS + priority]!
  }
  /** Address of a queue's lock. */
  lockAt(vcpu: number, priority: number): number {
    return this.#queues + (vcpu << QUEUES_SHIFT) + QUEUE.LOCKS + 4 * priority
  }
  setTail(vcpu: number, priority: number, port: number): void {
    this.#memory.words[this.#queueWord(vcpu) + TAILS + priority] = port
  }

  /** Events dropped: their vCPU has no control block (EC-fifo-6), or their queues changed three times (EC-fifo-5). */
  get dropped(): number {
    return this.#get(DROPPED)
  }
  /** Links that the guest's own writes spoiled (EC-fifo-19). */
  get fought(): number {
    return this.#get(FOUGHT)
  }

  /** Lets go of all frames (EC-fifo-24). */
  release(memory: GuestMemory): void {
    for (const block of this.#blocks) if (block) frameRefs(memory).release(block.gfn)
    for (const gfn of this.#pageGfns) frameRefs(memory).release(gfn)
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
  static from(snapshot: FifoSnapshot, memory: GuestMemory, host: PrivateMemory): FifoState {
    const state = new FifoState(host, snapshot.queues.length)
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

/** The FIFO ABI of one domain. */
export class FifoPortOps extends CorePortOps {
  readonly abi = ABI_FIFO
  readonly levels = 0
  readonly bits: Bits
  readonly maxEvtchns = EVTCHN_FIFO_NR_CHANNELS
  readonly #state: FifoState

  constructor(to: Delivery, bits: Bits, state: FifoState) {
    super(to)
    this.bits = bits
    this.#state = state
  }

  enter(): void {
    this.publish(DOMAIN.FIFO, this.#state.at)
    this.publish(DOMAIN.MAX_EVTCHNS, this.maxEvtchns)
    this.publish(DOMAIN.ABI, ABI_QUEUES)
  }

  leave(): void {
    this.#state.dispose()
  }

  #test(port: number, bit: number): boolean {
    const word = this.#state.wordAt(port)
    return word !== NONE && this.to.core.bitTest(word, bit) === 1
  }

  isBusy(port: number): boolean {
    return this.#test(port, EVTCHN_FIFO_LINKED)
  }

  init(port: number): void {
    this.to.ports.setPriority(port, EVTCHN_FIFO_PRIORITY_DEFAULT)
  }

  setPriority(port: number, priority: number): boolean {
    if (priority >= EVTCHN_FIFO_MAX_QUEUES) return false
    this.to.ports.setPriority(port, priority)
    return true
  }

  /** A queued event stays on the old vCPU's queue until it is consumed (EC-fifo-14). */
  moved(): void {}

  /** The word for the dump: `?` without a page; else B if BUSY, a space, LINK or a dash if not LINKED (EC-dump-7). */
  selectorDigits(port: number): string {
    const at = this.#state.wordAt(port)
    if (at === NONE) return '?     '
    const word = this.to.core.fifoWord(at)
    const is = (bit: number) => ((word >>> bit) & 1) === 1
    if (!is(EVTCHN_FIFO_LINKED) && !is(EVTCHN_FIFO_BUSY)) return '  -   '
    const link = is(EVTCHN_FIFO_LINKED) ? String(word & LINK_MASK) : '-'
    return `${is(EVTCHN_FIFO_BUSY) ? 'B' : ' '} ${link.padEnd(4)}`
  }
}
