/**
 * The daemon as an embedder has it: bytes in, bytes out, domains that come and go, and a clock that is passed in. The work
 * is done in daemon.ts; nothing of that is reachable from here.
 *
 *     transport ──receive──▶ XenStored ──wake──▶ transport ──take──▶ bytes for the client
 */

import { flag, having, integer, ParameterError } from '../check.js'
import { checkStore as checkDaemon } from './checker.js'
import type { Transport } from './connection.js'
import { StoreDaemon } from './daemon.js'
import { type Connection, connectionHandle, insideConnection } from './handles.js'
import type { XenStoredOptions } from './options.js'
import type { Profile } from './profile.js'
import type { Quotas } from './quota.js'

const TRANSPORT = having('wake', 'fail', 'end')

let daemonIn: (xenstored: XenStored) => StoreDaemon

/** The daemon behind its public face: for the rest of this room and the library's own tests. */
export const insideStore = (xenstored: XenStored): StoreDaemon => daemonIn(xenstored)

/** A xenstore daemon. */
export class XenStored {
  readonly #daemon: StoreDaemon

  static {
    daemonIn = (xenstored) => {
      if (typeof xenstored !== 'object' || xenstored === null || !(#daemon in xenstored))
        throw new ParameterError('xenstore', 'store', xenstored, 'a XenStored')
      return xenstored.#daemon
    }
  }

  /** @throws ParameterError for an option of the wrong type or range */
  constructor(options: XenStoredOptions = {}) {
    this.#daemon = new StoreDaemon(options)
    Object.freeze(this)
  }

  /** Which daemon it takes after. */
  get profile(): Profile {
    return this.#daemon.profile
  }

  /** The limits for guests, as they are now: CONTROL `quota set` changes them. */
  get quotas(): Readonly<Quotas> {
    return Object.freeze({ ...this.#daemon.quotas })
  }

  /** Connections in order of creation. */
  get connections(): readonly Connection[] {
    return Object.freeze(this.#daemon.connections.map(connectionHandle))
  }

  // --- connections ---------------------------------------------------------------------------------------------------

  /**
   * A new connection: a privileged one of domain 0, as a socket is (XS-sock-1); or with `domid` one of a guest that is
   * introduced, with its permissions, quotas and limits, beside its ring and others like it. With `readonly` its requests
   * that would change anything are refused with EACCES.
   * @throws ParameterError for a domain that is not introduced
   */
  connect(transport: Transport, domid = 0, readonly = false): Connection {
    TRANSPORT('XenStored.connect', 'transport', transport)
    integer('XenStored.connect', 'domid', domid, 0, 0x7fff)
    if (domid && !this.#daemon.domains.get(domid)?.connection)
      throw new ParameterError('XenStored.connect', 'domid', domid, 'a domain that is introduced')
    return connectionHandle(this.#daemon.open(domid, transport, flag('XenStored.connect', 'readonly', readonly)))
  }

  /**
   * Connects a domain by a transport in the same program instead of a ring, as INTRODUCE does.
   * @throws Error if the host has no such domain; ParameterError for what is no number or no transport
   */
  attachDomain(domid: number, transport: Transport): Connection {
    integer('XenStored.attachDomain', 'domid', domid, 0, 0xffff)
    TRANSPORT('XenStored.attachDomain', 'transport', transport)
    return connectionHandle(this.#daemon.attachDomain(domid, transport))
  }

  /** The client is gone: its watches and transactions go without events (XS-sock-4, XS-watch-15). */
  disconnect(connection: Connection): void {
    this.#daemon.disconnect(insideConnection('disconnect', connection))
  }

  /** Forgets all that a connection had begun, as a guest that connects anew wants it (XS-ring-9). */
  reset(connection: Connection): void {
    this.#daemon.reset(insideConnection('reset', connection))
  }

  // --- bytes in, bytes out -------------------------------------------------------------------------------------------

  /** May a request of this connection be handled now? If not, its transport leaves bytes where they are. */
  mayServe(connection: Connection): boolean {
    return this.#daemon.mayServe(insideConnection('mayServe', connection))
  }

  /** Bytes from a client. They may be written over as soon as this returns. */
  receive(connection: Connection, bytes: Uint8Array): void {
    this.#daemon.receive(insideConnection('receive', connection), bytes)
  }

  /** The transport has taken output: requests that waited for that are handled. */
  resume(connection: Connection): void {
    this.#daemon.resume(insideConnection('resume', connection))
  }

  /**
   * Serves one share of what guests' rings brought; true if there is more. Only for an embedder that passed `later`: by
   * default the rest is done in later turns of the event loop.
   */
  step(): boolean {
    return this.#daemon.step()
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  /** Drops events that timed out, and serves guests that had to wait. Call it when `nextTick` says. */
  tick(): void {
    this.#daemon.tick()
  }

  /** When `tick` has something to do next, in milliseconds of the `now` that was passed in; Infinity if never. */
  get nextTick(): number {
    return this.#daemon.nextTick
  }

  // --- domains -------------------------------------------------------------------------------------------------------

  /** Connects a domain by its ring, as INTRODUCE does (XS-dom-1, XS-dom-3). `gfn`: frame of the ring; `port`: its channel. */
  introduce(domid: number, gfn: number, port: number): void {
    integer('XenStored.introduce', 'domid', domid, 0, 0xffff)
    integer('XenStored.introduce', 'gfn', gfn, 0, Number.MAX_SAFE_INTEGER)
    integer('XenStored.introduce', 'port', port, 0, 0xffffffff)
    this.#daemon.introduce(domid, gfn, port)
  }

  /** Some domain was created, shut down or destroyed (VIRQ_DOM_EXC): all are looked at (XS-dom-6). */
  domainsChanged(): void {
    this.#daemon.domainsChanged()
  }
}

/** Walks the store and its accounts. Returns one sentence a fault; none after any sequence of requests. */
export const checkStore = (xenstored: XenStored): string[] => checkDaemon(daemonIn(xenstored))
