/**
 * The bench's own client: packets made beforehand, replies counted, nothing parsed twice. It is the same for every daemon,
 * and cheap, so that what is measured is the daemon.
 */

import { connect, type Socket } from 'node:net'
import { encodeText, HEADER_SIZE, XS } from '../../src/xenstore/index.js'

/** One connection to a daemon. */
export class BenchClient {
  readonly #socket: Socket
  /** Bytes of a packet that has not come whole. */
  #rest: Buffer = Buffer.alloc(0)
  replies = 0
  events = 0
  errors = 0
  /** Payload of the last reply. */
  last = ''
  #done: (() => void) | null = null
  #until = 0

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data: Buffer) => this.#take(data))
  }

  static open(path: string): Promise<BenchClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path)
      // The C daemon's queue of new connections is one long.
      socket.once('error', (error: NodeJS.ErrnoException) =>
        error.code === 'EAGAIN' ? setTimeout(() => BenchClient.open(path).then(resolve, reject), 1) : reject(error),
      )
      socket.once('connect', () => resolve(new BenchClient(socket)))
    })
  }

  #take(data: Buffer): void {
    let bytes = this.#rest.length ? Buffer.concat([this.#rest, data]) : data
    let at = 0
    while (bytes.length - at >= HEADER_SIZE) {
      const end = at + HEADER_SIZE + bytes.readUInt32LE(at + 12)
      if (bytes.length < end) break
      const type = bytes.readUInt32LE(at)
      if (type === XS.WATCH_EVENT) this.events++
      else {
        this.replies++
        if (type === XS.ERROR) this.errors++
        if (type === XS.TRANSACTION_START) this.last = bytes.toString('latin1', at + HEADER_SIZE, end - 1)
      }
      at = end
    }
    bytes = bytes.subarray(at)
    this.#rest = bytes
    if (this.#done && this.replies + this.events >= this.#until) {
      const done = this.#done
      this.#done = null
      done()
    }
  }

  /** Sends bytes and waits until `count` more packets have come. */
  exchange(bytes: Uint8Array, count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#until = this.replies + this.events + count
      this.#done = resolve
      this.#socket.write(bytes)
    })
  }

  /** Waits until so many packets have come in all. */
  received(total: number): Promise<void> {
    if (this.replies + this.events >= total) return Promise.resolve()
    return new Promise((resolve) => {
      this.#until = total
      this.#done = resolve
    })
  }

  close(): void {
    this.#socket.destroy()
  }
}

/** A request as bytes; `|` is a nul. */
export function request(type: number, text: string, txId = 0): Uint8Array {
  return encodeText(type, 0, txId, text.replaceAll('|', '\0'))
}
