/**
 * The guest's side of the FIFO ABI (EC-fifo-25…28): control blocks, an event array that grows a page at a time, and a
 * scan descriptor per vCPU (assembly/guest/fifo.ts), all in guest RAM.
 *
 *     control blocks   72 bytes each, 56 to a frame, zeroed, one init_control a vCPU
 *     event array      page i holds ports 1024·i … 1024·i + 1023, all MASKED until a port of it is used
 *
 * An event is consumed by whichever vCPU's queue it was linked on, so nothing needs to say which ports are whose.
 */

import {
  CONTROL_BLOCK,
  EVTCHN_FIFO_MASKED,
  EVTCHN_FIFO_NR_CHANNELS,
  EVTCHN_FIFO_PENDING,
  EVTCHN_FIFO_WORDS_PER_PAGE,
  PAGE_SIZE,
  UPCALL_PENDING,
} from '../abi/index.js'
import { Errno, errnoName, XenError } from '../errno.js'
import type { Core } from '../machine/core.js'
import type { Attempt, ChannelForm, Registrar, Unmasked } from './form.js'
import { Arena, fillFrame } from './frames.js'
import type { GuestHypercalls, GuestPlatform } from './platform.js'
import { queryGranted } from './query.js'

/** Byte offsets in the scan descriptor. */
const DESCRIPTOR = { upcall: 0, block: 4, pages: 8, channels: 12 }
const DESCRIPTOR_BYTES = 20 + 16 * 4

const BLOCKS_PER_FRAME = Math.floor(PAGE_SIZE / CONTROL_BLOCK.size)
const MAX_PAGES = EVTCHN_FIFO_NR_CHANNELS / EVTCHN_FIFO_WORDS_PER_PAGE

/** Frames of the control blocks. */
export const controlFrames = (vcpus: number): number => Math.ceil(vcpus / BLOCKS_PER_FRAME)

/** FIFO for every vCPU, or null if it cannot be had; `attempts` gets the result. */
export function registerQueues(by: Registrar, attempts: Attempt[]): Queues | null {
  const failed = (answer: string) => {
    attempts.push({ levels: 'fifo', nrPages: 0, answer })
    return null
  }
  const { platform, frames, calls } = by
  const gfns = frames.allocate(controlFrames(platform.vcpus))
  if (!gfns) return failed('no memory')
  for (const gfn of gfns) fillFrame(platform.memory, gfn, 0)
  const blocks = Array.from({ length: platform.vcpus }, (_, vcpu) => {
    const gfn = gfns[Math.floor(vcpu / BLOCKS_PER_FRAME)]!
    return gfn * PAGE_SIZE + (vcpu % BLOCKS_PER_FRAME) * CONTROL_BLOCK.size
  })
  // All of them, also of vCPUs that come up later: an event for a vCPU without a block is dropped (EC-fifo-6).
  for (let vcpu = 0; vcpu < platform.vcpus; vcpu++) {
    const rc = initControl(calls, vcpu, blocks[vcpu]!)
    if (rc < 0) {
      // After the first there is no way back but a reset, which would close ports that the toolstack made.
      if (vcpu) throw new XenError('EVTCHNOP_init_control', rc, `vCPU ${vcpu}, after vCPU 0 went over to FIFO`)
      frames.release(gfns)
      return failed(errnoName(rc))
    }
  }
  attempts.push({ levels: 'fifo', nrPages: 0, answer: 'ok' })
  // FIFO is in force: what the host says is of it (NL-query-2).
  return new Queues(by, blocks, gfns, queryGranted(calls).nrChannels ?? EVTCHN_FIFO_NR_CHANNELS)
}

/** Names a vCPU's control block. Returns 0 or -errno. */
function initControl(calls: GuestHypercalls, vcpu: number, block: number): number {
  const args = { control_gfn: Math.floor(block / PAGE_SIZE), offset: block % PAGE_SIZE, vcpu, link_bits: 0 }
  return calls.evtchn(0, 'init_control', args)
}

/** The queues of a guest, as its driver uses them. */
export class Queues implements ChannelForm {
  readonly levels = 'fifo'
  readonly channels: number
  readonly maxEvtchns = EVTCHN_FIFO_NR_CHANNELS
  /** One at a time: an event of higher priority that comes up meanwhile is next. */
  readonly batch = 1
  #by: Registrar
  #core: Core
  /** Frames of the blocks, of descriptors and of the table of pages. */
  readonly #own: number[]
  readonly #pages: number[] = []
  /** Guest-physical addresses. */
  readonly #descriptors: number[] = []
  /** Guest-physical address of each vCPU's control block. */
  readonly #blocks: readonly number[]
  readonly #table: number

