/** netfront, small: connects when the backend waits for it, sends packets, closes with it. */

import type { Task } from '../kernel/index.js'
import { XenbusState } from '../xenbus/index.js'
import type { Frontend, FrontendBus } from './frontend_bus.js'
import { FrontPort } from './port.js'

/** Segmentation size of the packets that are sent. */
const GSO_SIZE = 1448

/** A network interface of a guest. */
export class Netfront implements Frontend {
  readonly nodename: string
  readonly backend: string
  readonly #bus: FrontendBus
  #port: FrontPort | undefined

  constructor(bus: FrontendBus, nodename: string, backend: string) {
    this.#bus = bus
    this.nodename = nodename
    this.backend = backend
  }

  get state(): number {
    return this.#bus.stateOf(this)
  }

  /** Requests that the backend has not answered. */
  get unanswered(): number {
    return this.#port?.unanswered ?? 0
  }

  *backendChanged(state: number): Task {
    if (state === XenbusState.InitWait && this.state === XenbusState.Initialising) yield* this.#connect()
    if (state === XenbusState.Closing || (state === XenbusState.Closed && this.state === XenbusState.Closing)) {
      this.#port?.close()
      this.#port = undefined
      yield* this.#bus.switchState(this, XenbusState.Closed)
    }
  }

  *#connect(): Task {
    const { host } = this.#bus
    const port = new FrontPort(host, this.nodename)
    this.#port = port
    const { nodename } = this
    yield* host.xenbus.transaction(function* (tx) {
      yield* host.xenbus.write(`${nodename}/tx-ring-ref`, port.ringRef, tx)
      yield* host.xenbus.write(`${nodename}/event-channel`, port.port, tx)
      yield* host.xenbus.write(`${nodename}/request-rx-copy`, 1, tx)
    })
    yield* this.#bus.switchState(this, XenbusState.Connected)
  }

  /** Sends a large packet; false if it is not connected or the ring is full. */
  send(): boolean {
    return this.#port !== undefined && this.#port.request(4096, GSO_SIZE) > 0
  }
}
