/**
 * netback: connect, disconnect, one queue a ring, and packets that it holds (XW-net-1 to XW-net-5, XW-stall-1).
 *
 *     guest's ring ─▶ tx_action: map the page, skb ─▶ dom0's network ─▶ freed ─▶ dealloc thread: unmap, respond
 *
 * A packet's data stay in the guest's page all the way, so the page is dom0's until the last device on the way has freed
 * the packet. Disconnecting stops the dealloc thread, which ends only when nothing is in flight: there xenwatch waits.
 */

import { BackRing } from '../io/ring.js'
import type { Kernel, Task, Thread, WaitQueue } from '../kernel/index.js'
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

/** Statistics of an interface, as ethtool shows them. */
export interface VifStats {
  tx_zerocopy_sent: number
  tx_zerocopy_success: number
  tx_zerocopy_fail: number
}

/** A freed packet whose page is to be unmapped. */
interface Dealloc {
  readonly id: number
  readonly page: MappedPage
}

/** The one queue of a connected interface. */
class VifQueue {
  readonly ring: BackRing
  readonly ringPage: MappedPage
  readonly dealloc: Dealloc[] = []
  readonly deallocWait: WaitQueue
  readonly threads: Thread[]
  port = 0
  inflightPackets = 0

  constructor(kernel: Kernel, name: string, ringPage: MappedPage, work: (queue: VifQueue) => void) {
    this.ring = new BackRing(ringPage.bytes)
    this.ringPage = ringPage
    this.deallocWait = kernel.waitQueue()
    const rx = kernel.kthreadRun(`${name}-q0-guest-rx`, 'xenvif_kthread_guest_rx', (thread) =>
      this.#guestRx(kernel, thread),
    )
    const dealloc = kernel.kthreadRun(`${name}-q0-dealloc`, 'xenvif_dealloc_kthread', (thread) =>
      this.#dealloc(thread, work),
    )
    this.threads = [rx, dealloc]
  }

  /** Nothing is sent to guests here; the thread is there to be stopped. */
  *#guestRx(kernel: Kernel, thread: Thread): Task {
    yield* kernel.waitQueue().until(() => thread.shouldStop, { state: 'S', what: 'packets for the guest' })
  }

  *#dealloc(thread: Thread, work: (queue: VifQueue) => void): Task {
    for (;;) {
      const mayStop = () => thread.shouldStop && this.inflightPackets === 0
      yield* this.deallocWait.until(() => this.dealloc.length > 0 || mayStop(), {
        state: 'S',
        what: this.inflightPackets ? `${this.inflightPackets} packets in flight` : 'freed packets',
      })
      work(this)
      if (mayStop() && !this.dealloc.length) return
    }
  }
}

/** An interface as it was when it was asked for. */
export interface VifInfo {
  /** `vif1.0`. */
  readonly name: string
  readonly domid: number
  /** State of the backend; the store has it too, but for what is held back. */
  readonly state: number
  /** Packets that are not yet freed. */
  readonly inflightPackets: number
  readonly stats: Readonly<VifStats>
}

/** An interface and its backend. */
class Vif {
  /** `vif1.0`. */
  readonly name: string
  readonly domid: number
  readonly stats: VifStats = { tx_zerocopy_sent: 0, tx_zerocopy_success: 0, tx_zerocopy_fail: 0 }
  /** State of the backend; the store has it too, but for what is held back. */
  state: number = Initialising
  queue: VifQueue | undefined
  hotplugWatch: XenbusWatch | undefined

  constructor(name: string, domid: number) {
    this.name = name
    this.domid = domid
  }

  get info(): VifInfo {
    const { name, domid, state, queue } = this
    const stats = Object.freeze({ ...this.stats })
    return Object.freeze({ name, domid, state, inflightPackets: queue?.inflightPackets ?? 0, stats })
  }
}

