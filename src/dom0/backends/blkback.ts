/**
 * blkback: connect, disconnect, one request ring, and persistent pages; no real disk (XW-blk-1 to XW-blk-3, XW-stall-2, XW-stall-3).
 *
 *     guest's ring ─▶ worker (xen_blkif_schedule): map the page, keep it mapped, bio ─▶ disk ─▶ complete ─▶ respond
 *
 * Disconnecting waits twice: for the worker, which ends when no request is pending, and, to unmap the persistent pages,
 * until nobody but blkback uses them.
 */

import { BackRing } from '../io/ring.js'
import type { Task, Thread, WaitQueue } from '../kernel/index.js'
import {
  type BackendBus,
  type XenbusDevice,
  type XenbusDriver,
  XenbusState,
  type XenbusWatch,
} from '../xenbus/index.js'
import type { MappedPage } from './grants.js'
import type { BackendHost } from './host.js'
import type { LowerDevices } from './lower.js'

const { Initialising, InitWait, Initialised, Connected, Closing, Closed, Unknown } = XenbusState

/** A connected ring and its worker. */
interface BlkRing {
  readonly ring: BackRing
  readonly page: MappedPage
  readonly wait: WaitQueue
  readonly persistent: Map<number, MappedPage>
  worker: Thread | undefined
  port: number
  inflight: number
  /** The guest has put requests into the ring. */
  waiting: boolean
}

/** A block interface as it was when it was asked for. */
export interface BlkifInfo {
  /** `1.xvda`. */
  readonly name: string
  readonly domid: number
  /** Requests that the disk has not completed. */
  readonly inflight: number
  /** Pages that stay mapped between requests. */
  readonly persistentPages: number
}

/** A block interface. */
class Blkif {
  /** `1.xvda`. */
  readonly name: string
  readonly domid: number
  ring: BlkRing | undefined
  /** `major:minor` of the open disk; empty = not yet. */
  physicalDevice = ''
  watch: XenbusWatch | undefined

  constructor(name: string, domid: number) {
    this.name = name
    this.domid = domid
  }

  get info(): BlkifInfo {
    const { name, domid, ring } = this
    return Object.freeze({
      name,
      domid,
      inflight: ring?.inflight ?? 0,
      persistentPages: ring?.persistent.size ?? 0,
    })
  }
}

/** The driver. */
export class Blkback implements XenbusDriver {
  readonly type = 'vbd'
  readonly busFrames = 'all'
  readonly #host: BackendHost
  readonly #lower: LowerDevices
  readonly #bus: BackendBus
  readonly #blkifs = new Map<string, Blkif>()
  readonly #pageFree: WaitQueue

  constructor(host: BackendHost, lower: LowerDevices) {
    this.#host = host
    this.#lower = lower
    this.#bus = host.bus
    this.#pageFree = this.#bus.kernel.waitQueue()
  }

  /** Interfaces, in the order in which they were found. */
  get blkifs(): readonly BlkifInfo[] {
    return Object.freeze([...this.#blkifs.values()].map(({ info }) => info))
  }

  /** A page may have lost its last user. */
  pageFreed(): void {
    this.#pageFree.wakeAll()
  }

  // --- probe and disk ------------------------------------------------------------------------------------------------

  probe(device: XenbusDevice): Task {
    return this.#bus.kernel.call('xen_blkbk_probe', this.#probe(device))
  }

  *#probe(device: XenbusDevice): Task {
    const { xenbus, kernel } = this.#bus
    const { nodename } = device
    const dev = yield* xenbus.readIfExists(`${nodename}/dev`)
    if (!dev) throw new Error('no dev')
    const blkif = new Blkif(`${device.otherendId}.${dev}`, device.otherendId)
    this.#blkifs.set(nodename, blkif)
    blkif.watch = this.#bus.deviceWatch(device, {
      node: `${nodename}/physical-device`,
      callback: () => kernel.call('backend_changed', this.#backendChanged(device, blkif)),
    })
    yield* xenbus.register(blkif.watch, 'domain')
    for (const feature of ['feature-max-indirect-segments', 'max-ring-page-order'])
      yield* xenbus.write(`${nodename}/${feature}`, feature.startsWith('max') ? 4 : 256)
    yield* this.#bus.switchState(device, InitWait)
  }

