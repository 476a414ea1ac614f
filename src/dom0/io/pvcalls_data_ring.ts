/**
 * The index page and the data ring of an active socket (PV-50 to PV-52).
 *
 *     index page     0 in_cons   4 in_prod   8 in_error  │  64 out_cons  68 out_prod  72 out_error
 *                  128 ring_order   132 ref[2^ring_order]
 *     data ring    2^ring_order pages in sequence: the first half is `in`, backend to frontend, the second half `out`
 *
 * Two directions, each with one producer and one consumer. Indexes run freely modulo 2^32; an array's size is a power of
 * two. A figure of the protocol document puts ring_order at 76; the structure, and all who speak it, at 128.
 *
 * Indexes and errors are atomics, bytes are not. An atomic load keeps what comes behind it behind it, an atomic store what
 * comes before it before it, and all atomics have one order among themselves; none of them is a fence for plain accesses on
 * both sides. Nothing here needs one: where the protocol asks for a full barrier (PV-54), the index stands on one side of it
 * and the bytes on the other.
 */

/** Members of the index page, as indexes of 32-bit words. */
export const INDEX_WORD = {
  in_cons: 0,
  in_prod: 1,
  in_error: 2,
  out_cons: 16,
  out_prod: 17,
  out_error: 18,
  ring_order: 32,
  ref: 33,
} as const

/** The index page; its view is renewed when its memory has grown. */
export class IndexPage {
  readonly #page: () => Uint8Array
  #bytes: Uint8Array | undefined
  #words: Int32Array = new Int32Array(0)

  /** `page`: its 4096 bytes as they are now. */
  constructor(page: () => Uint8Array) {
    this.#page = page
  }

  #view(): Int32Array {
    const bytes = this.#page()
    if (bytes !== this.#bytes) {
      this.#bytes = bytes
      this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2)
    }
    return this.#words
  }

  /** An index, 0 to 2^32 - 1. The load acquires: what is read or written behind it, bytes too, happens behind it. */
  index(word: number): number {
    return Atomics.load(this.#view(), word) >>> 0
  }

  /** An error field: 0 or negative, or whatever the other side wrote. */
  error(word: number): number {
    return Atomics.load(this.#view(), word)
  }

  /** Publishes an index or error. The store releases: all that was written or read before it, for whoever sees it. */
  publish(word: number, value: number): void {
    Atomics.store(this.#view(), word, value | 0)
  }
}

/** A circular array of whole pages, which may lie anywhere. */
export class CircularArray {
  /** Bytes; a power of two. */
  readonly size: number
  readonly #pages: readonly (() => Uint8Array)[]
  /** Pages that are neighbours in memory, as one piece. */
  #runs: { readonly start: number; readonly bytes: Uint8Array }[] = []
  #buffer: ArrayBufferLike | undefined

  /** `pages` in sequence, 4096 bytes each; their number is a power of two. */
  constructor(pages: readonly (() => Uint8Array)[]) {
    this.#pages = pages
    this.size = pages.length * 4096
  }

  #refresh(): void {
    const { buffer } = this.#pages[0]!()
    if (buffer === this.#buffer) return
    this.#buffer = buffer
    this.#runs = []
    let start = 0
    for (const page of this.#pages) {
      const bytes = page()
      const last = this.#runs.at(-1)
      const follows =
        last?.bytes.buffer === bytes.buffer && last.bytes.byteOffset + last.bytes.length === bytes.byteOffset
      if (last && follows)
        this.#runs[this.#runs.length - 1] = {
          start: last.start,
          bytes: new Uint8Array(bytes.buffer, last.bytes.byteOffset, last.bytes.length + bytes.length),
        }
      else this.#runs.push({ start, bytes })
      start += bytes.length
    }
  }

  /** The pieces of `length` bytes from a free-running index on, in order. `length` is at most `size`. */
  segments(index: number, length: number): Uint8Array[] {
    this.#refresh()
    const found: Uint8Array[] = []
    const begin = index & (this.size - 1)
    // From the position to the array's end, then from its start.
    for (const [from, to] of [
      [begin, Math.min(begin + length, this.size)],
      [0, begin + length - this.size],
    ] as const) {
      if (to <= from) continue
      for (const { start, bytes } of this.#runs) {
        const first = Math.max(from, start)
        const end = Math.min(to, start + bytes.length)
        if (first < end) found.push(bytes.subarray(first - start, end - start))
      }
    }
    return found
  }
}

/**
 * Bytes that wait in an array. Taken from the unmasked indexes, this differs from the document's function, which takes
 * masked ones, only where the indexes make no sense: there it is more than `size` (PV-52, PV-53).
 */
export const queuedBytes = (prod: number, cons: number): number => (prod - cons) >>> 0
