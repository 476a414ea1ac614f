/**
 * What a connection has still to be sent, and who pays for it.
 *
 * Memory that a guest can pile up is bounded here (XS-adv-326): an event that is already waiting is not queued twice
 * (XS-watch-10), events time out (XS-watch-13), and a requester has only so many replies and events under way
 * (XS-quota-3), counted by tickets.
 */

import type { Usage } from './quota.js'

/** One thing under way on a domain's account: a reply, or a request with all the events that it caused. */
export class Ticket {
  readonly #usage: Usage
  readonly #freed: () => void
  #holds = 0

  /** `freed` is called when the account has become lighter. */
  constructor(usage: Usage, freed: () => void) {
    this.#usage = usage
    this.#freed = freed
  }

  hold(): void {
    if (this.#holds++ === 0) this.#usage.outstanding++
  }

  release(): void {
    if (--this.#holds > 0) return
    this.#usage.outstanding--
    this.#freed()
  }
}

interface Item {
  readonly bytes: Uint8Array
  readonly ticket: Ticket | null
  /** Path and token of an event that need not be told twice; null for replies and special names. */
  readonly key: string | null
  readonly deadline: number
}

/** Packets in the order in which they are to be sent. */
export class OutputQueue {
  #items: Item[] = []
  /** Index of the first item not wholly sent. */
  #head = 0
  /** Bytes of it that are sent. */
  #sent = 0
  #bytes = 0
  readonly #keys = new Set<string>()

  /** Bytes to be sent. */
  get bytes(): number {
    return this.#bytes
  }

  /** Is this event already waiting? */
  has(key: string): boolean {
    return this.#keys.has(key)
  }

  push(bytes: Uint8Array, ticket: Ticket | null, key: string | null = null, deadline = Number.POSITIVE_INFINITY): void {
    this.#items.push({ bytes, ticket, key, deadline })
    this.#bytes += bytes.length
    if (key !== null) this.#keys.add(key)
    ticket?.hold()
  }

  /** Moves up to `max` bytes to `to`, from `at` on; returns how many. */
  copy(to: Uint8Array, at: number, max: number): number {
    let done = 0
    while (done < max && this.#head < this.#items.length) {
      const item = this.#items[this.#head]!
      const run = Math.min(max - done, item.bytes.length - this.#sent)
      to.set(run === item.bytes.length ? item.bytes : item.bytes.subarray(this.#sent, this.#sent + run), at + done)
      done += run
      this.#sent += run
      this.#bytes -= run
      if (this.#sent === item.bytes.length) this.#shift(item)
    }
    return done
  }

  /** Up to about `max` bytes as one piece. */
  take(max: number): Uint8Array {
    const only = this.#items[this.#head]
    if (only && this.#sent === 0 && only.bytes.length === this.#bytes) {
      this.#bytes = 0
      this.#shift(only)
      return only.bytes
    }
    const piece = new Uint8Array(Math.min(max, this.#bytes))
    this.copy(piece, 0, piece.length)
    return piece
  }

  #shift(item: Item): void {
    this.#head++
    this.#sent = 0
    if (this.#head === this.#items.length || this.#head > 1024) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    this.#forget(item)
  }

  #forget(item: Item): void {
    if (item.key !== null) this.#keys.delete(item.key)
    item.ticket?.release()
  }

  /** Drops the events whose time is over, unless their transmission has begun. */
  expire(now: number): void {
    const begun = this.#sent > 0 ? 1 : 0
    const over = (item: Item, i: number) => i >= this.#head + begun && item.deadline <= now
    const dropped = this.#items.filter(over)
    if (!dropped.length) return
    this.#items = this.#items.filter((item, i) => i >= this.#head && !over(item, i))
    this.#head = 0
    for (const item of dropped) {
      this.#bytes -= item.bytes.length
      this.#forget(item)
    }
  }

  /** Earliest deadline; Infinity if nothing times out. */
  get deadline(): number {
    let first = Number.POSITIVE_INFINITY
    for (let i = this.#head; i < this.#items.length; i++) first = Math.min(first, this.#items[i]!.deadline)
    return first
  }

  /** Drops everything. */
  clear(): void {
    const items = this.#items.slice(this.#head)
    this.#items = []
    this.#head = 0
    this.#sent = 0
    this.#bytes = 0
    for (const item of items) this.#forget(item)
  }
}
