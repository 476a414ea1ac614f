/**
 * The recorder: a bounded buffer of events, the oldest of which make room. It costs nothing where there is none: whoever
 * could record asks once whether there is a trace.
 */

import { func, options, type Table, within } from '../check.js'
import { Queue } from '../queue.js'
import type { TraceEvent, Unnumbered } from './event.js'
import { formatEvent } from './text.js'

/** Most events that a trace keeps. */
const MOST_EVENTS = 2 ** 24

/** Where events go: a Trace, or anything else that takes them. */
export interface TraceSink {
  /** An event happened. It looks on and calls nothing of the host; what it throws reaches nobody. */
  record?(event: Unnumbered): void
  /**
   * A vCPU's evtchn_upcall_pending went from 0 to 1, or its upcall is due anew; also where the guest masks upcalls.
   * Called in the middle of an operation.
   */
  upcall?(vcpu: { readonly domid: number; readonly vcpuId: number }): void
}

/** Options of a trace. */
export interface TraceOptions {
  /** Events that are kept; older ones are dropped and counted. Default 10,000. */
  limit?: number
  /** Called with each event as it is recorded. What it throws reaches nobody. */
  onEvent?: (event: TraceEvent) => void
}

const TABLE: Table<TraceOptions> = { limit: within(1, MOST_EVENTS), onEvent: func }

/** Records events. */
export class Trace implements TraceSink {
  readonly #limit: number
  readonly #onEvent: ((event: TraceEvent) => void) | undefined
  readonly #events = new Queue<TraceEvent>()
  #seq = 0
  /** Events that were forgotten by `clear`. */
  #cleared = 0

  /** @throws ParameterError */
  constructor(given: TraceOptions = {}) {
    const { limit = 10_000, onEvent } = options('Trace', given, TABLE)
    this.#limit = limit
    this.#onEvent = onEvent
  }

  /** Events that were recorded, dropped ones included. */
  get recorded(): number {
    return this.#seq
  }

  /** Events that made room for later ones. */
  get dropped(): number {
    return this.#seq - this.#cleared - this.#events.length
  }

  /** Records an event. */
  record(event: Unnumbered): void {
    const numbered = { seq: ++this.#seq, ...event } as TraceEvent
    if (this.#events.length >= this.#limit) this.#events.shift()
    this.#events.push(numbered)
    // What it throws is caught and reported where `record` is called.
    this.#onEvent?.(numbered)
  }

  /** The events that are kept, oldest first. */
  [Symbol.iterator](): Iterator<TraceEvent> {
    return this.events()[Symbol.iterator]()
  }

  /** The last events that are kept, oldest first; without a number all of them. */
  events(last = Number.POSITIVE_INFINITY): TraceEvent[] {
    const all = [...this.#events]
    return last < all.length ? all.slice(all.length - last) : all
  }

  /** The last events as strace would write them. */
  text(last?: number): string {
    return this.events(last)
      .map((event) => `${formatEvent(event)}\n`)
      .join('')
  }

  /** Forgets all events; numbers continue. */
  clear(): void {
    this.#cleared += this.#events.clear().length
  }
}
