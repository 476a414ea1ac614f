/**
 * dom0's kernel on a hypervisor and a store that somebody else made: threads, xenbus, backends and the injector of stalls.
 * The host of this library (host.ts) has one, and so has the host of native programs, where store and toolstack are Xen's.
 *
 *     the store's ring ──▶ xenbus ──delivery──▶ bus ──▶ netback · blkback · pvcalls-back ──▶ event channels, granted pages
 */

import type { Domain } from '../../domain/handles.js'
import type { GuestKernel } from '../../guest/index.js'
import type { Hypervisor } from '../../hypervisor/index.js'
import type { RingPeer } from '../../xenstore/index.js'
import {
  Blkback,
  GrantTable,
  LowerDevices,
  Netback,
  PvcallsBack,
  type PvcallsOptions,
  StallInjector,
} from '../backends/index.js'
import type { Kernel, Task } from '../kernel/index.js'
import { BackendBus, type DeliveryObserver, type Design, type DesignMaker, Xenbus } from '../xenbus/index.js'
import { mapGrant } from './grants.js'

/** What dom0's kernel runs on, and how it delivers watches. */
export interface Dom0KernelOptions {
  readonly xen: Hypervisor
  readonly domain: Domain
  /** The event channels of the domain, booted. */
  readonly channels: GuestKernel
  /** Its threads. */
  readonly kernel: Kernel
  /** Its end of the store's ring. */
  readonly peer: () => RingPeer
  /** A domain's last page was unmapped. Default: nobody is told. */
  readonly onUnmapped?: (domid: number) => void
  readonly xenMtwatch?: boolean | undefined
  readonly design?: Design | DesignMaker | undefined
  readonly observer?: DeliveryObserver | undefined
  readonly pvcalls?: PvcallsOptions | undefined
}

/** The kernel. `start` is its boot, to be run as one of its processes. */
export class Dom0Kernel {
  readonly kernel: Kernel
  readonly channels: GuestKernel
  readonly xenbus: Xenbus
  readonly bus: BackendBus
  readonly grants: GrantTable
  readonly lower: LowerDevices
  readonly netback: Netback
  readonly blkback: Blkback
  readonly pvcalls: PvcallsBack
  readonly injector: StallInjector

  constructor({ xen, domain, channels, kernel, onUnmapped = () => {}, ...options }: Dom0KernelOptions) {
    this.channels = channels
    this.kernel = kernel
    this.grants = new GrantTable((domid, gref) => mapGrant(xen, domain, domid, gref), onUnmapped)
    const { xenMtwatch, design, observer } = options
    this.xenbus = new Xenbus({ xenMtwatch, design, observer, kernel, peer: options.peer() })
    this.bus = new BackendBus(this.xenbus)
    this.lower = new LowerDevices(kernel.scheduler)
    this.netback = new Netback(this, this.lower)
    this.blkback = new Blkback(this, this.lower)
    this.injector = new StallInjector(this.lower, () => this.blkback.pageFreed())
    this.bus.addDriver(this.netback)
    this.bus.addDriver(this.blkback)
    this.pvcalls = new PvcallsBack(this, options.pvcalls)
    this.bus.addDriver(this.pvcalls)
  }

  /** xenbus talks to the store and the drivers probe what is there. */
  *start(): Task {
    yield* this.xenbus.start()
    yield* this.bus.start()
  }
}
