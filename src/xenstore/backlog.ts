/**
 * What waits for clients that do not read, over all of them: bytes in their queues, and bytes that their transports have
 * taken and could not pass on. A client with more than its own limit is cut off; when all domain 0's clients together have
 * too much, the one that holds most is, until the rest fits (XS-sock-5). That happens as the bytes are queued: one request
 * may cause any number of events.
 */

import type { Connection } from './connection.js'

/** The limits of a backlog, in bytes. */
export interface BacklogLimits {
  /** For one connection. */
  readonly each: number
  /** For all privileged connections together. */
  readonly total: number
}

/** The output of all connections of a daemon. */
export class Backlog {
  readonly #limits: BacklogLimits
  /** Privileged connections, and what of each the total counts. */
  readonly #counted = new Map<Connection, number>()
  #total = 0
  #shrinking = false

  constructor(limits: BacklogLimits) {
    this.#limits = limits
  }

  /** Bytes that the privileged connections hold, as last looked at. */
  get total(): number {
    return this.#total
  }

  /** A new connection. Guests have quotas instead of a part of the total. */
  add(connection: Connection): void {
    if (connection.privileged) this.#counted.set(connection, 0)
  }

  /** It has ended: nothing of it is held any more. */
  delete(connection: Connection): void {
    this.#total -= this.#counted.get(connection) ?? 0
    this.#counted.delete(connection)
  }

  /** The output of a connection grew, or its transport took some: counts it, and cuts off whoever has too much. */
  note(connection: Connection): void {
    if (connection.output.bytes > this.#limits.each) connection.cut()
    this.#count(connection)
    if (this.#total > this.#limits.total && !this.#shrinking) this.#shrink()
  }

  #count(connection: Connection): void {
    const before = this.#counted.get(connection)
    if (before === undefined) return
    const now = heldBy(connection)
    this.#counted.set(connection, now)
    this.#total += now - before
  }

  /** The figures of transports are as old as their last wake: they are taken again before anybody is cut off. */
  #shrink(): void {
    this.#shrinking = true
    for (const connection of this.#counted.keys()) this.#count(connection)
    const byBytes = [...this.#counted].sort(([, one], [, other]) => other - one)
    for (const [connection] of byBytes) {
      if (this.#total <= this.#limits.total) break
      connection.cut()
    }
    this.#shrinking = false
  }
}

/** A connection that is cut off is about to be closed, and its transport with it. */
function heldBy({ output, transport, isCut }: Connection): number {
  if (isCut) return 0
  return output.bytes + (transport.held?.() ?? 0)
}
