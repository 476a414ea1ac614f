/** A guest: a domain whose kernel has event channels, a store ring, and frontends. */

import { PAGE_SIZE } from '../abi/index.js'
import type { Domain } from '../domain.js'
import { Blkfront, FrontendBus, type GuestHost, Netfront } from '../frontends/index.js'
import { GuestKernel } from '../guest/index.js'
import type { Hypervisor } from '../hypervisor.js'
import { Kernel, type Scheduler } from '../kernel/index.js'
import type { GuestMemory } from '../memory.js'
import { Xenbus } from '../xenbus/index.js'

/** Frames that the toolstack gives a meaning; the kernel uses those behind them. */
export const STORE_GFN = 2
const FIRST_FREE_GFN = 3

/** One page of a memory, as it is now: the same view as long as the memory stays where it is. */
export function pageOf(memory: GuestMemory, gfn: number): () => Uint8Array {
  let page: Uint8Array = new Uint8Array(0)
  return () => {
    const { buffer } = memory.memory
    if (page.buffer !== buffer) page = new Uint8Array(buffer, memory.base + gfn * PAGE_SIZE, PAGE_SIZE)
    return page
  }
}

/** How a guest lends pages. */
export type Grant = (domid: number, gfn: number) => number

/** One guest. */
export class Guest implements GuestHost {
  readonly domid: number
  readonly domain: Domain
  readonly kernel: Kernel
  readonly memoryMiB: number
  readonly storePort: number
  paused = true
  readonly #xen: Hypervisor
  readonly #grant: Grant
  #channels: GuestKernel | null = null
  #xenbus: Xenbus | null = null
  #bus: FrontendBus | null = null

  constructor(
    xen: Hypervisor,
    scheduler: Scheduler,
    domain: Domain,
    grant: Grant,
    given: { memoryMiB: number; storePort: number },
  ) {
    this.#xen = xen
    this.#grant = grant
    this.domain = domain
    this.domid = domain.domid
    this.kernel = new Kernel(scheduler, `d${domain.domid}`)
    this.memoryMiB = given.memoryMiB
    this.storePort = given.storePort
  }

  /** Runs for the first time, or again. */
  unpause(): void {
    this.paused = false
    this.kernel.thaw()
    if (this.#channels) this.#channels.upcall()
    else this.#boot()
  }

  pause(): void {
    this.paused = true
    this.kernel.freeze()
  }

  /** The hypervisor calls. */
  upcall(): void {
    if (!this.paused) this.#channels?.upcall()
  }

  #boot(): void {
    const channels = GuestKernel.boot(this.#xen.platform(this.domain), { firstFreeGfn: FIRST_FREE_GFN })
    this.#channels = channels
    let onEvent = () => {}
    channels.bindHandler(this.storePort, { name: 'xenbus', handler: () => onEvent() })
    const xenbus = new Xenbus({
      kernel: this.kernel,
      peer: {
        page: pageOf(this.domain.memory, STORE_GFN),
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
    })
    this.#bus = bus
    this.kernel.kthreadRun('init', 'kernel_init', () => bus.start())
  }

  /** It is gone. */
  destroy(): void {
    this.paused = true
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

  /** Its first network interface and first disk, if it has them. */
  get netfront(): Netfront | undefined {
    return this.#bus?.frontends.find((each) => each instanceof Netfront)
  }
  get blkfront(): Blkfront | undefined {
    return this.#bus?.frontends.find((each) => each instanceof Blkfront)
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

  grantPage(): { gref: number; bytes: () => Uint8Array } {
    const gfn = this.#channels!.frames.allocate(1)?.[0]
    if (gfn === undefined) throw new Error(`d${this.domid} has no frame left`)
    return { gref: this.#grant(this.domid, gfn), bytes: pageOf(this.domain.memory, gfn) }
  }
}
