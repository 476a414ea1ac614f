/**
 * May a request be handled now? A client of domain 0 waits while too much output waits for it; a guest waits for its
 * quota of outstanding requests, for its rate of writes, and below its memory limit (XS-quota-3). What must wait stays
 * where it is: in the ring, or in the socket.
 */

import type { Callouts } from '../callout.js'
import type { Connection } from './connection.js'
import type { XenStoredOptions } from './options.js'
import type { Quotas } from './quota.js'
import { WriteRate } from './rate.js'

const OUTPUT_HIGH = 256 * 1024

/** Who may be served. */
export class Admission {
  readonly #quotas: Readonly<Quotas>
  readonly #options: XenStoredOptions
  readonly #callouts: Callouts
  readonly #now: () => number | undefined
  readonly #rate: WriteRate | undefined
  /** Guests that were found near their memory limit. */
  readonly #warned = new Set<number>()

  /** `quotas` may change. */
  constructor(quotas: Readonly<Quotas>, options: XenStoredOptions, now: () => number | undefined, callouts: Callouts) {
    this.#quotas = quotas
    this.#options = options
    this.#callouts = callouts
    this.#now = now
    this.#rate = options.now && new WriteRate(() => now()!)
  }

  /** May a request of this connection be handled now? */
  mayServe(connection: Connection): boolean {
    if (connection.ignored || connection.closed) return false
    const { output, domid, usage, heldBack } = connection
    if (heldBack && heldBack.untilMs > (this.#now() ?? Number.POSITIVE_INFINITY)) return false
    if (connection.privileged) return output.bytes < (this.#options.outputHigh ?? OUTPUT_HIGH)
    if (usage.outstanding >= this.#quotas.outstanding) return false
    if (this.#rate?.inDebt(domid)) return false
    return !this.#overMemory(connection)
  }

  #overMemory(connection: Connection): boolean {
    const { memory, domid } = connection
    if (memory < this.#quotas.memorySoft) this.#warned.delete(domid)
    else if (!this.#warned.has(domid)) {
      this.#warned.add(domid)
      this.#callouts.run('onMemoryWarning', undefined, () => this.#options.onMemoryWarning?.(domid, memory))
    }
    return memory >= this.#quotas.memoryHard
  }

  /** A guest's write counts against its rate. */
  debit(domid: number): void {
    this.#rate?.debit(domid)
  }

  /** When a guest that waits for its rate may be served; Infinity if it does not wait. */
  recovery(domid: number, now: number): number {
    return this.#rate?.inDebt(domid) ? now + this.#rate.recovery(domid) : Number.POSITIVE_INFINITY
  }

  /** A domain is gone. */
  forget(domid: number): void {
    this.#rate?.forget(domid)
    this.#warned.delete(domid)
  }
}
