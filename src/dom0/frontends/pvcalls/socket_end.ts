/** What a connected socket of a guest is made of: what CONNECT and ACCEPT hand over to the backend. */

import type { WaitQueue } from '../../kernel/index.js'
import type { GuestHost } from '../frontend_bus.js'
import { FrontDataRing } from './front_ring.js'

/** A data ring, its event channel, and who waits for it: what CONNECT and ACCEPT hand over. */
export class SocketEnd {
  /** @internal */
  readonly ring: FrontDataRing
  readonly port: number
  readonly changed: WaitQueue
  readonly #host: GuestHost
  #closed = false

  /** @throws Error if the guest lacks pages, XenError ENOSPC if it has no port left; then nothing is left behind. */
  constructor(host: GuestHost, name: string, order: number) {
    this.#host = host
    this.changed = host.kernel.waitQueue()
    this.ring = new FrontDataRing(host, order)
    try {
      this.port = host.allocUnbound(0, name, () => this.changed.wakeAll())
    } catch (error) {
      this.ring.free()
      throw error
    }
  }

  /** Tells the backend: bytes, or room. */
  notify(): void {
    if (!this.#closed) this.#host.send(this.port)
  }

  free(): void {
    if (this.#closed) return
    this.#closed = true
    this.#host.close(this.port)
    this.ring.free()
    this.changed.wakeAll()
  }
}
