/**
 * Requests and replies of one client connection, free of I/O: ids out, replies matched by id, events apart.
 *
 *     request ──▶ id, packet ──▶ …transport… ──▶ PacketReader ──▶ accept ─┬─ reply by id ──▶ its outcome
 *                                                                         └─ event ───────▶ onEvent
 */

import { errorName, XenStoreError } from './errors.js'
import { fromLatin1 } from './text.js'
import { encodePacket, PAYLOAD_MAX, type Packet, splitStrings, typeName, XS } from './wire.js'

/** Who made a request: exactly one of these is called, once. */
export interface Outcome {
  resolve(body: Uint8Array): void
  reject(error: XenStoreError): void
}

/** An outcome for a caller that sleeps until it has come. */
export class AwaitedOutcome implements Outcome {
  readonly #wake: () => void
  #body: Uint8Array | undefined
  #error: XenStoreError | undefined

  /** `wake` is called when the outcome has come. */
  constructor(wake: () => void) {
    this.#wake = wake
  }

  get here(): boolean {
    return this.#body !== undefined || this.#error !== undefined
  }

  resolve(body: Uint8Array): void {
    this.#body = body
    this.#wake()
  }

  reject(error: XenStoreError): void {
    this.#error = error
    this.#wake()
  }

  /** The reply's payload, once the outcome is here. @throws XenStoreError with the daemon's answer. */
  take(): Uint8Array {
    if (this.#error) throw this.#error
    return this.#body!
  }
}

interface Pending extends Outcome {
  readonly type: number
  readonly about: string
}

/** Where a connection's events go. */
export interface ExchangeEvents {
  /** A watch fired. */
  event(path: string, token: string): void
  /** A message that cannot be understood was dropped; says why. */
  bad?(problem: string): void
}

/** Requests under way on one connection. */
export class Exchange {
  readonly #events: ExchangeEvents
  readonly #pending = new Map<number, Pending>()
  #lastId = 0

  constructor(events: ExchangeEvents) {
    this.#events = events
  }

  /** Requests that wait for their replies. */
  get pending(): number {
    return this.#pending.size
  }

  /**
   * Registers a request and returns its id and its packet, which the caller sends. `about` stands in the error.
   * @throws XenStoreError E2BIG if the payload is too long; nothing is registered then.
   */
  request(
    type: number,
    txId: number,
    body: Uint8Array,
    about: string,
    outcome: Outcome,
  ): { id: number; packet: Uint8Array } {
    if (body.length > PAYLOAD_MAX) throw new XenStoreError(typeName(type), about, 'E2BIG')
    do this.#lastId = (this.#lastId + 1) >>> 0
    while (this.#pending.has(this.#lastId))
    const id = this.#lastId
    this.#pending.set(id, { type, about, resolve: (reply) => outcome.resolve(reply), reject: (e) => outcome.reject(e) })
    return { id, packet: encodePacket(type, id, txId, body) }
  }

  /** Nobody waits for this reply any more. */
  forget(id: number): void {
    this.#pending.delete(id)
  }

  /** Takes a packet from the daemon. */
  accept({ type, reqId, body }: Packet): void {
    if (type === XS.WATCH_EVENT) {
      const strings = splitStrings(body)
      // Exactly two strings, each with its nul (XW-base-5).
      if (strings?.length === 2) this.#events.event(strings[0]!, strings[1]!)
      else this.#events.bad?.(`a watch event of ${fromLatin1(body).split('\0').length - 1} strings (EINVAL)`)
      return
    }
    const pending = this.#pending.get(reqId)
    if (!pending) {
      this.#events.bad?.(`a reply to request ${reqId}, which nobody made (ENOENT)`)
      return
    }
    this.#pending.delete(reqId)
    if (type === pending.type) pending.resolve(body.slice())
    else pending.reject(refusal(pending, fromLatin1(body).replace(/\0$/, '')))
  }

  /** The connection has ended: every request under way fails with EIO. */
  end(): void {
    const all = [...this.#pending.values()]
    this.#pending.clear()
    for (const pending of all) pending.reject(refusal(pending, 'EIO'))
  }
}

function refusal({ type, about }: Pending, name: string): XenStoreError {
  return new XenStoreError(typeName(type), about, errorName(name))
}
