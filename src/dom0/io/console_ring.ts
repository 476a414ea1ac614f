/**
 * dom0's end of a guest's console ring, as xenconsoled has it (xen/include/public/io/console.h).
 *
 *        0  in   1024 bytes, to the guest      3072 in_cons   3076 in_prod
 *     1024  out  2048 bytes, from the guest    3080 out_cons  3084 out_prod      free-running modulo 2³²
 *
 * The guest may write any index: each is read once, as an unsigned number, and more than a queue's size between two of them
 * is nonsense and reads as nothing.
 */

import { Callouts, type OnError } from '../../callout.js'
import { func, options } from '../../check.js'

const IN = { at: 0, size: 1024, cons: 3072 / 4, prod: 3076 / 4 } as const
const OUT = { at: 1024, size: 2048, cons: 3080 / 4, prod: 3084 / 4 } as const
const PAGE_WORDS = 1024

/** Where the ring's page is, and the event channel beside it. The peer of a store's ring is one. */
export interface ConsolePeer {
  readonly page: () => Uint8Array
  readonly channel: { notify(): void; onEvent(callback: () => void): void }
  close(): void
}

/** Options of a console. */
export interface ConsoleRingOptions {
  /** Gets what the guest wrote: bytes as they come. */
  onOutput?: (bytes: Uint8Array) => void
  /** Gets what `onOutput` throws. Default: the platform reports it. */
  onError?: OnError
}

/** One console. */
export class ConsoleRing {
  readonly #peer: ConsolePeer
  readonly #callouts: Callouts
  readonly #onOutput: ((bytes: Uint8Array) => void) | undefined
  /** Input that the ring had no room for. */
  #waiting: number[] = []

  /** @throws ParameterError for an option of the wrong type. */
  constructor(peer: ConsolePeer, given: ConsoleRingOptions = {}) {
    const { onOutput, onError } = options<ConsoleRingOptions>('ConsoleRing', given, { onOutput: func, onError: func })
    this.#peer = peer
    this.#onOutput = onOutput
    this.#callouts = new Callouts(onError)
    peer.channel.onEvent(() => this.#event())
    this.#event()
  }

  /** Types bytes at the guest's console. What there is no room for follows when the guest has read. */
  write(bytes: Uint8Array): void {
    this.#waiting.push(...bytes)
    this.#push()
  }

  /** Ends it: unbinds the port. */
  close(): void {
    this.#peer.channel.onEvent(() => {})
    this.#peer.close()
  }

  #words(page: Uint8Array): Int32Array {
    return new Int32Array(page.buffer as ArrayBuffer, page.byteOffset, PAGE_WORDS)
  }

  #event(): void {
    const page = this.#peer.page()
    const words = this.#words(page)
    const cons = Atomics.load(words, OUT.cons) >>> 0
    // After out_prod: the bytes before it are there.
    const filled = ((Atomics.load(words, OUT.prod) >>> 0) - cons) >>> 0
    if (filled > 0 && filled <= OUT.size) {
      const bytes = Uint8Array.from({ length: filled }, (_, i) => page[OUT.at + ((cons + i) & (OUT.size - 1))]!)
      // The bytes are copied: their place may be the guest's again.
      Atomics.store(words, OUT.cons, (cons + filled) | 0)
      this.#peer.channel.notify()
      this.#callouts.run('ConsoleRing.onOutput', undefined, () => this.#onOutput?.(bytes))
    }
    this.#push()
  }

  #push(): void {
    if (!this.#waiting.length) return
    const page = this.#peer.page()
    const words = this.#words(page)
    const prod = Atomics.load(words, IN.prod) >>> 0
    const filled = (prod - (Atomics.load(words, IN.cons) >>> 0)) >>> 0
    if (filled >= IN.size) return
    const now = this.#waiting.splice(0, IN.size - filled)
    for (const [i, byte] of now.entries()) page[IN.at + ((prod + i) & (IN.size - 1))] = byte
    // After the bytes.
    Atomics.store(words, IN.prod, (prod + now.length) | 0)
    this.#peer.channel.notify()
  }
}
