/**
 * pvcalls-back: executes socket calls for guests (PV-40). One connection for each frontend; workers are global, and none
 * exists before a socket needs it (PV-3).
 *
 *     frontend   Initialising ─▶ Initialised ─────────────▶ Connected … Closing ─────────────────▶ Closed
 *     backend    InitWait ──────────────▶ map, bind, Connected          all unmapped, Closing ─▶ Closed
 */

import { PVCALLS_VERSION } from '../../io/pvcalls_protocol.js'
import { calloutsOf, type Task } from '../../kernel/index.js'
import { type BackendBus, type XenbusDevice, type XenbusDriver, XenbusState } from '../../xenbus/index.js'
import type { BackendHost } from '../host.js'
import { BoundedPolicy } from './bounded_policy.js'
import { PvcallsConnection } from './connection.js'
import { LocalNetwork } from './local_network.js'
import type { Network } from './network.js'
import { type PvcallsOptions, type PvcallsShared, sharedOf } from './options.js'
import { PerSocketPolicy } from './per_socket_policy.js'
import type { IoPolicy } from './policy.js'
import { sealedNetwork } from './sealed_network.js'

const { Initialising, InitWait, Initialised, Connected, Closing, Closed, Unknown } = XenbusState

/** The driver. */
export class PvcallsBack implements XenbusDriver {
  readonly type = 'pvcalls'
  readonly busFrames = 'all'
  readonly policy: IoPolicy
  readonly network: Network
  readonly #shared: PvcallsShared
  readonly #bus: BackendBus
  readonly #connections = new Map<string, PvcallsConnection>()

  /** The host has checked the options (PV-1). */
  constructor(host: BackendHost, options: PvcallsOptions = {}) {
    const { policy = 'bounded' } = options
    const context = { kernel: host.bus.kernel, options }
    this.policy = policy === 'bounded' ? new BoundedPolicy(context) : new PerSocketPolicy(context)
    this.network = options.network ?? new LocalNetwork()
    const network = sealedNetwork(this.network, calloutsOf(context.kernel.scheduler))
    this.#shared = sharedOf(host, network, this.policy, options)
    this.#bus = host.bus
  }

  /** Connected frontends. */
  get connections(): PvcallsConnection[] {
    return [...this.#connections.values()]
  }

  /** A guest's connection. */
  connection(domid: number): PvcallsConnection | undefined {
    return this.connections.find((each) => each.domid === domid)
  }

  probe(device: XenbusDevice): Task {
    return this.#bus.kernel.call('pvcalls_back_probe', this.#probe(device))
  }

  *#probe(device: XenbusDevice): Task {
    const { xenbus } = this.#bus
    const { nodename } = device
    const { maxPageOrder } = this.#shared
    yield* xenbus.transaction(function* (tx) {
      yield* xenbus.write(`${nodename}/versions`, PVCALLS_VERSION, tx)
      yield* xenbus.write(`${nodename}/max-page-order`, maxPageOrder, tx)
      yield* xenbus.write(`${nodename}/function-calls`, 1, tx)
    })
    yield* this.#bus.switchState(device, InitWait)
  }

  otherendChanged(device: XenbusDevice, state: number): Task {
    return this.#bus.kernel.call('pvcalls_back_changed', this.#changed(device, state))
  }

  *#changed(device: XenbusDevice, state: number): Task {
    switch (state) {
      case Initialising:
        if (device.state !== Closed) return
        yield* this.#disconnect(device)
        return yield* this.#bus.switchState(device, InitWait)
      case Initialised:
      case Connected:
        if (device.state === InitWait) yield* this.#connect(device)
        return
      case Closing:
        yield* this.#disconnect(device)
        return yield* this.#bus.switchState(device, Closing)
      case Closed:
        yield* this.#disconnect(device)
        yield* this.#bus.switchState(device, Closed)
        if (yield* this.#bus.isOnline(device)) return
        return yield* this.#bus.unregister(device)
      case Unknown:
        return yield* this.#bus.unregister(device)
      default:
        yield* this.#fatal(device, `saw state ${state} at frontend`)
    }
  }

  *#connect(device: XenbusDevice): Task {
    const { xenbus } = this.#bus
    const { grants } = this.#shared.host
    const { otherend, otherendId } = device
    const read = (name: string) => xenbus.readIfExists(`${otherend}/${name}`)
    const version = yield* read('version')
    const ref = Number(yield* read('ring-ref'))
    const port = Number(yield* read('port'))
    if (version !== PVCALLS_VERSION) return yield* this.#fatal(device, `unsupported version ${version}`)
    const page = grants.tryMap(otherendId, ref)
    if (!page) return yield* this.#fatal(device, `mapping ring-ref ${ref}`)
    const broken = () => this.#bus.kernel.scheduleWork(() => this.#fatal(device, 'command ring is broken'))
    try {
      this.#connections.set(device.nodename, new PvcallsConnection(this.#shared, otherendId, page, port, broken))
    } catch (error) {
      grants.unmap(page)
      return yield* this.#fatal(device, `binding port ${port}: ${(error as Error).message}`)
    }
    yield* this.#bus.switchState(device, Connected)
  }

  *#fatal(device: XenbusDevice, text: string): Task {
    yield* this.#disconnect(device)
    yield* this.#bus.fatal(device, text)
  }

  *#disconnect(device: XenbusDevice): Task {
    const connection = this.#connections.get(device.nodename)
    if (!connection) return
    yield* this.#bus.kernel.call('backend_disconnect', connection.close())
    this.#connections.delete(device.nodename)
  }

  remove(device: XenbusDevice): Task {
    return this.#bus.kernel.call('pvcalls_back_remove', this.#disconnect(device))
  }
}
