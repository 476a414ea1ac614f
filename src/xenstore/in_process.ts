/** A client and a daemon in the same program, without ring or socket: the bytes are the same. */

import { having } from '../check.js'
import { type ClientOptions, type ClientTransport, XenStoreClient } from './client.js'
import type { Transport } from './connection.js'
import type { Connection } from './handles.js'
import type { XenStored } from './server.js'

/** The way from a client to a daemon in the same program. */
export class InProcessTransport implements ClientTransport, Transport {
  readonly #server: XenStored
  /** Undefined only while the daemon is taking the connection up. */
  readonly connection: Connection
  readonly #domid: number
  #receive: (bytes: Uint8Array) => void = () => {}
  #closed: () => void = () => {}

  /** Connects as domain 0, or attaches `domid` as INTRODUCE would. */
  constructor(server: XenStored, domid = 0) {
    having('connect', 'attachDomain', 'receive')('InProcessTransport', 'server', server)
    this.#server = server
    this.#domid = domid
    this.connection = domid === 0 ? server.connect(this) : server.attachDomain(domid, this)
  }

  send(bytes: Uint8Array): void {
    this.#server.receive(this.connection, bytes)
  }
  listen(receive: (bytes: Uint8Array) => void, closed: () => void): void {
    this.#receive = receive
    this.#closed = closed
  }
  close(): void {
    if (this.#domid === 0) this.#server.disconnect(this.connection)
    else if (!this.connection.closed) this.#server.reset(this.connection)
  }
  wake(): void {
    const { connection } = this
    while (connection?.outputBytes) this.#receive(connection.take(65536))
  }
  fail(): void {
    this.#closed()
  }
  end(): void {
    this.#closed()
  }
}

/** A client of a daemon in the same program: domain 0, or the guest `domid`. */
export function connectInProcess(server: XenStored, domid = 0, options: ClientOptions = {}): XenStoreClient {
  return new XenStoreClient(new InProcessTransport(server, domid), options)
}
