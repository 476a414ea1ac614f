/**
 * The domains of a host, as the toolstack controls them. Guests live in windows of shared memories; one that was killed
 * stays, dying, until the last of its pages is unmapped (XW-obs-2).
 */

import { DOMID_FIRST_RESERVED, PAGE_SIZE } from '../../abi/index.js'
import type { Domain } from '../../domain/handles.js'
import { Errno, XenError } from '../../errno.js'
import type { Hypervisor } from '../../hypervisor/index.js'
import type { WasmMemory } from '../../machine/core.js'
import type { Scheduler } from '../kernel/index.js'
import type { DomainControl, DomainInfo } from '../toolstack/index.js'
import { GRANT_TABLE_GFN, Guest, grantFramesFor, STORE_GFN } from './guest.js'
import type { GuestForm } from './options.js'

/** Frames of a guest unless told otherwise, and most frames and guests of one memory. */
const FRAMES = 64
const GUESTS_PER_MEMORY = 64
const FRAMES_PER_MEMORY = 16384
const WASM_PAGE = 65536

/** Windows for guests, taken back when a guest is gone. */
class Windows {
  /** Frames of each. */
  readonly frames: number
  readonly #free: { memory: WasmMemory; base: number }[] = []

  constructor(frames: number) {
    this.frames = frames
  }

  take(): { memory: WasmMemory; base: number } {
    if (!this.#free.length) {
      const guests = Math.max(1, Math.min(GUESTS_PER_MEMORY, Math.floor(FRAMES_PER_MEMORY / this.frames)))
      const bytes = this.frames * PAGE_SIZE
      const memory = new WebAssembly.Memory({ initial: Math.ceil((guests * bytes) / WASM_PAGE) })
      for (let i = guests; i-- > 0; ) this.#free.push({ memory, base: i * bytes })
    }
    const area = this.#free.pop()!
    new Uint8Array(area.memory.buffer, area.base, this.frames * PAGE_SIZE).fill(0)
    return area
  }

  give(memory: WasmMemory, base: number): void {
    this.#free.push({ memory, base })
  }
}

/** All domains. */
export class DomainList implements DomainControl {
  readonly #xen: Hypervisor
  readonly #scheduler: Scheduler
  readonly #dom0: Domain
  readonly #windows: Windows
  readonly #form: GuestForm
  readonly #guests = new Map<number, Guest>()
  readonly #zombies = new Map<number, Domain>()
  readonly #maxDomid: number
  #lastDomid = 0

  /** Numbers run from 1 to `maxDomid` and begin again; those in use are passed over. `form`: what guests are like. */
  constructor(
    xen: Hypervisor,
    scheduler: Scheduler,
    dom0: Domain,
    maxDomid = DOMID_FIRST_RESERVED - 1,
    form: GuestForm = {},
  ) {
    this.#form = form
    this.#windows = new Windows(form.frames ?? FRAMES)
    this.#maxDomid = maxDomid
    this.#xen = xen
    this.#scheduler = scheduler
    this.#dom0 = dom0
  }

  /** A guest that lives. */
  guest(domid: number): Guest | undefined {
    return this.#guests.get(domid)
  }

  get guests(): Guest[] {
    return [...this.#guests.values()]
  }

  /** Numbers of guests that were killed and are still there. */
  get zombies(): number[] {
    return [...this.#zombies.keys()]
  }

  /** Makes an empty domain. @throws XenError ENOMEM, as Xen does, if every number is in use: zombies keep theirs. */
  create(): number {
    const domid = this.#nextDomid()
    const { memory, base } = this.#windows.take()
    const { bits, maxEvtchnPort } = this.#form
    this.#xen.createDomain({
      domid,
      frames: this.#windows.frames,
      memory,
      base,
      grantTableGfn: GRANT_TABLE_GFN,
      maxGrantFrames: grantFramesFor(this.#windows.frames),
      ...(bits && { bits }),
      ...(maxEvtchnPort !== undefined && { maxEvtchnPort }),
    })
    return domid
  }

  #nextDomid(): number {
    for (let tried = 0; tried < this.#maxDomid; tried++) {
      this.#lastDomid = (this.#lastDomid % this.#maxDomid) + 1
      if (!this.#xen.domain(this.#lastDomid)) return this.#lastDomid
    }
    const found = `all numbers from 1 to ${this.#maxDomid} have a domain, ${this.#zombies.size} of them a zombie`
    throw new XenError('Toolstack.create', Errno.ENOMEM, found)
  }

  build(domid: number, memoryMiB: number, _vcpus: number): { storeGfn: number; storePort: number } {
    const domain = this.#xen.domain(domid)!
    const storePort = this.#dom0.eventChannelOp('alloc_unbound', { dom: domid, remote_dom: 0 }).port!
    const { levels = 2 } = this.#form
    this.#guests.set(domid, new Guest(this.#xen, this.#scheduler, domain, { memoryMiB, storePort, levels }))
    return { storeGfn: STORE_GFN, storePort }
  }

  unpause(domid: number): void {
    this.#guests.get(domid)?.unpause()
  }

  pause(domid: number): void {
    this.#guests.get(domid)?.pause()
  }

  destroy(domid: number): void {
    const domain = this.#xen.domain(domid)
    if (!domain || this.#zombies.has(domid)) return
    this.#guests.get(domid)?.destroy()
    this.#guests.delete(domid)
    this.#zombies.set(domid, domain)
    this.#xen.killDomain(this.#xen.domain(domid)!)
    this.pagesUnmapped(domid)
  }

  /** Some of a domain's pages were unmapped: a zombie may go. */
  pagesUnmapped(domid: number): void {
    const domain = this.#zombies.get(domid)
    if (!domain || this.#xen.grants.inUse(domain)) return
    this.#zombies.delete(domid)
    this.#xen.destroyDomain(this.#xen.domain(domid)!)
    this.#windows.give(domain.memory.memory, domain.memory.base)
  }

  info(domid: number): DomainInfo | undefined {
    const domain = this.#xen.domain(domid)
    if (!domain) return undefined
    const guest = this.#guests.get(domid)
    const dying = domain.dying !== 'alive'
    return {
      domid,
      memoryMiB: domid === 0 ? DOM0_MIB : dying ? 0 : (guest?.memoryMiB ?? 0),
      vcpus: domain.vcpus.length,
      running: domid === 0,
      blocked: domid !== 0 && !dying && guest?.paused === false,
      paused: domid !== 0 && guest?.paused !== false,
      shutdown: domain.shutdownCode !== undefined,
      dying,
    }
  }

  list(): DomainInfo[] {
    return this.#xen.domids().map((domid) => this.info(domid)!)
  }
}

const DOM0_MIB = 2048