  *#backendChanged(device: XenbusDevice, blkif: Blkif): Task {
    const text = yield* this.#bus.xenbus.readIfExists(`${device.nodename}/physical-device`)
    if (text === undefined || blkif.physicalDevice || device.gone) return
    if (!/^[0-9a-f]+:[0-9a-f]+$/.test(text)) {
      yield* this.#bus.fatal(device, 'reading physical-device')
      return
    }
    blkif.physicalDevice = text
    yield* this.#updateStatus(device, blkif)
  }

  /** Connects as soon as there are both a ring and a disk. */
  *#updateStatus(device: XenbusDevice, blkif: Blkif): Task {
    const { ring } = blkif
    if (!ring || !blkif.physicalDevice || device.state === Connected) return
    const { xenbus, kernel } = this.#bus
    const { nodename } = device
    yield* kernel.call(
      'connect',
      xenbus.transaction(function* (tx) {
        yield* xenbus.write(`${nodename}/feature-flush-cache`, 1, tx)
        yield* xenbus.write(`${nodename}/feature-discard`, 0, tx)
        yield* xenbus.write(`${nodename}/feature-barrier`, 1, tx)
        yield* xenbus.write(`${nodename}/feature-persistent`, 1, tx)
        yield* xenbus.write(`${nodename}/sectors`, 2048, tx)
        yield* xenbus.write(`${nodename}/info`, 0, tx)
        yield* xenbus.write(`${nodename}/sector-size`, 512, tx)
        yield* xenbus.write(`${nodename}/physical-sector-size`, 512, tx)
      }),
    )
    yield* this.#bus.switchState(device, Connected)
    ring.worker ??= kernel.kthreadRun(`${blkif.name}-0`, 'xen_blkif_schedule', (thread) =>
      this.#schedule(blkif, ring, thread),
    )
  }

  // --- the frontend --------------------------------------------------------------------------------------------------

  otherendChanged(device: XenbusDevice, state: number): Task {
    return this.#bus.kernel.call('frontend_changed', this.#frontendChanged(device, state))
  }

  *#frontendChanged(device: XenbusDevice, state: number): Task {
    const blkif = this.#blkifs.get(device.nodename)
    if (!blkif) return
    switch (state) {
      case Initialising:
        if (device.state === Closed) yield* this.#bus.switchState(device, InitWait)
        return
      case Initialised:
      case Connected:
        if (device.state !== Connected) yield* this.#connectRing(device, blkif)
        return
      case Closing:
        return yield* this.#bus.switchState(device, Closing)
      case Closed:
        yield* this.#disconnect(blkif)
        yield* this.#bus.switchState(device, Closed)
        if (yield* this.#bus.isOnline(device)) return
        return yield* this.#bus.unregister(device)
      case Unknown:
        return yield* this.#bus.unregister(device)
      default:
        yield* this.#bus.fatal(device, `saw state ${state} at frontend`)
    }
  }

  *#connectRing(device: XenbusDevice, blkif: Blkif): Task {
    // A ring from before, if any: harmless if there is none.
    if (!(yield* this.#disconnect(blkif))) {
      yield* this.#bus.fatal(device, 'pending I/O')
      return
    }
    const { xenbus, kernel } = this.#bus
    const ref = Number(yield* xenbus.readIfExists(`${device.otherend}/ring-ref`))
    const remotePort = Number(yield* xenbus.readIfExists(`${device.otherend}/event-channel`))
    let page: MappedPage | undefined
    try {
      page = this.#host.grants.map(blkif.domid, ref)
      const ring: BlkRing = {
        ring: new BackRing(page.bytes),
        page,
        wait: kernel.waitQueue(),
        persistent: new Map(),
        worker: undefined,
        port: 0,
        inflight: 0,
        waiting: false,
      }
      ring.port = this.#host.channels.bindInterdomain(blkif.domid, remotePort, {
        name: `blkif-backend ${blkif.name}`,
        handler: () => {
          ring.waiting = true
          ring.wait.wakeAll()
        },
      })
      blkif.ring = ring
    } catch (error) {
      if (page) this.#host.grants.unmap(page)
      yield* this.#bus.fatal(device, `mapping ring-ref ${ref} port ${remotePort}: ${(error as Error).message}`)
      return
    }
    yield* this.#updateStatus(device, blkif)
  }

  // --- requests ------------------------------------------------------------------------------------------------------

  *#schedule(blkif: Blkif, ring: BlkRing, thread: Thread): Task {
    while (!thread.shouldStop) {
      yield* ring.wait.until(() => ring.waiting || thread.shouldStop, { state: 'S', what: 'requests' })
      ring.waiting = false
      this.#doBlockIo(blkif, ring)
    }
    yield* ring.wait.until(() => ring.inflight === 0, { state: 'S', what: 'pending requests' })
  }

  #doBlockIo(blkif: Blkif, ring: BlkRing): void {
    for (let slot = ring.ring.request(); slot; slot = ring.ring.request()) {
      const { id, gref, a: write } = slot
      let page = ring.persistent.get(gref)
      try {
        page ??= this.#host.grants.map(blkif.domid, gref)
      } catch {
        ring.ring.respond(id, 1)
        continue
      }
      ring.persistent.set(gref, page)
      ring.inflight++
      this.#lower.submit({
        dev: blkif.name,
        page,
        write: write !== 0,
        complete: () => this.#completed(blkif, ring, id),
      })
    }
  }

  #completed(blkif: Blkif, ring: BlkRing, id: number): void {
    ring.ring.respond(id, 0)
    ring.inflight--
    if (blkif.ring === ring && ring.port) this.#host.channels.send(ring.port)
    ring.wait.wakeAll()
  }

  // --- disconnect ----------------------------------------------------------------------------------------------------

  /** False: busy. */
  #disconnect(blkif: Blkif): Task<boolean> {
    return this.#bus.kernel.call('xen_blkif_disconnect', this.#stopRing(blkif))
  }

  *#stopRing(blkif: Blkif): Task<boolean> {
    const { ring } = blkif
    if (!ring) return true
    const { kernel } = this.#bus
    if (ring.worker) {
      yield* kernel.kthreadStop(ring.worker)
      // Else a second stop would wait for a thread that is no more (XS-adv-350).
      ring.worker = undefined
    }
    if (ring.inflight) return false
    yield* kernel.call('xen_blkbk_free_caches', kernel.call('free_persistent_gnts', this.#freePersistent(ring)))
    if (blkif.ring !== ring) return true
    blkif.ring = undefined
    this.#host.channels.close(ring.port)
    this.#host.grants.unmap(ring.page)
    return true
  }

  *#freePersistent(ring: BlkRing): Task {
    const pages = [...ring.persistent.values()]
    yield* this.#bus.kernel.call(
      'gnttab_unmap_refs_sync',
      this.#pageFree.until(() => pages.every((page) => page.users === 0), { what: 'persistent pages in use' }),
    )
    for (const page of pages) if (page.mapped) this.#host.grants.unmap(page)
    ring.persistent.clear()
  }

  remove(device: XenbusDevice): Task {
    return this.#bus.kernel.call('xen_blkbk_remove', this.#remove(device))
  }

  *#remove(device: XenbusDevice): Task {
    const blkif = this.#blkifs.get(device.nodename)
    if (!blkif) return
    if (blkif.watch) yield* this.#bus.xenbus.unregister(blkif.watch)
    yield* this.#disconnect(blkif)
    this.#blkifs.delete(device.nodename)
  }
}
