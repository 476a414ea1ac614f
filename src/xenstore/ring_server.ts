/**
 * The daemon's end of a ring. An event makes it read and write until neither side can continue, and look again after each
 * step, for a guest need not send a second event (XS-ring-4). A guest whose requests do not end gets a turn at a time, in
 * rota.ts, and the others theirs (XS-ring-10).
 */

import { type Connection, RING_ERROR, type Transport } from './connection.js'
import { FEATURE } from './profile.js'
import { CORRUPT, REQUESTS, RESPONSES, Ring, type RingPeer } from './ring.js'

/** Steps of one turn: about sixteen requests, for a header, a payload and a reply are a step or two each. */
const TURN_STEPS = 32

/** What the ring asks of the daemon. */
export interface RingDaemon {
  mayServe(connection: Connection): boolean
  receive(connection: Connection, bytes: Uint8Array): void
  /** Forgets all that the connection had begun (XS-ring-9). */
  reset(connection: Connection): void
  /** The peer misbehaved. */
  fault(connection: Connection, error: number): void
  /** The guest has something. */
  knock(connection: Connection): void
  /** There is more to do than one turn. */
  again(connection: Connection): void
}

/** A guest's connection by ring. */
export class RingTransport implements Transport {
  readonly #daemon: RingDaemon
  readonly #connection: Connection
  readonly #peer: RingPeer
  readonly #ring: Ring
  readonly #features: number
  #running = false
  #ended = false

  constructor(daemon: RingDaemon, connection: Connection, peer: RingPeer, features: number) {
    this.#daemon = daemon
    this.#connection = connection
    this.#peer = peer
    this.#features = features
    this.#ring = new Ring(peer.page)
  }

  /** Brings the page into its first state, says so to a guest that waits for it, and listens (XS-dom-1, XS-ring-7). */
  start(): void {
    this.#ring.clear()
    this.#ring.set('server_features', this.#ring.get('server_features') | this.#features)
    this.#ring.set('error', 0)
    this.listen()
    if (this.#ring.get('connection') !== 1) return
    this.#ring.set('connection', 0)
    this.#peer.channel.notify()
  }

  restart(): void {
    this.start()
  }

  /** Listens on a page that is in use already. */
  listen(): void {
    this.#peer.channel.onEvent(() => this.#daemon.knock(this.#connection))
  }

  /** One turn. */
  wake(): void {
    if (this.#running) {
      this.#daemon.again(this.#connection)
      return
    }
    this.#running = true
    try {
      for (let steps = 0; this.#step(); )
        if (++steps === TURN_STEPS) {
          this.#daemon.again(this.#connection)
          return
        }
    } finally {
      this.#running = false
    }
  }

  #step(): boolean {
    if (this.#ended || this.#connection.ignored) return false
    if (this.#features & FEATURE.reconnection && this.#ring.get('connection') === 1) this.#reconnect()
    const read = this.#read()
    return this.#write() || read
  }

  #reconnect(): void {
    this.#daemon.reset(this.#connection)
    this.#ring.clear()
    this.#ring.set('connection', 0)
    this.#peer.channel.notify()
  }

  /** Reads no further than the end of one request: what must wait waits in the ring (XS-quota-3). */
  #read(): boolean {
    const connection = this.#connection
    if (!this.#daemon.mayServe(connection)) return false
    const bytes = this.#ring.read(REQUESTS, connection.input.wanted)
    if (bytes === CORRUPT) return this.#corrupt()
    if (!bytes.length) return false
    this.#peer.channel.notify()
    this.#daemon.receive(connection, bytes)
    return true
  }

  #write(): boolean {
    const { output, ignored } = this.#connection
    if (this.#ended || ignored || !output.bytes) return false
    const written = this.#ring.write(RESPONSES, (to, at, max) => output.copy(to, at, max))
    if (written === CORRUPT) return this.#corrupt()
    if (written) this.#peer.channel.notify()
    return written > 0
  }

  #corrupt(): false {
    this.#daemon.fault(this.#connection, RING_ERROR.index)
    return false
  }

  fail(error: number): void {
    this.#ring.set('error', error)
    this.#peer.channel.notify()
  }

  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#peer.channel.onEvent(() => {})
    this.#peer.close()
  }
}