  /** `blocks`: guest-physical address of each vCPU's control block; `own`: the frames they are in. */
  constructor(by: Registrar, blocks: readonly number[], own: readonly number[], channels: number) {
    this.#by = by
    this.channels = channels
    this.#core = by.platform.memory.core
    this.#own = [...own]
    this.#blocks = blocks
    const arena = new Arena(() => this.#grab())
    this.#table = arena.take(MAX_PAGES * 4)
    blocks.forEach((_, vcpu) => {
      const gpa = arena.take(DESCRIPTOR_BYTES)
      this.#descriptors.push(gpa)
      this.#describe(vcpu)
      this.#put(gpa + DESCRIPTOR.channels, 0)
    })
  }

  /** Tells a vCPU's scan where things are. */
  #describe(vcpu: number): void {
    const gpa = this.#descriptors[vcpu]!
    this.#put(gpa + DESCRIPTOR.upcall, this.#abs(this.#by.infoGpas[vcpu]! + UPCALL_PENDING))
    this.#put(gpa + DESCRIPTOR.block, this.#abs(this.#blocks[vcpu]!))
    this.#put(gpa + DESCRIPTOR.pages, this.#abs(this.#table))
  }

  #grab(): number {
    const gfn = this.#by.frames.allocate(1)?.[0]
    if (gfn === undefined) throw new Error('guest: no frame left for scan descriptors')
    this.#own.push(gfn)
    fillFrame(this.#by.platform.memory, gfn, 0)
    return gfn
  }

  /** Absolute address, in the core's memory, of a guest-physical one. */
  #abs(gpa: number): number {
    return this.#by.platform.memory.base + gpa
  }

  #put(gpa: number, value: number): void {
    this.#by.calls.view(gpa, 4).setUint32(0, value, true)
  }

  /** Absolute address of a port's word; its page exists, see `prepare`. */
  #word(port: number): number {
    return this.#abs(this.#pages[port >>> 10]! * PAGE_SIZE) + ((port & (EVTCHN_FIFO_WORDS_PER_PAGE - 1)) << 2)
  }
  #has(port: number): boolean {
    return port >>> 10 < this.#pages.length
  }

  /** Its queues are there from the beginning. */
  addVcpu(): void {}

  round(vcpu: number, out: number, max: number): number {
    return this.#core.fifoScan(this.#abs(this.#descriptors[vcpu]!), out, max)
  }

  /** Grows the event array up to the page of `port`, a page at a time, each full of MASKED words (EC-fifo-28). */
  prepare(port: number): void {
    while (!this.#has(port)) this.#addPage()
  }

  #addPage(): void {
    const { frames, calls, platform } = this.#by
    const index = this.#pages.length
    const gfn = frames.allocate(1)?.[0]
    const op = 'EVTCHNOP_expand_array'
    if (gfn === undefined) throw new XenError(op, Errno.ENOMEM, `no frame left for page ${index} of the event array`)
    const page = calls.view(gfn * PAGE_SIZE, PAGE_SIZE)
    for (let at = 0; at < PAGE_SIZE; at += 4) page.setUint32(at, 2 ** EVTCHN_FIFO_MASKED, true)
    const rc = calls.evtchn(0, 'expand_array', { array_gfn: gfn })
    if (rc < 0) {
      frames.release([gfn])
      throw new XenError(op, rc, `page ${index}`)
    }
    // Nothing of the page is linked before one of its ports is unmasked, so the scan may learn of it after the call.
    this.#pages.push(gfn)
    this.#put(this.#table + 4 * index, this.#abs(gfn * PAGE_SIZE))
    for (let vcpu = 0; vcpu < platform.vcpus; vcpu++)
      this.#put(this.#descriptors[vcpu]! + DESCRIPTOR.channels, (index + 1) * EVTCHN_FIFO_WORDS_PER_PAGE)
  }

  filter(): void {}

  isPending(port: number): boolean {
    return this.#has(port) && this.#core.bitTest(this.#word(port), EVTCHN_FIFO_PENDING) === 1
  }
  isMasked(port: number): boolean {
    return !this.#has(port) || this.#core.bitTest(this.#word(port), EVTCHN_FIFO_MASKED) === 1
  }
  mask(port: number): void {
    if (this.#has(port)) this.#core.bitSet(this.#word(port), EVTCHN_FIFO_MASKED)
  }
  setPending(port: number): void {
    if (this.#has(port)) this.#core.bitSet(this.#word(port), EVTCHN_FIFO_PENDING)
  }
  clearPending(port: number): void {
    if (this.#has(port)) this.#core.bitClear(this.#word(port), EVTCHN_FIFO_PENDING)
  }

  /** Only the hypervisor can put an event on a queue; it is also asked where BUSY does not go away (EC-fifo-27). */
  unmaskLocally(_vcpu: number, port: number): Unmasked {
    return this.#has(port) && this.#core.fifoUnmask(this.#word(port)) === 0 ? 'done' : 'hypercall'
  }

  moveTo(platform: GuestPlatform, calls: GuestHypercalls): void {
    this.#by = { ...this.#by, platform, calls }
    this.#core = platform.memory.core
    this.#descriptors.forEach((_, vcpu) => {
      this.#describe(vcpu)
    })
    this.#pages.forEach((gfn, index) => {
      this.#put(this.#table + 4 * index, this.#abs(gfn * PAGE_SIZE))
    })
  }

  release(): void {
    this.#by.frames.release(this.#own)
    this.#by.frames.release(this.#pages)
  }
}
