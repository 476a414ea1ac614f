/**
 * A guest's side of a data ring (PV-50, PV-54): producer of `out`, consumer of `in`. Makes the pages, grants them, writes
 * the index page.
 */

import { integer } from '../../../check.js'
import { CircularArray, INDEX_WORD, IndexPage, MAX_RING_ORDER, PVCALLS_ERRNO, queuedBytes } from '../../io/index.js'
import type { GrantedPage, GuestHost } from '../frontend_bus.js'

const { EINVAL } = PVCALLS_ERRNO

/** A data ring of `2^order` pages and its index page. */
export class FrontDataRing {
  readonly order: number
  readonly indexPage: GrantedPage
  readonly index: IndexPage
  /** Backend to frontend. */
  readonly in: CircularArray
  /** Frontend to backend. */
  readonly out: CircularArray
  readonly #host: GuestHost
  readonly #pages: readonly GrantedPage[]

  /** @throws ParameterError for an order that an index page has no room for; Error if the guest has not so many pages. */
  constructor(host: GuestHost, order: number) {
    integer('pvcalls', 'ringOrder', order, 1, MAX_RING_ORDER)
    this.#host = host
    this.order = order
    const [indexPage, ...data] = host.grantPages(1 + 2 ** order)
    this.#pages = [indexPage!, ...data]
    this.indexPage = indexPage!
    indexPage!.bytes().fill(0)
    this.index = new IndexPage(indexPage!.bytes)
    this.index.publish(INDEX_WORD.ring_order, order)
    data.forEach(({ gref }, i) => void this.index.publish(INDEX_WORD.ref + i, gref))
    const half = data.length / 2
    this.in = new CircularArray(data.slice(0, half).map(({ bytes }) => bytes))
    this.out = new CircularArray(data.slice(half).map(({ bytes }) => bytes))
  }

  /** Bytes that can be received now. */
  get readable(): number {
    return queuedBytes(this.index.index(INDEX_WORD.in_prod), this.index.index(INDEX_WORD.in_cons))
  }

  /** Bytes that the backend has not taken yet. */
  get unsent(): number {
    return queuedBytes(this.index.index(INDEX_WORD.out_prod), this.index.index(INDEX_WORD.out_cons))
  }

  /** What stopped the direction to the guest: 0, or a negative error. Looked at when nothing is readable. */
  get inError(): number {
    return this.index.error(INDEX_WORD.in_error)
  }

  /** What stopped the direction from the guest. */
  get outError(): number {
    return this.index.error(INDEX_WORD.out_error)
  }

  /** Puts bytes into `out`: how many there was room for; a negative error. */
  write(from: Uint8Array): number {
    // The load of out_cons acquires: bytes are overwritten only after the backend is known to have read them.
    const unsent = this.unsent
    const error = this.outError
    if (error) return error
    if (unsent > this.out.size) return EINVAL
    const prod = this.index.index(INDEX_WORD.out_prod)
    const length = Math.min(from.length, this.out.size - unsent)
    let done = 0
    for (const segment of this.out.segments(prod, length)) {
      segment.set(from.subarray(done, done + segment.length))
      done += segment.length
    }
    // The bytes before the index.
    if (done) this.index.publish(INDEX_WORD.out_prod, prod + done)
    return done
  }

  /** Takes bytes from `in`: how many; 0 if there are none; a negative error behind the last of them. */
  read(into: Uint8Array): number {
    // The error before the index: whoever sees the end and then an index sees the last index (PV-acc-13).
    const error = this.inError
    // The load of in_prod is the read barrier before the bytes.
    const readable = this.readable
    if (readable > this.in.size) return EINVAL
    if (!readable) return error
    const cons = this.index.index(INDEX_WORD.in_cons)
    const length = Math.min(into.length, readable)
    let done = 0
    for (const segment of this.in.segments(cons, length)) {
      into.set(segment, done)
      done += segment.length
    }
    // The bytes were read: from here on the backend may overwrite them.
    this.index.publish(INDEX_WORD.in_cons, cons + done)
    return done
  }

  /** Takes the pages back. The backend has unmapped them. */
  free(): void {
    this.#host.endGrants(this.#pages)
  }
}
