/**
 * What a connection has still to be sent, and who pays for it.
 *
 * Memory that a guest can pile up is bounded here (XS-adv-326): an event that is already waiting is not queued twice
 * (XS-watch-10), events time out (XS-watch-13), and a requester has only so many replies and events under way
 * (XS-quota-3), counted by tickets.
 */

import { ByteQueue } from './byte_queue.js'
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
  readonly ticket: Ticket | undefined
  /** Path and token of an event that is queued only once; undefined for replies and special names. */
  readonly key: string | undefined
  readonly deadline: number
}

/** Packets in the order in which they are to be sent. */
export class OutputQueue {
  readonly #keys = new Set<string>()
  readonly #changed: () => void
  readonly #queue = new ByteQueue<Item>((item) => {
    if (item.key !== undefined) this.#keys.delete(item.key)
    item.ticket?.release()
  })

  /** `changed` is called when there are more or fewer bytes. */
  constructor(changed: () => void) {
    this.#changed = changed
  }

  /** Bytes to be sent. */
  get bytes(): number {
    return this.#queue.bytes
  }

  /** Is this event already waiting? */
  has(key: string): boolean {
    return this.#keys.has(key)
  }

  push(bytes: Uint8Array, ticket: Ticket | undefined, key?: string, deadline = Number.POSITIVE_INFINITY): void {
    this.#queue.push({ bytes, ticket, key, deadline })
    if (key !== undefined) this.#keys.add(key)
    ticket?.hold()
    this.#changed()
  }

  /** Moves up to `max` bytes to `to`, from `at` on; returns how many. */
  copy(to: Uint8Array, at: number, max: number): number {
    const done = this.#queue.copy(to, at, max)
    this.#changed()
    return done
  }

  /** Up to about `max` bytes as one piece. */
  take(max: number): Uint8Array {
    const piece = this.#queue.take(max)
    this.#changed()
    return piece
  }

  /** Drops the events whose time is over, unless their transmission has begun. */
  expire(now: number): void {
    if (!this.#queue.bytes) return
    this.#queue.drop(({ deadline }) => deadline <= now)
    this.#changed()
  }

  /** Earliest deadline; Infinity if nothing times out. */
  get deadline(): number {
    let first = Number.POSITIVE_INFINITY
    for (const { deadline } of this.#queue.items()) first = Math.min(first, deadline)
    return first
  }

  /** All that is to be sent, and how much of it belongs to a packet of which part is sent. */
  get rest(): { output: Uint8Array; begun: number } {
    const output = new Uint8Array(this.#queue.bytes)
    let at = 0
    let begun = 0
    for (const { bytes } of this.#queue.items()) {
      const left = at === 0 ? bytes.subarray(this.#queue.sent) : bytes
      if (at === 0 && this.#queue.sent) begun = left.length
      output.set(left, at)
      at += left.length
    }
    return { output, begun }
  }

  /** Takes what another queue's `rest` was. Its events are not told apart any more: none of them times out. */
  restore(output: Uint8Array, begun: number): void {
    if (begun) this.push(output.slice(0, begun), undefined)
    if (output.length > begun) this.push(output.slice(begun), undefined)
  }

  /** Drops everything. */
  clear(): void {
    this.#queue.clear()
    this.#changed()
  }
}
