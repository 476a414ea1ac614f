/**
 * The page that a guest shares with the daemon: two byte queues and a few words.
 *
 *        0  requests    1024 bytes, byte x at x mod 1024
 *     1024  responses   1024 bytes
 *     2048  req_cons  2052 req_prod  2056 rsp_cons  2060 rsp_prod      free-running modulo 2³² (XS-ring-1)
 *     2064  server_features  2068 connection  2072 error  2076 evtchn_port
 *
 * Whatever an index holds, it is read once, as an unsigned number, and checked before use (XS-ring-2, XS-adv-420). Order
 * on either side: read indexes, copy bytes, advance the own index, notify (XS-ring-3); the atomic accesses are the barriers.
 */

import { func } from '../check.js'
/** Bytes of either queue. */
export const RING_SIZE = 1024

/** Words of the page, as indexes of 32-bit words. */
const WORD = {
  req_cons: 512,
  req_prod: 513,
  rsp_cons: 514,
  rsp_prod: 515,
  server_features: 516,
  connection: 517,
  error: 518,
  evtchn_port: 519,
} as const

/** A word of the page, by Xen's name. */
export type RingWord = keyof typeof WORD

/** The 4096 bytes of the page as they are now, aligned to 4; asked for at each use, for memories grow and move. */
export type RingPage = () => Uint8Array

/** One's own end of an event channel. */
export interface EventChannelEnd {
  notify(): void
  /** Called for each event; replaces an earlier callback. */
  onEvent(callback: () => void): void
}

/** The other side of a ring: where its page is and how to call it. */
export interface RingPeer {
  readonly page: RingPage
  readonly channel: EventChannelEnd
  /** Unbinds the port and unmaps the page. */
  close(): void
}

/** A queue of the page: its bytes, and which words are its indexes. */
export interface RingQueue {
  readonly at: number
  readonly cons: RingWord
  readonly prod: RingWord
}

/** Requests: guest to daemon. */
export const REQUESTS: RingQueue = { at: 0, cons: 'req_cons', prod: 'req_prod' }
/** Responses: daemon to guest. */
export const RESPONSES: RingQueue = { at: RING_SIZE, cons: 'rsp_cons', prod: 'rsp_prod' }

/** What cannot be: more than a queue's size between its indexes. */
export const CORRUPT = -1

/** Access to the page. */
export class Ring {
  readonly #page: RingPage
  #bytes = new Uint8Array(0)
  #words = new Int32Array(0)

  constructor(page: RingPage) {
    func('Ring', 'page', page)
    this.#page = page
  }

  #map(): void {
    const bytes = this.#page()
    if (bytes === this.#bytes && bytes.byteLength > 0) return
    this.#bytes = bytes as Uint8Array<ArrayBuffer>
    this.#words = new Int32Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, 1024)
  }

  get(word: RingWord): number {
    this.#map()
    return Atomics.load(this.#words, WORD[word]) >>> 0
  }

  set(word: RingWord, value: number): void {
    this.#map()
    Atomics.store(this.#words, WORD[word], value | 0)
  }

  /** Both queues empty, both sides at 0 (XS-dom-1). */
  clear(): void {
    for (const word of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const) this.set(word, 0)
  }

  /** Takes up to `max` bytes out of a queue, without going round its end; CORRUPT if the indexes are. */
  read(queue: RingQueue, max: number): Uint8Array | typeof CORRUPT {
    const cons = this.get(queue.cons)
    const filled = (this.get(queue.prod) - cons) >>> 0
    if (filled > RING_SIZE) return CORRUPT
    const from = cons % RING_SIZE
    const run = Math.min(max, filled, RING_SIZE - from)
    // A copy: what has been read must not change under the parser.
    const bytes = this.#bytes.slice(queue.at + from, queue.at + from + run)
    if (run) this.set(queue.cons, cons + run)
    return bytes
  }

  /** Lets `fill` put bytes into a queue, up to its end or to what is not yet read; how many, or CORRUPT. */
  write(queue: RingQueue, fill: (to: Uint8Array, at: number, max: number) => number): number {
    const prod = this.get(queue.prod)
    const filled = (prod - this.get(queue.cons)) >>> 0
    if (filled > RING_SIZE) return CORRUPT
    const to = prod % RING_SIZE
    const run = fill(this.#bytes, queue.at + to, Math.min(RING_SIZE - filled, RING_SIZE - to))
    if (run) this.set(queue.prod, prod + run)
    return run
  }
}
