/**
 * Whose turn it is. Connections that have something to do stand in a row; the first gets one turn and, if it still has
 * something to do, goes to the end. One call from outside serves a share of turns at most. The rest is done later, so that
 * whoever always has a next request ready stops neither the other guests nor the embedder's event loop (XS-ring-10).
 *
 *     add ──▶ [ d1  d5  d7 ] ──turn──▶ d1 ──still busy──▶ to the end        after SHARE turns: `later`
 */

import type { Connection } from './connection.js'

/** Turns that are served in one call. */
const SHARE = 64

/** What the row asks of the daemon. */
export interface RotaDaemon {
  /** May connections be served now? Not in the middle of a request. */
  ready(): boolean
  /** Serves a connection, a bounded amount of work. */
  turn(connection: Connection): void
  /** Turns are left over: `step` is to be called soon, but not before this returns. */
  later(step: () => void): void
}

/** The connections that have something to do, in the order of their turns. */
export class Rota {
  readonly #daemon: RotaDaemon
  readonly #row = new Set<Connection>()
  #running = false
  #waiting = false

  constructor(daemon: RotaDaemon) {
    this.#daemon = daemon
  }

  /** It has something to do. */
  add(connection: Connection): void {
    this.#row.add(connection)
  }

  /** It is gone. */
  delete(connection: Connection): void {
    this.#row.delete(connection)
  }

  /** Serves one share. Does nothing while a request is handled or a share is being served: that one comes to it. */
  run(): void {
    if (this.#running || !this.#daemon.ready()) return
    this.#running = true
    try {
      let turns = 0
      // A Set visits what is added during the loop, too.
      for (const connection of this.#row) {
        if (turns++ === SHARE) break
        this.#row.delete(connection)
        this.#daemon.turn(connection)
      }
    } finally {
      this.#running = false
    }
    if (this.#row.size === 0 || this.#waiting) return
    this.#waiting = true
    this.#daemon.later(() => {
      this.#waiting = false
      this.run()
    })
  }

  /** Serves one share; true if there is more to do. */
  step(): boolean {
    this.run()
    return this.#row.size > 0
  }
}
