/**
 * A guest's end of its console ring (xen/include/public/io/console.h): bytes out to xenconsoled, bytes in from who types.
 *
 *        0  in   1024 bytes      3072 in_cons   3076 in_prod
 *     1024  out  2048 bytes      3080 out_cons  3084 out_prod
 */

import type { GuestKernel } from '../../guest/index.js'

const IN = { at: 0, size: 1024, cons: 3072 / 4, prod: 3076 / 4 } as const
const OUT = { at: 1024, size: 2048, cons: 3080 / 4, prod: 3084 / 4 } as const

/** The console of one guest. */
export class GuestConsole {
  /** Gets what was typed. */
  onInput: (text: string) => void = () => {}
  readonly #page: Uint8Array
  readonly #words: Uint32Array
  readonly #port: number
  readonly #channels: GuestKernel
  #waiting: number[] = []

  /** `page`: the ring's page in the guest's RAM; `port` is bound by whoever built the guest. */
  constructor(page: Uint8Array, port: number, channels: GuestKernel) {
    this.#page = page
    this.#words = new Uint32Array(page.buffer, page.byteOffset, page.length / 4)
    this.#port = port
    this.#channels = channels
    channels.bindHandler(port, { name: 'console', handler: () => this.#event() })
  }

  /** Writes text; what the ring has no room for follows when xenconsoled has read. */
  write(text: string): void {
    this.#waiting.push(...Buffer.from(text))
    this.#push()
  }

  #event(): void {
    this.#push()
    let cons = Atomics.load(this.#words, IN.cons)
    const prod = Atomics.load(this.#words, IN.prod)
    const bytes: number[] = []
    for (; cons !== prod && bytes.length < IN.size; cons = (cons + 1) >>> 0)
      bytes.push(this.#page[IN.at + (cons & (IN.size - 1))]!)
    if (!bytes.length) return
    Atomics.store(this.#words, IN.cons, cons)
    this.#channels.send(this.#port)
    this.onInput(Buffer.from(bytes).toString())
  }

  #push(): void {
    if (!this.#waiting.length) return
    const cons = Atomics.load(this.#words, OUT.cons)
    let prod = Atomics.load(this.#words, OUT.prod)
    const room = OUT.size - ((prod - cons) >>> 0)
    const now = this.#waiting.splice(0, Math.max(0, Math.min(room, OUT.size)))
    for (const byte of now) {
      this.#page[OUT.at + (prod & (OUT.size - 1))] = byte
      prod = (prod + 1) >>> 0
    }
    if (!now.length) return
    Atomics.store(this.#words, OUT.prod, prod)
    this.#channels.send(this.#port)
  }
}
