/**
 * The stream of records in which Xen's store daemons hand over their state, in a live update and in a migration
 * (Xen's docs/designs/xenstore-migration.md): a header, records, END.
 *
 *     header   "xenstore"  version 1  flags (bit 0: big-endian)                    always big-endian
 *     record   type  len  body, padded to 8 bytes
 *
 *     CONNECTION_DATA   conn-id  type  flags  ── ring: domid tdomid port │ socket: fd ──  in-len out-resp-len out-len  in… out…
 *     WATCH_DATA        conn-id  path-len token-len  path… token…
 *     TRANSACTION_DATA  conn-id  tx-id
 *     NODE_DATA         conn-id  tx-id  path-len value-len access perm-count  perms… path… value…
 *
 * This is the C daemon's form, which counts the padding in `len` and tells input from output in CONNECTION_DATA. A
 * permission has a flag byte: 1 marks an entry that has lost its effect. `@` names stand among the nodes.
 */

import { type Permission, type PermLetter, RIGHT } from './perms.js'
import { fromLatin1, putLatin1 } from './text.js'

const IDENT = 'xenstore'
const VERSION = 1
const BIG_ENDIAN = 1
const HEADER = 16

/** Record types. */
const RECORD = { END: 0, GLOBAL: 1, CONNECTION: 2, WATCH: 3, TRANSACTION: 4, NODE: 5 } as const
/** "No target" of a ring connection. */
const NO_DOMAIN = 0x7ff4
/** Bits of a pending node's `access`. */
export const ACCESS = { read: 1, written: 2 } as const

const RING = 0
const SOCKET = 1
const VOID = 1

/** A connection: by ring, or by a socket that the next process inherits. */
export interface ConnectionRecord {
  readonly id: number
  readonly ring?: { readonly domid: number; readonly target: number | undefined; readonly port: number }
  readonly fd?: number
  /** Part of a request that was read. */
  readonly input: Uint8Array
  /** What is still to be sent. */
  readonly output: Uint8Array
  /** How much of it belongs to a message of which part is sent already. */
  readonly begun: number
}
/** A watch; its path as the client gave it. */
export interface WatchRecord {
  readonly connection: number
  readonly path: string
  readonly token: string
}
/** An open transaction. */
export interface TransactionRecord {
  readonly connection: number
  readonly tx: number
}
/** A node; `connection` 0: of the store, else what a transaction has made of it. */
export interface NodeRecord {
  readonly connection: number
  readonly tx: number
  readonly path: string
  readonly value: string
  readonly access: number
  /** None: deleted in the transaction. */
  readonly perms: readonly Permission[]
}

/** The state of a daemon, or the part of it that belongs to one domain. */
export interface StoreRecords {
  /** Descriptors of the listening sockets; only for a live update. */
  readonly global?: { readonly rw: number; readonly ro: number }
  readonly connections: readonly ConnectionRecord[]
  readonly watches: readonly WatchRecord[]
  readonly transactions: readonly TransactionRecord[]
  readonly nodes: readonly NodeRecord[]
}

/** A stream that cannot be read. */
export class StoreStateError extends Error {
  constructor(problem: string) {
    super(`a saved store: ${problem}`)
    this.name = 'StoreStateError'
  }
}

// --- writing -----------------------------------------------------------------------------------------------------------

/** One record being written. */
class Writer {
  readonly #parts: Uint8Array[] = []
  #length = 0

  u8(...values: number[]): this {
    return this.bytes(Uint8Array.from(values))
  }
  u16(...values: number[]): this {
    for (const value of values) this.u8(value & 0xff, (value >>> 8) & 0xff)
    return this
  }
  u32(...values: number[]): this {
    for (const value of values) this.u16(value & 0xffff, value >>> 16)
    return this
  }
  text(text: string): this {
    const bytes = new Uint8Array(text.length)
    putLatin1(text, bytes, 0)
    return this.bytes(bytes)
  }
  bytes(bytes: Uint8Array): this {
    this.#parts.push(bytes)
    this.#length += bytes.length
    return this
  }
  get length(): number {
    return this.#length
  }
  join(): Uint8Array {
    const all = new Uint8Array(this.#length)
    let at = 0
    for (const part of this.#parts) {
      all.set(part, at)
      at += part.length
    }
    return all
  }
}

function record(type: number, body: Writer): Uint8Array {
  while (body.length % 8) body.u8(0)
  return new Writer().u32(type, body.length).bytes(body.join()).join()
}

function connectionBody({ id, ring, fd = -1, input, output, begun }: ConnectionRecord): Writer {
  const body = new Writer().u32(id)
  if (ring) body.u16(RING, 0, ring.domid, ring.target ?? NO_DOMAIN).u32(ring.port)
  else body.u16(SOCKET, 0).u32(fd, 0)
  return body.u16(input.length, begun).u32(output.length).bytes(input).bytes(output)
}

function nodeBody({ connection, tx, path, value, access, perms }: NodeRecord): Writer {
  const body = new Writer().u32(connection, tx).u16(path.length + 1, value.length, access, perms.length)
  for (const entry of perms) body.u8(entry.letter.charCodeAt(0), entry.void ? VOID : 0).u16(entry.domid)
  return body.text(`${path}\0`).text(value)
}

/** The records as a stream; little-endian. */
export function encodeRecords({ global, connections, watches, transactions, nodes }: StoreRecords): Uint8Array {
  const out = new Writer().text(IDENT).u8(0, 0, 0, VERSION, 0, 0, 0, 0)
  if (global) out.bytes(record(RECORD.GLOBAL, new Writer().u32(global.rw, global.ro)))
  for (const each of connections) {
    out.bytes(record(RECORD.CONNECTION, connectionBody(each)))
    for (const { connection, path, token } of watches)
      if (connection === each.id) {
        const body = new Writer().u32(connection).u16(path.length + 1, token.length + 1)
        out.bytes(record(RECORD.WATCH, body.text(`${path}\0${token}\0`)))
      }
    for (const { connection, tx } of transactions)
      if (connection === each.id) out.bytes(record(RECORD.TRANSACTION, new Writer().u32(connection, tx)))
  }
  for (const node of nodes) out.bytes(record(RECORD.NODE, nodeBody(node)))
  return out.bytes(record(RECORD.END, new Writer())).join()
}

// --- reading -----------------------------------------------------------------------------------------------------------

/** A record being read; reading beyond its end is an error. */
class Reader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #little: boolean
  #at: number

