/**
 * The protocol between a program and hostd (native/wire.h): requests and answers as structs, and the stream of a device's
 * socket taken apart.
 *
 *     to hostd     request | request … , and between them what write() wrote: ports to unmask, messages of the store
 *     from hostd   ports that fired, messages of the store; answers go to the socket of the thread that asked
 */

import { decode, type Members, struct } from '../../abi/index.js'

/** Upper half of a request's first word. */
const WIRE_MAGIC = 0xe7c4
/** Largest payload of a request. */
const MOST_PAYLOAD = 8192

/** What is asked. */
export const WIRE_OP = Object.freeze({ answers: 0, open: 1, ioctl: 2, mmap: 3, file: 4, munmap: 5 } as const)

/** struct wire_request. The socket of the answer is named by two halves. */
const REQUEST = struct('wire_request', 24, {
  op: [0, 4, 'in'],
  pid: [4, 4, 'in'],
  answer_low: [8, 4, 'in'],
  answer_high: [12, 4, 'in'],
  cmd: [16, 4, 'in'],
  length: [20, 4, 'in'],
})

/** A request as read. */
export interface WireRequest {
  readonly op: number
  readonly pid: number
  /** Name of the socket that gets the answer. */
  readonly answerTo: string
  readonly cmd: number
  readonly payload: Buffer
}

/** What the stream of a device's socket is made of beside requests. */
export type Between = 'nothing' | 'ports' | 'store'

/** A stream that cannot be understood: its socket is closed. */
export class WireError extends Error {}

/** Bytes of the header of the store's messages, and where their length is. */
const STORE_HEADER = { size: 16, length: 12, most: 4096 } as const

/** Takes a stream apart. */
export class WireReader {
  between: Between = 'nothing'
  #bytes: Buffer = Buffer.alloc(0)

  #next(): WireRequest | { port: number } | { message: Buffer } | undefined {
    const bytes = this.#bytes
    if (bytes.length < 4) return undefined
    const word = bytes.readUInt32LE(0)
    if (word >>> 16 === WIRE_MAGIC) return this.#request(bytes)
    if (this.between === 'ports') {
      this.#bytes = bytes.subarray(4)
      return { port: word }
    }
    if (this.between !== 'store') throw new WireError(`${word} is no request`)
    return this.#message(bytes)
  }

  /** Takes bytes in and hands out what is complete. @throws WireError */
  *read(bytes: Buffer): Generator<WireRequest | { readonly port: number } | { readonly message: Buffer }> {
    this.#bytes = this.#bytes.length ? Buffer.concat([this.#bytes, bytes]) : bytes
    for (;;) {
      const item = this.#next()
      if (!item) return
      yield item
    }
  }

  #request(bytes: Buffer): WireRequest | undefined {
    if (bytes.length < REQUEST.size) return undefined
    const view = new DataView(bytes.buffer, bytes.byteOffset, REQUEST.size)
    const head: Members<typeof REQUEST, 'in'> = decode(REQUEST, view)
    if (head.length > MOST_PAYLOAD) throw new WireError(`a payload of ${head.length} bytes`)
    const end = REQUEST.size + head.length
    if (bytes.length < end) return undefined
    this.#bytes = bytes.subarray(end)
    return {
      op: head.op & 0xffff,
      pid: head.pid,
      answerTo: `${head.answer_high}.${head.answer_low}`,
      cmd: head.cmd,
      payload: Buffer.from(bytes.subarray(REQUEST.size, end)),
    }
  }

  /** A message of the store: its length is in its header. One that is too long is the store's to refuse. */
  #message(bytes: Buffer): { message: Buffer } | undefined {
    if (bytes.length < STORE_HEADER.size) return undefined
    const length = bytes.readUInt32LE(STORE_HEADER.length)
    if (length > STORE_HEADER.most) throw new WireError(`a message of ${length} bytes for the store`)
    const end = STORE_HEADER.size + length
    if (bytes.length < end) return undefined
    this.#bytes = bytes.subarray(end)
    return { message: Buffer.from(bytes.subarray(0, end)) }
  }
}

/** An answer's bytes. */
export function answerBytes(rc: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(8 + payload.length)
  bytes.writeInt32LE(rc, 0)
  bytes.writeUInt32LE(payload.length, 4)
  bytes.set(payload, 8)
  return bytes
}
