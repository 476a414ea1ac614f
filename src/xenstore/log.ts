/**
 * What CONTROL `log on` and `print` write: every request and every packet to a client as a line, and what an administrator
 * has to say. The lines go to the embedder; a daemon whose embedder takes none refuses both commands.
 *
 *     IN 3 d0 WRITE (/tool/name xl)       connection 3, of domain 0
 *     OUT 3 d0 WRITE (OK)
 */

import type { Callouts } from '../callout.js'
import { fromLatin1 } from './text.js'
import { HEADER_SIZE, type Packet, typeName } from './wire.js'

/** Whose packet it is. */
interface Client {
  readonly id: number
  readonly domid: number
}

/** The log of one daemon. */
export class RequestLog {
  readonly #write: ((line: string) => void) | undefined
  readonly #callouts: Callouts
  /** `log on` was the last word. */
  on = false

  /** `write` gets one line at a time, without its end. */
  constructor(write: ((line: string) => void) | undefined, callouts: Callouts) {
    this.#write = write
    this.#callouts = callouts
  }

  /** Does anybody take lines? */
  get taken(): boolean {
    return this.#write !== undefined
  }

  /** CONTROL print. */
  print(text: string): void {
    this.#say(`control: ${text}`)
  }

  /** A request, before it is handled. */
  request(client: Client, { type, body }: Packet): void {
    this.#line('IN', client, type, body)
  }

  /** A packet to a client: a reply, or a watch event. */
  packet(client: Client, bytes: Uint8Array): void {
    // Every type that we send is below 256: the first byte is all of it.
    this.#line('OUT', client, bytes[0]!, bytes.subarray(HEADER_SIZE))
  }

  #line(way: string, { id, domid }: Client, type: number, body: Uint8Array): void {
    const text = fromLatin1(body).replace(/\0$/, '').replaceAll('\0', ' ')
    this.#say(`${way} ${id} d${domid} ${typeName(type)} (${text})`)
  }

  #say(line: string): void {
    this.#callouts.run('onLog', undefined, () => this.#write?.(line))
  }
}