  constructor(bytes: Uint8Array, little: boolean) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#little = little
    this.#at = 0
  }
  #take(length: number): number {
    const at = this.#at
    if (at + length > this.#bytes.length) throw new StoreStateError('a record is shorter than its contents')
    this.#at += length
    return at
  }
  get left(): number {
    return this.#bytes.length - this.#at
  }
  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), this.#little)
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), this.#little)
  }
  bytes(length: number): Uint8Array {
    const at = this.#take(length)
    return this.#bytes.slice(at, at + length)
  }
  /** A text whose length counts its nul. */
  text(length: number): string {
    const bytes = this.bytes(length)
    if (!length || bytes.indexOf(0) !== length - 1) throw new StoreStateError('a text without its nul')
    return fromLatin1(bytes, 0, length - 1)
  }
}

function readConnection(body: Reader): ConnectionRecord {
  const id = body.u32()
  const type = body.u16()
  body.u16()
  if (!id || type > SOCKET) throw new StoreStateError(`a connection ${id} of type ${type}`)
  const [first, second, word] = type === RING ? [body.u16(), body.u16(), body.u32()] : [body.u32(), 0, body.u32()]
  const [inLength, begun, outLength] = [body.u16(), body.u16(), body.u32()]
  const rest = { input: body.bytes(inLength), output: body.bytes(outLength), begun }
  if (type === SOCKET) return { id, fd: first | 0, ...rest }
  return { id, ring: { domid: first, target: second >= 0x7ff0 ? undefined : second, port: word }, ...rest }
}

function readNode(body: Reader): NodeRecord {
  const [connection, tx] = [body.u32(), body.u32()]
  const [pathLength, valueLength, access, count] = [body.u16(), body.u16(), body.u16(), body.u16()]
  const perms = Array.from({ length: count }, (): Permission => {
    const letter = String.fromCharCode(body.u8())
    const flags = body.u8()
    const domid = body.u16()
    if (!Object.hasOwn(RIGHT, letter)) throw new StoreStateError(`a permission ${letter}${domid}`)
    return { letter: letter as PermLetter, domid, ...(flags & VOID ? { void: true } : {}) }
  })
  if (!connection && !count) throw new StoreStateError('a node without an owner')
  return { connection, tx, access, perms, path: body.text(pathLength), value: fromLatin1(body.bytes(valueLength)) }
}

function readWatch(body: Reader): WatchRecord {
  const connection = body.u32()
  const [path, token] = [body.u16(), body.u16()]
  return { connection, path: body.text(path), token: body.text(token) }
}

function readHeader(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (bytes.length < HEADER || fromLatin1(bytes, 0, 8) !== IDENT) throw new StoreStateError('it is none')
  if (view.getUint32(8) !== VERSION) throw new StoreStateError(`version ${view.getUint32(8)}, not ${VERSION}`)
  return !(view.getUint32(12) & BIG_ENDIAN)
}

/** Reads a stream. @throws StoreStateError if it cannot be understood. */
export function decodeRecords(bytes: Uint8Array): StoreRecords {
  const little = readHeader(bytes)
  const out = { connections: [], watches: [], transactions: [], nodes: [] } as {
    global?: { rw: number; ro: number }
    connections: ConnectionRecord[]
    watches: WatchRecord[]
    transactions: TransactionRecord[]
    nodes: NodeRecord[]
  }
  for (const stream = new Reader(bytes.subarray(HEADER), little); ; ) {
    const [type, length] = [stream.u32(), stream.u32()]
    if (type === RECORD.END) return out
    const body = new Reader(stream.bytes(length), little)
    // Others count the padding as no part of the record.
    if (length % 8) stream.bytes(Math.min(8 - (length % 8), stream.left))
    if (type === RECORD.GLOBAL) out.global = { rw: body.u32() | 0, ro: body.u32() | 0 }
    else if (type === RECORD.CONNECTION) out.connections.push(readConnection(body))
    else if (type === RECORD.WATCH) out.watches.push(readWatch(body))
    else if (type === RECORD.TRANSACTION) out.transactions.push({ connection: body.u32(), tx: body.u32() })
    else if (type === RECORD.NODE) out.nodes.push(readNode(body))
    else throw new StoreStateError(`a record of type ${type}`)
  }
}
