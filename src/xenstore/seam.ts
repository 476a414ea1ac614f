/** Where requests enter and leave a store: watched by a trace, refused by injected faults. Most stores have none. */

import type { Callouts } from '../callout.js'
import type { Disruption, Faults, StoreEvent, TraceSink, Unnumbered } from '../trace/index.js'
import { errorName, type XsErrorName } from './errors.js'
import { fromLatin1 } from './text.js'
import { type Packet, typeName } from './wire.js'

/** What became of a request. */
export interface SeenRequest {
  /** The error that it is to end with instead of being carried out. */
  readonly fault: XsErrorName | undefined
  /** What is to become of it instead of a reply at once. */
  readonly disruption: Disruption | undefined
  /** The reply had this payload. */
  replied(payload: string): void
  /** It was refused. */
  refused(error: string): void
}

/** Strings of a payload; the nul behind the last one ends it and begins no other. */
const strings = (payload: string): string[] => (payload === '' ? [] : payload.replace(/\0$/, '').split('\0'))

/** The seam of one store. */
export class StoreSeam {
  readonly #sink: TraceSink
  readonly #faults: Faults | undefined
  readonly #now: () => number | undefined
  readonly #callouts: Callouts

  private constructor(sink: TraceSink, faults: Faults | undefined, now: () => number | undefined, callouts: Callouts) {
    this.#sink = sink
    this.#faults = faults
    this.#now = now
    this.#callouts = callouts
  }

  /** A seam, if there is anything to record or to refuse. `now`: in milliseconds. */
  static of(
    sink: TraceSink | undefined,
    faults: Faults | undefined,
    now: () => number | undefined,
    callouts: Callouts,
  ): StoreSeam | undefined {
    return sink?.record || faults ? new StoreSeam(sink ?? {}, faults, now, callouts) : undefined
  }

  /** A request of a domain; one that was held back is not disrupted again. */
  request(domid: number, { type, txId, body }: Packet, wasHeld: boolean): SeenRequest {
    const request = typeName(type)
    const disruption = wasHeld
      ? undefined
      : this.#callouts.run('faults.disruption', undefined, () => this.#faults?.disruption?.(domid, request))
    if (disruption && 'cut' in disruption) this.#record({ ...this.#begun(domid, request, txId, body), injected: true })
    if (disruption) return { fault: undefined, disruption, replied() {}, refused() {} }
    const begun = this.#begun(domid, request, txId, body)
    const asked = this.#callouts.run('faults.take', undefined, () => this.#faults?.take(domid, request))
    const fault = asked && errorName(asked)
    return {
      fault,
      disruption,
      replied: (payload) => this.#record({ ...begun, reply: strings(payload) }),
      refused: (error) => this.#record({ ...begun, error, ...(fault && { injected: true as const }) }),
    }
  }

  #begun(domid: number, request: string, transaction: number, body: Uint8Array) {
    return { ...this.#common(domid), request, transaction, body: strings(fromLatin1(body)) }
  }

  /** A watch event to a domain. */
  watchEvent(domid: number, payload: string): void {
    this.#record({ ...this.#common(domid), request: 'WATCH_EVENT', transaction: 0, body: strings(payload) })
  }

  #common(domid: number): { kind: 'store'; timeNs: number; domid: number } {
    return { kind: 'store', timeNs: (this.#now() ?? 0) * 1e6, domid }
  }

  #record(event: Unnumbered<StoreEvent>): void {
    this.#callouts.run('trace.record', undefined, () => this.#sink.record?.(event))
  }
}
