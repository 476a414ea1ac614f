/**
 * What the package exports of a connection: a read-only handle, with the output that its transport fetches. Nothing that is
 * reachable from it changes what the daemon believes.
 *
 *     handle ──#in──▶ connection.ts; `insideConnection` is the way there, and is not exported
 */

import { ParameterError } from '../check.js'
import type { Connection as InnerConnection } from './connection.js'

let connectionIn: (value: unknown) => InnerConnection | undefined

/** One client of the daemon. The same connection is always the same handle. */
export class Connection {
  readonly #in: InnerConnection

  static {
    connectionIn = (value) =>
      typeof value === 'object' && value !== null && #in in value ? (value as Connection).#in : undefined
  }

  /** @internal */
  constructor(inner: InnerConnection) {
    this.#in = inner
    Object.freeze(this)
  }

  /** Number of the connection, in order of creation. */
  get id(): number {
    return this.#in.id
  }
  /** The domain whose connection it is; 0 for a socket. */
  get domid(): number {
    return this.#in.domid
  }
  /** Permissions, quotas and limits do not apply to it. */
  get privileged(): boolean {
    return this.#in.privileged
  }
  /** It has ended. */
  get closed(): boolean {
    return this.#in.closed
  }
  /** Its peer broke the protocol: nothing is read from it or written to it any more. */
  get ignored(): boolean {
    return this.#in.ignored
  }
  /** Bytes that wait to be sent. */
  get outputBytes(): number {
    return this.#in.output.bytes
  }
  /** Bytes that have arrived and are not handled yet. */
  get inputBytes(): number {
    return this.#in.input.held
  }
  /** Open transactions. */
  get openTransactions(): number {
    return this.#in.transactions.size
  }
  /** Watches that it has set. */
  get openWatches(): number {
    return this.#in.watches.size
  }
  /** Takes up to about `max` bytes of output, as one piece: for its transport, which sends them. */
  take(max: number): Uint8Array {
    return this.#in.output.take(max)
  }
}

/** The handle of a connection. */
export function connectionHandle(inner: InnerConnection): Connection {
  inner.handle ??= new Connection(inner)
  return inner.handle as Connection
}

/** The connection behind a handle. @throws ParameterError for what is none */
export function insideConnection(call: string, handle: Connection): InnerConnection {
  const inner = connectionIn(handle)
  if (!inner) throw new ParameterError(call, 'connection', handle, 'a Connection, from connect or attachDomain')
  return inner
}
