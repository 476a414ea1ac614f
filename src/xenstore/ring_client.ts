/** A guest's end of a ring: requests into the page, responses out of it. */

import { Callouts } from '../callout.js'
import { options as checked, func } from '../check.js'
import { ByteQueue } from './byte_queue.js'
import type { ClientOptions, ClientTransport } from './client.js'
import { CORRUPT, REQUESTS, RESPONSES, Ring, type RingPeer } from './ring.js'
import { sealedPeer } from './sealed.js'

/** The way to a daemon over a ring. */
export class RingClientTransport implements ClientTransport {
  readonly #peer: RingPeer
  readonly #ring: Ring
  readonly #waiting = new ByteQueue()
  #receive: (bytes: Uint8Array) => void = () => {}
  #closed: () => void = () => {}
  #running = false
  #again = false
  #ended = false

  constructor(peer: RingPeer, options: ClientOptions = {}) {
    const { onError } = checked('RingClientTransport', options, { onError: func })
    this.#peer = sealedPeer(peer, new Callouts(onError), 'the ring')
    this.#ring = new Ring(this.#peer.page)
    this.#peer.channel.onEvent(() => this.pump())
  }

  listen(receive: (bytes: Uint8Array) => void, closed: () => void): void {
    this.#receive = receive
    this.#closed = closed
  }

  send(bytes: Uint8Array): void {
    this.#waiting.push({ bytes })
    this.pump()
  }

  close(): void {
    if (this.#ended) return
    this.#ended = true
    this.#peer.channel.onEvent(() => {})
    this.#closed()
    this.#peer.close()
  }

  /** Reads and writes until neither can continue. Called for each event; harmless at any other time. */
  pump(): void {
    // A notification may bring the daemon's reply before it returns.
    this.#again = true
    if (this.#running) return
    this.#running = true
    try {
      while (this.#again) {
        this.#again = false
        while (this.#step());
      }
    } finally {
      this.#running = false
    }
  }

  #step(): boolean {
    if (this.#ended) return false
    if (this.#ring.get('error') !== 0) {
      this.close()
      return false
    }
    // Linux's client holds back until the daemon has acknowledged a reconnection.
    if (this.#ring.get('connection') !== 0) return false
    const wrote = this.#write()
    return this.#read() || wrote
  }

  #write(): boolean {
    if (!this.#waiting.bytes) return false
    const written = this.#ring.write(REQUESTS, (to, at, max) => this.#waiting.copy(to, at, max))
    if (written === CORRUPT) return this.#corrupt()
    if (written) this.#peer.channel.notify()
    return written > 0
  }

  #read(): boolean {
    if (this.#ended) return false
    const bytes = this.#ring.read(RESPONSES, Number.POSITIVE_INFINITY)
    if (bytes === CORRUPT) return this.#corrupt()
    if (!bytes.length) return false
    this.#peer.channel.notify()
    this.#receive(bytes)
    return true
  }

  #corrupt(): false {
    this.close()
    return false
  }
}
