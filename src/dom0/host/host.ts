/**
 * A whole host: hypervisor, dom0 with its store, kernel, backends and toolstack, and guests that use them. All that this
 * library has, put together, so that a stalled xenwatch can be looked at.
 *
 *     guest: frontends ─ xenbus ──ring──▶ xenstored ◀──ring── xenbus ─ backends :dom0's kernel
 *                  └──────── event channels and granted pages ──────────┘
 *                                            ▲
 *                                            └──socket── toolstack
 *
 * Time is simulated, unless another clock is given.
 */

import { VIRQ } from '../../abi/index.js'
import { between, having, integer, text } from '../../check.js'
import { ManualClock } from '../../clock.js'
import type { Domain } from '../../domain/handles.js'
import { GuestKernel } from '../../guest/index.js'
import { Hypervisor } from '../../hypervisor/index.js'
import { InProcessTransport, type RingPeer, XenStored } from '../../xenstore/index.js'
import type { Blkback, GrantTable, LowerDevices, Netback, PvcallsBack, StallInjector } from '../backends/index.js'
import { Kernel, Scheduler, type Task, type Thread } from '../kernel/index.js'
import { Toolstack } from '../toolstack/index.js'
import type { BackendBus, Xenbus } from '../xenbus/index.js'
import { Dom0Kernel } from './dom0_kernel.js'
import { DomainList } from './domain_list.js'
import type { Guest } from './guest.js'
import { checkHostOptions, type HostOptions } from './options.js'
import { pageOf, xenStoreHost } from './ring_ends.js'

/** Something that runs in a process. */
export interface Job<T> {
  readonly thread: Thread
  done: boolean
  result: T | undefined
  /** What it threw, if it did: `complete` throws it; of one that nobody completes it is reported. */
  failure: { readonly error: unknown } | undefined
}

/** One host. */
export class Host {
  readonly scheduler: Scheduler
  readonly xen: Hypervisor
  readonly dom0: Domain
  /** dom0's kernel: its threads, and its event channels. */
  readonly kernel: Kernel
  readonly channels: GuestKernel
  readonly store: XenStored
  readonly xenbus: Xenbus
  readonly bus: BackendBus
  readonly netback: Netback
  readonly blkback: Blkback
  readonly pvcalls: PvcallsBack
  readonly grants: GrantTable
  readonly lower: LowerDevices
  readonly injector: StallInjector
  readonly domains: DomainList
  readonly toolstack: Toolstack
  readonly #parts: Dom0Kernel
  /** dom0's driver, once it has booted: it is upcalled while it boots. */
  #dom0Ready: GuestKernel | undefined

