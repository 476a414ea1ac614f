/**
 * The wire protocol, free of I/O: packets, their incremental parser, and the strings inside them.
 *
 *     0      4        8       12     16            16 + len
 *     | type | req_id | tx_id | len  | payload …   |          all u32, little-endian; len ≤ 4096 (XS-wire-1)
 */

import { text as aText, byteArray, integer } from '../check.js'
import { fromLatin1, putLatin1 } from './text.js'

/** Bytes of a header. */
export const HEADER_SIZE = 16
/** Largest payload in either direction (XS-wire-1). */
export const PAYLOAD_MAX = 4096

/** Message types, by Xen's names without `XS_`. */
export const XS = {
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  GET_PERMS: 3,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  INTRODUCE: 8,
  RELEASE: 9,
  GET_DOMAIN_PATH: 10,
  WRITE: 11,
  MKDIR: 12,
  RM: 13,
  SET_PERMS: 14,
  WATCH_EVENT: 15,
  ERROR: 16,
  IS_DOMAIN_INTRODUCED: 17,
  RESUME: 18,
  SET_TARGET: 19,
  RESET_WATCHES: 21,
  DIRECTORY_PART: 22,
  GET_FEATURE: 23,
  SET_FEATURE: 24,
  GET_QUOTA: 25,
  SET_QUOTA: 26,
} as const

/** Name of a message type. */
export type XsTypeName = keyof typeof XS

const typeNames = new Map<number, string>(Object.entries(XS).map(([name, type]) => [type, name]))

/** Name of a message type, such as `READ`; `type N` for one that nobody knows. */
export function typeName(type: number): string {
  return typeNames.get(type) ?? `type ${type}`
}

/** One message. */
export interface Packet {
  readonly type: number
  readonly reqId: number
  readonly txId: number
  /** May be a view of the bytes that were pushed: copy what is to be kept. */
  readonly body: Uint8Array
}

/** A packet as bytes. @throws RangeError for a payload of more than 4096 bytes; ParameterError */
export function encodePacket(type: number, reqId: number, txId: number, body: Uint8Array): Uint8Array {
  byteArray('encodePacket', 'body', body)
  const bytes = packetOf('encodePacket', type, reqId, txId, body.length)
  bytes.set(body, HEADER_SIZE)
  return bytes
}

/** A packet whose payload is text of one byte per character. @throws as encodePacket */
export function encodeText(type: number, reqId: number, txId: number, text: string): Uint8Array {
  aText('encodeText', 'text', text)
  const bytes = packetOf('encodeText', type, reqId, txId, text.length)
  putLatin1(text, bytes, HEADER_SIZE)
  return bytes
}

function packetOf(call: string, type: number, reqId: number, txId: number, length: number): Uint8Array {
  integer(call, 'type', type, 0, 0xffffffff)
  integer(call, 'reqId', reqId, 0, 0xffffffff)
  integer(call, 'txId', txId, 0, 0xffffffff)
  if (length > PAYLOAD_MAX) throw new RangeError(`a payload has at most ${PAYLOAD_MAX} bytes, not ${length}`)
  const bytes = new Uint8Array(HEADER_SIZE + length)
  putU32(bytes, 0, type)
  putU32(bytes, 4, reqId)
  putU32(bytes, 8, txId)
  putU32(bytes, 12, length)
  return bytes
}

function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value
  bytes[at + 1] = value >>> 8
  bytes[at + 2] = value >>> 16
  bytes[at + 3] = value >>> 24
}

function getU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
}

const NOTHING = new Uint8Array(0)

/**
 * Puts packets together from fragments of any size (XS-wire-5). Holds at most one incomplete packet beside the bytes of
 * the last push.
 */
export class PacketReader {
  /** Bytes that were pushed and are not yet a packet: #bytes from #at on. */
  #bytes = NOTHING
  #at = 0
  #tooLong = false

