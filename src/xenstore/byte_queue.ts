/**
 * Packets on their way into a byte stream that takes as much as it has room for: a ring, or a socket.
 *
 *     first ── second ── …        of the first packet, `#sent` bytes are gone already
 */

import { Queue } from '../queue.js'

/** A packet in the queue. */
export interface Sendable {
  readonly bytes: Uint8Array
}

/** Packets in the order in which they are sent. */
export class ByteQueue<T extends Sendable = Sendable> {
  readonly #items = new Queue<T>()
  readonly #onGone: (item: T) => void
  #sent = 0
  #bytes = 0

  /** `onGone` is called for each packet that is wholly sent or was dropped. */
  constructor(onGone: (item: T) => void = () => {}) {
    this.#onGone = onGone
  }

  /** Bytes that are not sent yet. */
  get bytes(): number {
    return this.#bytes
  }

  /** The packets that are not wholly sent. */
  items(): Iterable<T> {
    return this.#items
  }

  /** Bytes of the first packet that are sent. */
  get sent(): number {
    return this.#sent
  }

  push(item: T): void {
    this.#items.push(item)
    this.#bytes += item.bytes.length
  }

  /** Moves up to `max` bytes to `to`, from `at` on; returns how many. */
  copy(to: Uint8Array, at: number, max: number): number {
    let done = 0
    while (done < max) {
      const item = this.#items.first
      if (!item) break
      const { bytes } = item
      const run = Math.min(max - done, bytes.length - this.#sent)
      to.set(run === bytes.length ? bytes : bytes.subarray(this.#sent, this.#sent + run), at + done)
      done += run
      this.#sent += run
      this.#bytes -= run
      if (this.#sent === bytes.length) this.#shift(item)
    }
    return done
  }

  /** Up to about `max` bytes as one piece. */
  take(max: number): Uint8Array {
    const only = this.#items.first
    if (only && this.#sent === 0 && only.bytes.length === this.#bytes) {
      this.#bytes = 0
      this.#shift(only)
      return only.bytes
    }
    const piece = new Uint8Array(Math.min(max, this.#bytes))
    this.copy(piece, 0, piece.length)
    return piece
  }

  #shift(item: T): void {
    this.#items.shift()
    this.#sent = 0
    this.#onGone(item)
  }

  /** Drops the packets for which `goes` holds, unless their transmission has begun. */
  drop(goes: (item: T) => boolean): void {
    const begun = this.#sent > 0 ? 1 : 0
    for (const item of this.#items.extract((each, i) => i >= begun && goes(each))) {
      this.#bytes -= item.bytes.length
      this.#onGone(item)
    }
  }

  /** Drops everything. */
  clear(): void {
    const items = this.#items.clear()
    this.#sent = 0
    this.#bytes = 0
    for (const item of items) this.#onGone(item)
  }
}