  /** @throws ParameterError for an option that is unknown or of the wrong type or range. */
  constructor(given: HostOptions = {}) {
    const options = checkHostOptions(given)
    const clock = options.clock ?? new ManualClock()
    const onError = options.onError && { onError: options.onError }
    this.scheduler = new Scheduler({ ...options.scheduler, clock, ...onError })
    this.xen = Hypervisor.create({ clock, ...onError, onUpcall: ({ domid, vcpuId }) => this.#upcall(domid, vcpuId) })
    const cpus = options.dom0Cpus ?? 1
    this.dom0 = this.xen.createDomain({ domid: 0, vcpus: cpus, frames: options.dom0Frames ?? 508 + cpus * 4 })
    this.channels = GuestKernel.boot(this.xen.platform(this.dom0), { levels: 3 })
    this.#dom0Ready = this.channels
    this.kernel = new Kernel(this.scheduler, 'd0', cpus)
    this.domains = new DomainList(this.xen, this.scheduler, this.dom0, options.maxDomid, options.guest)

    const { scheduler } = this
    this.store = new XenStored({
      ...onError,
      host: xenStoreHost(this.xen, this.channels),
      later: (step) =>
        void this.kernel.process('xenstored', function* () {
          yield* scheduler.preemptionPoint()
          step()
        }),
    })
    this.channels.bindVirq(VIRQ.DOM_EXC, { name: 'xenstored', handler: () => this.store.domainsChanged() })
    const { xenMtwatch, design, observer, pvcalls } = options
    const parts = new Dom0Kernel({
      ...{ xen: this.xen, domain: this.dom0, channels: this.channels, kernel: this.kernel },
      ...{ xenMtwatch, design, observer, pvcalls },
      peer: () => this.#kernelPeer(),
      onUnmapped: (domid) => this.domains.pagesUnmapped(domid),
    })
    this.#parts = parts
    for (const driver of options.drivers?.(parts) ?? []) parts.bus.addDriver(driver)
    this.xenbus = parts.xenbus
    this.bus = parts.bus
    this.grants = parts.grants
    this.lower = parts.lower
    this.netback = parts.netback
    this.blkback = parts.blkback
    this.pvcalls = parts.pvcalls
    this.injector = parts.injector

    this.toolstack = new Toolstack({
      kernel: this.kernel,
      transport: new InProcessTransport(this.store),
      connect: () => new InProcessTransport(this.store),
      control: this.domains,
      mtwatch: options.toolstackMtwatch ?? (options.xenMtwatch === true && options.design === 'rfc'),
      hotplug: options.hotplug,
    })
    this.start('init', this.#init())
    this.scheduler.run()
  }

  *#init(): Task {
    const { xs } = this.toolstack
    yield* xs.write('/local/domain/0/name', 'Domain-0')
    yield* xs.write('/local/domain/0/domid', 0)
    yield* this.#parts.start()
  }

  #upcall(domid: number, vcpuId: number): void {
    if (domid === 0) this.#dom0Ready?.upcall(vcpuId)
    else this.domains.guest(domid)?.upcall()
  }

  /** dom0's kernel has a ring like any guest: a port to itself, which the daemon binds. */
  #kernelPeer(): RingPeer {
    const gfn = this.channels.frames.allocate(1)![0]!
    let onEvent = () => {}
    const port = this.channels.allocUnbound(0, { name: 'xenbus', handler: () => onEvent() })
    this.store.introduce(0, gfn, port)
    return {
      page: pageOf(this.dom0.memory, gfn),
      channel: {
        notify: () => this.channels.send(port),
        onEvent: (callback) => {
          onEvent = callback
        },
      },
      close: () => this.channels.close(port),
    }
  }

  // --- running -------------------------------------------------------------------------------------------------------

  /** Starts a process of dom0. */
  start<T>(name: string, task: Task<T>): Job<T> {
    aTask('Host.start', name, task)
    return this.#start(name, task, false)
  }

  #start<T>(name: string, task: Task<T>, awaited: boolean): Job<T> {
    const job = { done: false } as { -readonly [K in keyof Job<T>]: Job<T>[K] }
    job.thread = this.kernel.process(name, function* () {
      try {
        job.result = yield* task
      } catch (error) {
        job.failure = { error }
        if (!awaited) throw error
      } finally {
        job.done = true
      }
    })
    return job
  }

  /** Runs a process to its end. Throws what it threw, or an Error if it has not ended after `seconds`. */
  complete<T>(name: string, task: Task<T>, seconds = 600): T {
    aTask('Host.complete', name, task)
    between(0, 1e9)('Host.complete', 'seconds', seconds)
    const job = this.#start(name, task, true)
    if (!this.scheduler.advance(seconds * 1e9, () => job.done))
      throw new Error(`${name} has not ended after ${seconds} s:\n${job.thread.stack.join('\n')}`)
    if (job.failure) throw job.failure.error
    return job.result as T
  }

  /** Lets simulated time go by. */
  pass(seconds: number): void {
    between(0, 1e9)('Host.pass', 'seconds', seconds)
    this.scheduler.advance(seconds * 1e9)
  }

  /** A guest that lives. @throws Error; ParameterError */
  guest(domid: number): Guest {
    integer('Host.guest', 'domid', domid, 1, 0x7fef)
    const guest = this.domains.guest(domid)
    if (!guest) throw new Error(`there is no domain ${domid}`)
    return guest
  }
}

/** What a process is made of. @throws ParameterError */
function aTask(call: string, name: unknown, task: unknown): void {
  text(call, 'name', name)
  having('next', 'throw')(call, 'task', task)
}
