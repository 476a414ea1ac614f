/** A guest: a domain whose kernel has event channels, a store ring, and frontends. */

import { GNTTAB_RESERVED, GRANTS_PER_FRAME } from '../../abi/index.js'
import type { Domain } from '../../domain/handles.js'
import { type BootOptions, type GuestGrants, GuestKernel } from '../../guest/index.js'
import type { Hypervisor } from '../../hypervisor/index.js'
import { Blkfront, FrontendBus, type GrantedPage, type GuestHost, Netfront, Pvcallsfront } from '../frontends/index.js'
import { Kernel, type Scheduler } from '../kernel/index.js'
import { Xenbus } from '../xenbus/index.js'
import { pageOf } from './ring_ends.js'

/** Frames that the toolstack gives a meaning; the kernel uses those behind them. */
export const STORE_GFN = 2
export const GRANT_TABLE_GFN = 3

/** Frames of the grant table: a reference for each frame of the guest, and the reserved ones. */
export const grantFramesFor = (frames: number): number =>
  Math.ceil((frames + GNTTAB_RESERVED.entries) / GRANTS_PER_FRAME)

/** Backends are dom0's. */
const BACKEND_DOMID = 0

/** Where the maker of a guest put things, and what the guest is like. */
export interface GuestPlaces {
  readonly memoryMiB: number
  readonly storePort: number
  readonly levels: NonNullable<BootOptions['levels']>
  /** Frame of the store's ring. Default 2. */
  readonly storeGfn?: number
  /** First frame that the guest may use. Default: behind the ring and the grant table. */
  readonly firstFreeGfn?: number
  /** Frames of the grant table. Default: enough for each frame of the guest. */
  readonly grantFrames?: number
}

/** One guest. */
export class Guest implements GuestHost {
  readonly domid: number
  readonly domain: Domain
  readonly kernel: Kernel
  readonly memoryMiB: number
  readonly storePort: number
  readonly #xen: Hypervisor
  readonly #places: GuestPlaces
  #paused = true
  readonly #granted = new Map<number, number>()
  #grants: GuestGrants | undefined
  /** Grants that the guest has taken back while dom0 still used them. */
  #later: { gref: number; gfn: number }[] = []
  #channels: GuestKernel | undefined
  #xenbus: Xenbus | undefined
  #bus: FrontendBus | undefined

  constructor(xen: Hypervisor, scheduler: Scheduler, domain: Domain, given: GuestPlaces) {
    this.#xen = xen
    this.#places = given
    this.domain = domain
    this.domid = domain.domid
    this.kernel = new Kernel(scheduler, `d${domain.domid}`)
    this.memoryMiB = given.memoryMiB
    this.storePort = given.storePort
  }

  get paused(): boolean {
    return this.#paused
  }

  /** Runs for the first time, or again. */
  unpause(): void {
    this.#paused = false
    this.kernel.thaw()
    if (this.#channels) this.#channels.upcall()
    else this.#boot()
  }

  pause(): void {
    this.#paused = true
    this.kernel.freeze()
  }

  /** The hypervisor calls. */
  upcall(): void {
    if (!this.#paused) this.#channels?.upcall()
  }

  #boot(): void {
    const { grantFrames = grantFramesFor(this.domain.memory.frames) } = this.#places
    const { storeGfn = STORE_GFN, firstFreeGfn = GRANT_TABLE_GFN + grantFrames, levels } = this.#places
    const channels = GuestKernel.boot(this.#xen.platform(this.domain), {
      firstFreeGfn,
      levels,
    })
    this.#channels = channels
    this.#grants = channels.setupGrants(grantFrames)
    let onEvent = () => {}
    channels.bindHandler(this.storePort, { name: 'xenbus', handler: () => onEvent() })
    const xenbus = new Xenbus({
      kernel: this.kernel,
      peer: {
        page: pageOf(this.domain.memory, storeGfn),
        channel: {
          notify: () => channels.send(this.storePort),
          onEvent: (callback) => {
            onEvent = callback
          },
        },
        close: () => {},
      },
    })
    this.#xenbus = xenbus
    const bus = new FrontendBus(this, {
      vif: (...args) => new Netfront(...args),
      vbd: (...args) => new Blkfront(...args),
      pvcalls: (...args) => new Pvcallsfront(...args),
    })
    this.#bus = bus
    this.kernel.kthreadRun('init', 'kernel_init', () => bus.start())
  }

  /** It is gone. */
  destroy(): void {
    this.#paused = true
    this.kernel.destroy()
  }

  get xenbus(): Xenbus {
    if (!this.#xenbus) throw new Error(`d${this.domid} has not run yet`)
    return this.#xenbus
  }

  get bus(): FrontendBus {
    if (!this.#bus) throw new Error(`d${this.domid} has not run yet`)
    return this.#bus
  }

  /** Its event channels, once it has booted. */
  get channels(): GuestKernel | undefined {
    return this.#channels
  }

  /** Its first network interface and first disk, if it has them. */
  get netfront(): Netfront | undefined {
    return this.#bus?.frontends.find((each) => each instanceof Netfront)
  }
  get blkfront(): Blkfront | undefined {
    return this.#bus?.frontends.find((each) => each instanceof Blkfront)
  }

  /** Its pvcalls device. @throws Error if it has none. */
  get pvcalls(): Pvcallsfront {
    const found = this.#bus?.frontends.find((each) => each instanceof Pvcallsfront)
    if (!found) throw new Error(`d${this.domid} has no pvcalls device`)
    return found
  }

  allocUnbound(remoteDomid: number, name: string, handler: () => void): number {
    return this.#channels!.allocUnbound(remoteDomid, { name, handler })
  }
  close(port: number): void {
    this.#channels!.close(port)
  }
  send(port: number): void {
    this.#channels!.send(port)
  }

  grantPage(): GrantedPage {
    return this.grantPages(1)[0]!
  }

  grantPages(count: number): GrantedPage[] {
    this.#endLater()
    const { frames } = this.#channels!
    const gfns = frames.allocateRun(count) ?? frames.allocate(count)
    if (!gfns) throw new Error(`d${this.domid} has no ${count} free frames`)
    return gfns.map((gfn) => {
      const gref = this.#grants!.grant(BACKEND_DOMID, gfn)
      this.#granted.set(gref, gfn)
      return { gref, bytes: pageOf(this.domain.memory, gfn) }
    })
  }

  endGrants(pages: readonly GrantedPage[]): void {
    for (const { gref } of pages) {
      const gfn = this.#granted.get(gref)
      if (gfn === undefined) throw new Error(`d${this.domid} has not granted ${gref}`)
      this.#granted.delete(gref)
      this.#later.push({ gref, gfn })
    }
    this.#endLater()
  }

  /** Takes back what dom0 has let go of: the frame of a grant in use is still lent (as Linux defers it). */
  #endLater(): void {
    this.#later = this.#later.filter(({ gref, gfn }) => {
      if (!this.#grants!.end(gref)) return true
      this.#channels!.frames.release([gfn])
      return false
    })
  }

  /** Frames that its kernel has free. */
  get freeFrames(): number {
    this.#endLater()
    return this.#channels!.frames.available
  }
}