  /** Adds bytes. They must stay as they are until `next` has returned undefined. */
  push(bytes: Uint8Array): void {
    byteArray('PacketReader.push', 'bytes', bytes)
    const left = this.#bytes.length - this.#at
    if (left === 0) {
      this.#bytes = bytes as Uint8Array<ArrayBuffer>
    } else {
      const joined = new Uint8Array(left + bytes.length)
      joined.set(this.#bytes.subarray(this.#at))
      joined.set(bytes, left)
      this.#bytes = joined
    }
    this.#at = 0
  }

  /** The next packet; undefined if more bytes are needed or a header was refused. */
  next(): Packet | undefined {
    const bytes = this.#bytes
    const at = this.#at
    if (this.#tooLong) return undefined
    if (bytes.length - at < HEADER_SIZE) return this.#keep()
    const length = getU32(bytes, at + 12)
    if (length > PAYLOAD_MAX) {
      this.#tooLong = true
      return undefined
    }
    const end = at + HEADER_SIZE + length
    if (bytes.length < end) return this.#keep()
    this.#at = end
    return {
      type: getU32(bytes, at),
      reqId: getU32(bytes, at + 4),
      txId: getU32(bytes, at + 8),
      body: bytes.subarray(at + HEADER_SIZE, end),
    }
  }

  /** Copies the incomplete rest, for the pushed bytes may be written over now. */
  #keep(): undefined {
    this.#bytes = this.#at === this.#bytes.length ? NOTHING : this.#bytes.slice(this.#at)
    this.#at = 0
    return undefined
  }

  /** A header announced more than 4096 bytes: nothing behind it can be understood (XS-wire-6). */
  get tooLong(): boolean {
    return this.#tooLong
  }

  /** Bytes that the header at hand announces. */
  get announced(): number {
    return this.held < HEADER_SIZE ? 0 : getU32(this.#bytes, this.#at + 12)
  }

  /** The header of a packet that was too long, for a daemon that replies to it. */
  get refusedHeader(): Packet | undefined {
    if (!this.#tooLong) return undefined
    const at = this.#at
    const u32 = (offset: number) => getU32(this.#bytes, at + offset)
    return { type: u32(0), reqId: u32(4), txId: u32(8), body: NOTHING }
  }

  /** A copy of the bytes that are held. */
  get rest(): Uint8Array {
    return this.#bytes.slice(this.#at)
  }

  /** Bytes held of an incomplete packet. */
  get held(): number {
    return this.#bytes.length - this.#at
  }

  /** Bytes missing to the end of the header, or else to the end of the packet: what one may read without reading ahead. */
  get wanted(): number {
    if (this.held < HEADER_SIZE) return HEADER_SIZE - this.held
    return HEADER_SIZE + getU32(this.#bytes, this.#at + 12) - this.held
  }

  /** Is a whole packet held? */
  get ready(): boolean {
    return !this.#tooLong && this.held >= HEADER_SIZE && this.wanted <= 0
  }

  /** Copies what is held, so that the pushed bytes may be written over before all of their packets were taken. */
  detach(): void {
    this.#keep()
  }

  /** Forgets everything. */
  reset(): void {
    this.#bytes = NOTHING
    this.#at = 0
    this.#tooLong = false
  }
}

/** The payload as strings that each end in a nul; undefined if the last one does not. */
export function splitStrings(body: Uint8Array): string[] | undefined {
  byteArray('splitStrings', 'body', body)
  if (body.length === 0) return []
  if (body[body.length - 1] !== 0) return undefined
  return fromLatin1(body, 0, body.length - 1).split('\0')
}

/** The payload as exactly one nul-terminated string (XS-wire-10); undefined if it is anything else. */
export function oneString(body: Uint8Array): string | undefined {
  const end = body.length - 1
  return end >= 0 && body.indexOf(0) === end ? fromLatin1(body, 0, end) : undefined
}

/** Strings as a payload, each with its nul. */
export function joinStrings(strings: readonly string[]): string {
  return strings.length ? `${strings.join('\0')}\0` : ''
}

/** Whole number at the beginning of a string, as C's atoi reads it: `x` is 0 (XS-wire-14). */
export function atoi(text: string): number {
  const digits = /^[ \t-\r]*([+-]?\d+)/.exec(text)
  return digits ? Number(digits[1]) | 0 : 0
}
