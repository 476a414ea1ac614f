/**
 * The command ring: Xen's standard ring of requests and responses in one page (io/ring.h, PV-42).
 *
 *       0  req_prod    4  req_event    8  rsp_prod    12  rsp_event      free-running; the rest up to 64 is padding
 *      64  32 slots of 64 bytes: requests, and the responses that take their places
 *
 * Producing: fill slots, then publish the producer index; notify if the other side asked for one of those just published.
 * Consuming: read the producer index, then the slots. Before sleeping say from which index on a notification is wanted,
 * then look once more: what was published between the last look and that word would otherwise not be told (ring.h calls it
 * the final check). Atomics are sequentially consistent, so each of them is the barrier that its place asks for.
 *
 * Each side keeps its own indexes to itself; what the other side writes is only ever a number to be checked.
 */

import { RESPONSE_BYTES, SLOT_BYTES } from './pvcalls_protocol.js'

/** Slots of the ring: the greatest power of two that a page has room for. */
export const COMMAND_SLOTS = 32
const SLOTS_AT = 64
const REQ_PROD = 0
const REQ_EVENT = 1
const RSP_PROD = 2
const RSP_EVENT = 3

/** The page, whose view is renewed when its memory has grown. */
class RingPage {
  readonly #page: () => Uint8Array
  #bytes: Uint8Array = new Uint8Array(0)
  #words: Int32Array = new Int32Array(0)

  constructor(page: () => Uint8Array) {
    this.#page = page
  }

  #refresh(): void {
    const bytes = this.#page()
    if (bytes === this.#bytes) return
    this.#bytes = bytes
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2)
  }

  load(word: number): number {
    this.#refresh()
    return Atomics.load(this.#words, word) >>> 0
  }

  store(word: number, value: number): void {
    this.#refresh()
    Atomics.store(this.#words, word, value | 0)
  }

  slot(index: number): Uint8Array {
    this.#refresh()
    const at = SLOTS_AT + (index % COMMAND_SLOTS) * SLOT_BYTES
    return this.#bytes.subarray(at, at + SLOT_BYTES)
  }
}

/** Did the other side ask to be told of one of the entries from `from` up to, not including, `to`? */
const asked = (event: number, from: number, to: number): boolean => (to - event) >>> 0 < (to - from) >>> 0

/** The guest's side. */
export class CommandFrontRing {
  readonly #page: RingPage
  #requests = 0
  #responses = 0

  /** Lays out a fresh page: all zero but the two event indexes, which ask for the first entry. */
  constructor(page: () => Uint8Array) {
    page().fill(0)
    this.#page = new RingPage(page)
    this.#page.store(REQ_EVENT, 1)
    this.#page.store(RSP_EVENT, 1)
  }

  /** No slot is free. */
  get full(): boolean {
    return (this.#requests - this.#responses) >>> 0 >= COMMAND_SLOTS
  }

  /** Puts a request; true if the backend has to be notified. @throws Error if the ring is full. */
  push(request: Uint8Array): boolean {
    if (this.full) throw new Error('the command ring is full')
    const from = this.#requests
    this.#page.slot(from).set(request)
    this.#requests = (from + 1) >>> 0
    // The slot before the index: who sees the index sees the request.
    this.#page.store(REQ_PROD, this.#requests)
    // The index before the look at req_event: a backend that goes to sleep now either sees the one or is seen by the other.
    return asked(this.#page.load(REQ_EVENT), from, this.#requests)
  }

  /**
   * Takes a response; undefined if there is none, after asking to be notified of the next; 'broken' if the backend claims more
   * responses than there are requests without one.
   */
  pull(): Uint8Array | undefined | 'broken' {
    for (let again = false; ; again = true) {
      const produced = this.#page.load(RSP_PROD)
      if ((produced - this.#responses) >>> 0 > (this.#requests - this.#responses) >>> 0) return 'broken'
      if (produced !== this.#responses) {
        const response = this.#page.slot(this.#responses).slice(0, RESPONSE_BYTES)
        this.#responses = (this.#responses + 1) >>> 0
        return response
      }
      if (again) return undefined
      this.#page.store(RSP_EVENT, (this.#responses + 1) >>> 0)
    }
  }
}

/** The backend's side. */
export class CommandBackRing {
  readonly #page: RingPage
  #requests: number
  #responses: number

  /** Goes on where the page is: a frontend may have used it before. */
  constructor(page: () => Uint8Array) {
    this.#page = new RingPage(page)
    this.#responses = this.#page.load(RSP_PROD)
    this.#requests = this.#responses
  }

  /**
   * Takes a request, as a copy that the guest cannot change any more; undefined if there is none, after asking to be notified
   * of the next; 'broken' if the guest claims more requests than the ring has slots.
   */
  pull(): Uint8Array | undefined | 'broken' {
    for (let again = false; ; again = true) {
      const produced = this.#page.load(REQ_PROD)
      if ((produced - this.#responses) >>> 0 > COMMAND_SLOTS || this.#ahead(produced)) return 'broken'
      if (produced !== this.#requests) {
        const request = this.#page.slot(this.#requests).slice()
        this.#requests = (this.#requests + 1) >>> 0
        return request
      }
      if (again) return undefined
      this.#page.store(REQ_EVENT, (this.#requests + 1) >>> 0)
    }
  }

  /** The producer index has gone back behind what was taken already. */
  #ahead(produced: number): boolean {
    return (this.#requests - this.#responses) >>> 0 > (produced - this.#responses) >>> 0
  }

  /** Puts a response; true if the frontend has to be notified. There is room: each response answers a request. */
  push(response: Uint8Array): boolean {
    const from = this.#responses
    this.#page.slot(from).set(response)
    this.#responses = (from + 1) >>> 0
    this.#page.store(RSP_PROD, this.#responses)
    return asked(this.#page.load(RSP_EVENT), from, this.#responses)
  }
}
