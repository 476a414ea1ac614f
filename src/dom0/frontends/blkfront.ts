/** blkfront, small: offers a ring, connects when the backend has, makes requests, closes with it. */

import type { Task } from '../kernel/index.js'
import { XenbusState } from '../xenbus/index.js'
import type { Frontend, FrontendBus } from './frontend_bus.js'
import { FrontPort } from './port.js'

/** A disk of a guest. */
export class Blkfront implements Frontend {
  readonly nodename: string
  readonly backend: string
  readonly #bus: FrontendBus
  #port: FrontPort | undefined
  #sectors = 0

  constructor(bus: FrontendBus, nodename: string, backend: string) {
    this.#bus = bus
    this.nodename = nodename
    this.backend = backend
  }

  get state(): number {
    return this.#bus.stateOf(this)
  }

  /** Size in sectors, once connected; 0 before. */
  get sectors(): number {
    return this.#sectors
  }

  /** Requests that the backend has not answered. */
  get unanswered(): number {
    return this.#port?.unanswered ?? 0
  }

  *backendChanged(state: number): Task {
    const { Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState
    if (state === InitWait && this.state === Initialising) yield* this.#offer()
    if (state === Connected && this.state === Initialised) {
      this.#sectors = Number(yield* this.#bus.host.xenbus.read(`${this.backend}/sectors`))
      yield* this.#bus.switchState(this, Connected)
    }
    if (state === Closing || (state === Closed && this.state === Closing)) {
      this.#port?.close()
      this.#port = undefined
      yield* this.#bus.switchState(this, Closed)
    }
  }

  *#offer(): Task {
    const { host } = this.#bus
    const port = new FrontPort(host, this.nodename)
    this.#port = port
    const { nodename } = this
    yield* host.xenbus.transaction(function* (tx) {
      yield* host.xenbus.write(`${nodename}/ring-ref`, port.ringRef, tx)
      yield* host.xenbus.write(`${nodename}/event-channel`, port.port, tx)
      yield* host.xenbus.write(`${nodename}/protocol`, 'x86_64-abi', tx)
      yield* host.xenbus.write(`${nodename}/feature-persistent`, 1, tx)
    })
    yield* this.#bus.switchState(this, XenbusState.Initialised)
  }

  /** Writes a page; false if it is not connected or the ring is full. */
  write(): boolean {
    return this.state === XenbusState.Connected && this.#port !== undefined && this.#port.request(1, 8) > 0
  }
}