/** What to do in `from` on the way to `target`: one step (XW-net-3). */
function step(from: number, target: number): { to: number; act?: 'connect' | 'disconnect' } | undefined {
  if (from === target) return undefined
  switch (from) {
    case Initialising:
      return { to: target === Closed ? Closed : InitWait }
    case InitWait:
      return target === Connected ? { to: Connected, act: 'connect' } : { to: Closing }
    case Connected:
      return { to: Closing, act: 'disconnect' }
    case Closing:
      return { to: Closed }
    default:
      return { to: target === Closing ? Closing : InitWait }
  }
}

/** The driver. */
export class Netback implements XenbusDriver {
  readonly type = 'vif'
  readonly busFrames = 'none'
  readonly #host: BackendHost
  readonly #lower: LowerDevices
  readonly #bus: BackendBus
  readonly #vifs = new Map<string, { vif: Vif; device: XenbusDevice }>()

  constructor(host: BackendHost, lower: LowerDevices) {
    this.#host = host
    this.#lower = lower
    this.#bus = host.bus
  }

  /** Interfaces, in the order in which they were found. */
  get vifs(): readonly VifInfo[] {
    return Object.freeze([...this.#vifs.values()].map(({ vif }) => vif.info))
  }

  /** An interface by its name. */
  vif(name: string): VifInfo | undefined {
    return this.vifs.find((vif) => vif.name === name)
  }

  probe(device: XenbusDevice): Task {
    return this.#bus.kernel.call('netback_probe', this.#probe(device))
  }

  *#probe(device: XenbusDevice): Task {
    const { xenbus } = this.#bus
    const { nodename } = device
    yield* xenbus.transaction(function* (tx) {
      for (const feature of ['feature-sg', 'feature-gso-tcpv4', 'feature-rx-copy', 'feature-split-event-channels'])
        yield* xenbus.write(`${nodename}/${feature}`, 1, tx)
    })
    const handle = yield* xenbus.readIfExists(`${nodename}/handle`)
    if (handle === undefined || !/^[0-9]+$/.test(handle)) throw new Error('no handle')
    const name = `vif${device.otherendId}.${handle}`
    if (this.vif(name)) throw new Error(`there is a ${name} already`)
    this.#vifs.set(nodename, { vif: new Vif(name, device.otherendId), device })
  }

  otherendChanged(device: XenbusDevice, state: number): Task {
    return this.#bus.kernel.call('frontend_changed', this.#frontendChanged(device, state))
  }

  *#frontendChanged(device: XenbusDevice, state: number): Task {
    switch (state) {
      case Initialising:
        return yield* this.#setBackendState(device, InitWait)
      case Initialised:
        return
      case Connected:
        return yield* this.#setBackendState(device, Connected)
      case Closing:
        return yield* this.#setBackendState(device, Closing)
      case Closed:
        yield* this.#setBackendState(device, Closed)
        if (yield* this.#bus.isOnline(device)) return
        return yield* this.#bus.unregister(device)
      case Unknown:
        yield* this.#setBackendState(device, Closed)
        return yield* this.#bus.unregister(device)
      default:
        yield* this.#bus.fatal(device, `saw state ${state} at frontend`)
    }
  }

  #setBackendState(device: XenbusDevice, target: number): Task {
    return this.#bus.kernel.call('set_backend_state', this.#steps(device, target))
  }

