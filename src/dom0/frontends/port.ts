/** A frontend's shared ring and event channel, made when it connects. */

import { FrontRing } from '../io/index.js'
import type { GuestHost } from './frontend_bus.js'

/** A connected frontend's end. */
export class FrontPort {
  readonly ring: FrontRing
  readonly ringRef: number
  readonly port: number
  /** Responses that came, by request id. */
  readonly answered = new Map<number, number>()
  readonly #host: GuestHost
  readonly #pages: { gref: number; bytes: () => Uint8Array }[] = []
  #lastId = 0

  constructor(host: GuestHost, name: string) {
    this.#host = host
    const page = host.grantPage()
    page.bytes().fill(0)
    this.ringRef = page.gref
    this.ring = new FrontRing(page.bytes)
    this.port = host.allocUnbound(0, name, () => this.#responses())
  }

  #responses(): void {
    for (let slot = this.ring.response(); slot; slot = this.ring.response()) this.answered.set(slot.id, slot.a)
  }

  /** Sends a request about a page of the guest's; its id, or 0 if the ring is full. */
  request(a: number, b: number): number {
    const id = ++this.#lastId
    // A page stays granted, and is used for another request when its own is complete.
    const page = this.#pages[id % 4] ?? this.#host.grantPage()
    this.#pages[id % 4] = page
    if (!this.ring.request({ id, gref: page.gref, a, b })) return 0
    this.#host.send(this.port)
    return id
  }

  /** Requests without a response. */
  get unanswered(): number {
    return this.#lastId - this.answered.size
  }

  close(): void {
    this.#host.close(this.port)
  }
}
