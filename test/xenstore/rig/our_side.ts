/** Our daemon in this process, with sockets by transport and guests on ring pages. */

import {
  type Connection,
  type RingPeer,
  type Transport,
  XenStored,
  type XenStoredOptions,
} from '../../../src/xenstore/index.js'
import { DOMAINS, DYING, RING, SHUTDOWN, type Side, Stream } from './side.js'

class SocketClient implements Transport {
  readonly stream = new Stream()
  readonly #server: XenStored
  readonly connection: Connection

  constructor(server: XenStored) {
    this.#server = server
    this.connection = server.connect(this)
  }

  send(bytes: Uint8Array): void {
    if (!this.stream.closed) this.#server.receive(this.connection, bytes)
  }
  wake(): void {
    const { connection } = this
    while (connection?.outputBytes) this.stream.take(connection.take(65536))
  }
  fail(): void {
    this.#server.disconnect(this.connection)
  }
  end(): void {
    this.stream.closed = true
  }
}

/** A guest as it drives its ring page: it fetches whenever it is notified. */
class RingClient {
  readonly stream = new Stream()
  readonly #page: Uint8Array
  readonly #words: DataView
  readonly #notify: () => void
  #draining = false
  stalled = false

  constructor(page: Uint8Array, notify: () => void) {
    this.#page = page
    this.#words = new DataView(page.buffer)
    this.#notify = notify
  }

  #get(word: keyof typeof RING): number {
    return this.#words.getUint32(RING[word], true)
  }

  drain(): void {
    if (this.stalled || this.#draining) return
    this.#draining = true
    for (;;) {
      const consumed = this.#get('rsp_cons')
      const count = (this.#get('rsp_prod') - consumed) >>> 0
      if (!count || count > 1024) break
      const bytes = Uint8Array.from({ length: count }, (_, i) => this.#page[1024 + ((consumed + i) & 1023)]!)
      this.#words.setUint32(RING.rsp_cons, consumed + count, true)
      this.stream.take(bytes)
      this.#notify()
    }
    this.#draining = false
  }

  send(bytes: Uint8Array): boolean {
    for (let sent = 0, idle = 0; sent < bytes.length; ) {
      const produced = this.#get('req_prod')
      const run = Math.min(bytes.length - sent, 1024 - ((produced - this.#get('req_cons')) >>> 0))
      for (let i = 0; i < run; i++) this.#page[(produced + i) & 1023] = bytes[sent + i]!
      this.#words.setUint32(RING.req_prod, produced + run, true)
      sent += run
      this.#notify()
      this.drain()
      if (run <= 0 && ++idle > 3) return false
    }
    return true
  }
}

/** Our daemon. */
export class OurSide implements Side {
  readonly server: XenStored
  readonly #states = new Uint8Array(DOMAINS)
  readonly #pages = Array.from({ length: DOMAINS }, () => new Uint8Array(4096))
  readonly #callbacks: (() => void)[] = []
  readonly #sockets = new Map<string, SocketClient>()
  readonly #rings = new Map<string, RingClient>()
  readonly #ringOf = new Map<number, RingClient>()
  #now = 0

  constructor(options: XenStoredOptions) {
    this.#states[0] = 1
    this.server = new XenStored({
      now: () => this.#now,
      onLog: () => {},
      host: {
        state: (domid) => {
          const state = this.#states[domid] ?? 0
          return state ? { shutdown: (state & SHUTDOWN) !== 0, dying: (state & DYING) !== 0 } : undefined
        },
        connect: (domid) => this.#map(domid),
      },
      ...options,
    })
  }

  #map(domid: number): RingPeer | undefined {
    const state = this.#states[domid] ?? 0
    if (!state || state & DYING) return undefined
    return {
      page: () => this.#pages[domid]!,
      channel: {
        notify: () => this.#ringOf.get(domid)?.drain(),
        onEvent: (callback) => {
          this.#callbacks[domid] = callback
        },
      },
      close: () => {},
    }
  }

  setClock(ms: number): void {
    this.#now = ms
  }
  setState(domid: number, state: number): void {
    this.#states[domid] = state
  }
  state(domid: number): number {
    return this.#states[domid] ?? 0
  }
  domainsChanged(): void {
    this.server.domainsChanged()
  }
  tick(): void {
    this.server.tick()
  }
  openSocket(name: string): Promise<void> {
    this.#sockets.set(name, new SocketClient(this.server))
    return Promise.resolve()
  }
  openRing(name: string, domid: number): void {
    const client = new RingClient(this.#pages[domid]!, () => this.#callbacks[domid]?.())
    this.#rings.set(name, client)
    this.#ringOf.set(domid, client)
  }
  close(name: string): void {
    const socket = this.#sockets.get(name)
    if (socket) this.server.disconnect(socket.connection)
    this.#sockets.delete(name)
  }
  stream(name: string): Stream {
    return (this.#sockets.get(name) ?? this.#rings.get(name))!.stream
  }
  stall(name: string, stalled: boolean): void {
    const client = this.#rings.get(name)!
    client.stalled = stalled
    client.drain()
  }
  send(name: string, bytes: Uint8Array): boolean {
    const socket = this.#sockets.get(name)
    if (!socket) return this.#rings.get(name)!.send(bytes)
    socket.send(bytes)
    return true
  }
}