  *#steps(device: XenbusDevice, target: number): Task {
    const vif = this.#vifs.get(device.nodename)?.vif
    if (!vif) return
    for (let next = step(vif.state, target); next; next = step(vif.state, target)) {
      if (next.act === 'connect') yield* this.#connect(device, vif)
      if (next.act === 'disconnect') yield* this.#disconnectData(vif)
      vif.state = next.to
      // The state becomes Connected when the hotplug script has done its part (XW-net-4).
      if (next.to !== Connected || !vif.hotplugWatch) yield* this.#bus.switchState(device, next.to)
    }
  }

  // --- connect -------------------------------------------------------------------------------------------------------

  *#connect(device: XenbusDevice, vif: Vif): Task {
    const { xenbus } = this.#bus
    const ref = Number(yield* xenbus.readIfExists(`${device.otherend}/tx-ring-ref`))
    const remotePort = Number(yield* xenbus.readIfExists(`${device.otherend}/event-channel`))
    try {
      const page = this.#host.grants.map(vif.domid, ref)
      const queue = new VifQueue(this.#bus.kernel, vif.name, page, (each) => this.#deallocAction(vif, each))
      vif.queue = queue
      queue.port = this.#host.channels.bindInterdomain(vif.domid, remotePort, {
        name: vif.name,
        handler: () => this.#txAction(vif, queue),
      })
    } catch (error) {
      yield* this.#bus.fatal(device, `connecting ${vif.name}: ${(error as Error).message}`)
    }
    yield* this.#watchHotplug(device, vif)
  }

  *#watchHotplug(device: XenbusDevice, vif: Vif): Task {
    const watch = this.#bus.deviceWatch(device, {
      node: `${device.nodename}/hotplug-status`,
      callback: () => this.#bus.kernel.call('hotplug_status_changed', this.#hotplugChanged(device, vif)),
    })
    vif.hotplugWatch = watch
    yield* this.#bus.xenbus.register(watch, 'domain')
  }

  *#hotplugChanged(device: XenbusDevice, vif: Vif): Task {
    const { xenbus } = this.#bus
    if ((yield* xenbus.readIfExists(`${device.nodename}/hotplug-status`)) !== 'connected' || device.gone) return
    yield* this.#bus.switchState(device, vif.state)
    yield* this.#unwatchHotplug(vif)
  }

  *#unwatchHotplug(vif: Vif): Task {
    const watch = vif.hotplugWatch
    vif.hotplugWatch = undefined
    if (watch) yield* this.#bus.xenbus.unregister(watch)
  }

  // --- packets -------------------------------------------------------------------------------------------------------

  /** Requests of the guest become packets. In an interrupt. */
  #txAction(vif: Vif, queue: VifQueue): void {
    if (vif.queue !== queue) return
    for (let slot = queue.ring.request(); slot; slot = queue.ring.request()) {
      const { id, gref, b: gsoSize } = slot
      let page: MappedPage
      try {
        page = this.#host.grants.map(vif.domid, gref)
      } catch {
        queue.ring.respond(id, 1)
        continue
      }
      queue.inflightPackets++
      vif.stats.tx_zerocopy_sent++
      const free = (copied: boolean) => this.#freed(vif, queue, { id, page }, copied)
      this.#lower.receive({ dev: vif.name, domid: vif.domid, zerocopy: true, gsoSize, frags: [page], free })
    }
  }

  /** A packet was freed: the dealloc thread does the rest. */
  #freed(vif: Vif, queue: VifQueue, dealloc: Dealloc, copied: boolean): void {
    if (copied) vif.stats.tx_zerocopy_fail++
    else vif.stats.tx_zerocopy_success++
    queue.inflightPackets--
    queue.dealloc.push(dealloc)
    queue.deallocWait.wakeAll()
  }

  #deallocAction(vif: Vif, queue: VifQueue): void {
    let responses = 0
    for (let next = queue.dealloc.shift(); next; next = queue.dealloc.shift()) {
      this.#host.grants.unmap(next.page)
      queue.ring.respond(next.id, 0)
      responses++
    }
    if (responses && queue.port && vif.queue === queue) this.#host.channels.send(queue.port)
  }

  // --- disconnect ----------------------------------------------------------------------------------------------------

  #disconnectData(vif: Vif): Task {
    return this.#bus.kernel.call('xenvif_disconnect_data', this.#stopQueue(vif))
  }

  *#stopQueue(vif: Vif): Task {
    const { queue } = vif
    if (!queue) return
    for (const thread of queue.threads) yield* this.#bus.kernel.kthreadStop(thread)
    vif.queue = undefined
    if (queue.port) this.#host.channels.close(queue.port)
    this.#host.grants.unmap(queue.ringPage)
  }

  remove(device: XenbusDevice): Task {
    return this.#bus.kernel.call('netback_remove', this.#remove(device))
  }

  *#remove(device: XenbusDevice): Task {
    const vif = this.#vifs.get(device.nodename)?.vif
    if (!vif) return
    yield* this.#setBackendState(device, Closed)
    yield* this.#unwatchHotplug(vif)
    this.#vifs.delete(device.nodename)
  }
}
