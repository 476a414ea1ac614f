/**
 * A data ring in one page that a guest shares with a backend.
 *
 *       0  req_prod   4  req_event   8  rsp_prod   12  rsp_event       free-running, as in Xen's rings
 *      64  slots: requests and responses in the same places, 32 of 16 bytes: id, grant reference, two words more
 *
 * The slots are smaller than those of Xen's rings: they have what the stalls need. Either side keeps its consumer index to
 * itself and reads the other's producer index once, checked: more than a ring's worth is nonsense and reads as nothing.
 */

/** Slots of a ring. */
const RING_SLOTS = 32
const REQ_PROD = 0
const RSP_PROD = 2
const FIRST_SLOT = 16
const SLOT_WORDS = 4

/** A request or response. Responses use `id` and `status`. */
export interface Slot {
  readonly id: number
  readonly gref: number
  readonly a: number
  readonly b: number
}

/** One side's view of the page. */
class RingSide {
  readonly #page: () => Uint8Array
  #produced = 0
  #consumed = 0

  constructor(page: () => Uint8Array) {
    this.#page = page
  }

  #words(): Int32Array {
    const bytes = this.#page()
    return new Int32Array(bytes.buffer, bytes.byteOffset, 1024)
  }

  protected produce(index: number, { id, gref, a, b }: Slot): void {
    const words = this.#words()
    words.set([id, gref, a, b], FIRST_SLOT + (this.#produced % RING_SLOTS) * SLOT_WORDS)
    this.#produced = (this.#produced + 1) >>> 0
    Atomics.store(words, index, this.#produced | 0)
  }

  protected consume(index: number): Slot | undefined {
    const words = this.#words()
    const filled = ((Atomics.load(words, index) >>> 0) - this.#consumed) >>> 0
    if (filled === 0 || filled > RING_SLOTS) return undefined
    const at = FIRST_SLOT + (this.#consumed % RING_SLOTS) * SLOT_WORDS
    this.#consumed = (this.#consumed + 1) >>> 0
    return { id: words[at]! >>> 0, gref: words[at + 1]! >>> 0, a: words[at + 2]! >>> 0, b: words[at + 3]! >>> 0 }
  }

  protected get outstanding(): number {
    return (this.#produced - this.#consumed) >>> 0
  }
}

/** The guest's side. */
export class FrontRing extends RingSide {
  /** Puts a request; false if the ring is full. */
  request(slot: Slot): boolean {
    if (this.outstanding >= RING_SLOTS) return false
    this.produce(REQ_PROD, slot)
    return true
  }

  /** Takes a response; undefined if there is none. */
  response(): Slot | undefined {
    return this.consume(RSP_PROD)
  }
}

/** The backend's side. */
export class BackRing extends RingSide {
  request(): Slot | undefined {
    return this.consume(REQ_PROD)
  }

  respond(id: number, status: number): void {
    this.produce(RSP_PROD, { id, gref: 0, a: status, b: 0 })
  }
}
