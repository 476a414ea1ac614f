/**
 * A domain's physical interrupts, as state: which port each is bound to, whether it awaits an EOI, and the EOI map that
 * the guest registered (spec 6.2). The lines themselves belong to the host (src/host/irq.ts).
 */

import type { GuestMemory } from '../machine/memory.js'
import { frameRefs } from '../machine/memory.js'

/** One PIRQ of a domain. */
export interface Pirq {
  /** 0 = not bound. */
  port: number
  /** Bound with WILL_SHARE. */
  willShare: boolean
  /** Delivered and not yet acknowledged. */
  inFlight: boolean
}

/** The PIRQ records of a domain; a record, once made, stays (EC-XSA-360). */
export class PirqTable {
  readonly nrPirqs: number
  readonly #records = new Map<number, Pirq>()
  /** Numbers that this domain may bind although it is not privileged (EC-pirq-3). */
  readonly permitted = new Set<number>()
  /** Absolute address of the EOI bitmap (EC-irq-3); -1 = none. */
  eoiMap = -1
  eoiMapGfn = -1
  /** Version 1 of the map makes an EOI unmask the port as well. */
  autoUnmask = false

  constructor(nrPirqs: number) {
    this.nrPirqs = nrPirqs
  }

  /** The record, if it exists. */
  find(pirq: number): Pirq | undefined {
    return this.#records.get(pirq)
  }

  /** All records with their numbers. */
  records(): Iterable<readonly [pirq: number, record: Pirq]> {
    return this.#records
  }

  /** The record, made if need be. */
  get(pirq: number): Pirq {
    let record = this.#records.get(pirq)
    if (!record) {
      record = { port: 0, willShare: false, inFlight: false }
      this.#records.set(pirq, record)
    }
    return record
  }

  /** Lets go of the EOI map: the domain is dead. */
  dropEoiMap(memory: GuestMemory): void {
    if (this.eoiMapGfn >= 0) frameRefs(memory).release(this.eoiMapGfn)
    this.eoiMapGfn = -1
  }
}
