/**
 * Users of one domain's ring to the store, as Linux's xenbus device has them: each has request numbers and transactions of
 * its own, and watches are told to who set them.
 *
 *     user 1 ─ req 7 ─┐                         ┌─▶ req 1001 ─▶ store
 *     user 2 ─ req 7 ─┴─ numbers of the ring's ─┴─▶ req 1002
 *
 * Tokens of watches are made different by a prefix, for the store knows the domain as one client. When a user ends, its
 * watches are removed and its transactions aborted, and their answers go nowhere.
 */

import { type ClientTransport, PacketReader, XS } from '../../xenstore/index.js'

/** Bytes of a message's header: type, request, transaction, length. */
const HEADER = 16

interface User {
  readonly id: number
  /** Takes messages of the store. */
  send(message: Buffer): void
  /** Its watches: the body of the request that set each. */
  readonly watches: Map<string, Buffer>
  readonly transactions: Set<number>
}

/** What a request on the ring is the request of. */
interface Waiting {
  readonly user: User
  readonly request: number
  readonly type: number
  readonly transaction: number
  readonly body: Buffer
}

function message(type: number, request: number, transaction: number, body: Uint8Array): Buffer {
  const bytes = Buffer.alloc(HEADER + body.length)
  bytes.writeUInt32LE(type, 0)
  bytes.writeUInt32LE(request, 4)
  bytes.writeUInt32LE(transaction, 8)
  bytes.writeUInt32LE(body.length, 12)
  bytes.set(body, HEADER)
  return bytes
}

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

/** One ring's users. */
export class XenbusUsers {
  readonly #transport: ClientTransport
  readonly #reader = new PacketReader()
  readonly #waiting = new Map<number, Waiting>()
  readonly #users = new Map<number, User>()
  #lastRequest = 0
  #lastUser = 0

  constructor(transport: ClientTransport) {
    this.#transport = transport
    transport.listen(
      (bytes) => this.#receive(bytes),
      () => {},
    )
  }

  /** A new user; `send` gets the store's messages for it. */
  open(send: (message: Buffer) => void): { receive(message: Buffer): void; close(): void } {
    const user: User = { id: ++this.#lastUser, send, watches: new Map(), transactions: new Set() }
    this.#users.set(user.id, user)
    return { receive: (bytes) => this.#request(user, bytes), close: () => this.#close(user) }
  }

  #request(user: User, bytes: Buffer): void {
    const [type, request, transaction] = [bytes.readUInt32LE(0), bytes.readUInt32LE(4), bytes.readUInt32LE(8)]
    const body = bytes.subarray(HEADER)
    if (transaction && !user.transactions.has(transaction)) {
      // Another user's transaction, or none: as the store would say.
      user.send(message(XS.ERROR, request, transaction, Buffer.from('ENOENT\0')))
      return
    }
    this.#ask({ user, request, type, transaction, body: this.#withPrefix(user, type, body) })
  }

  #ask(waiting: Waiting): void {
    this.#lastRequest = (this.#lastRequest + 1) >>> 0
    this.#waiting.set(this.#lastRequest, waiting)
    this.#transport.send(message(waiting.type, this.#lastRequest, waiting.transaction, waiting.body))
  }

  /** The token of a watch gets the user's number: `path NUL token NUL` becomes `path NUL id:token NUL`. */
  #withPrefix(user: User, type: number, body: Buffer): Buffer {
    if (type !== XS.WATCH && type !== XS.UNWATCH) return body
    const end = body.indexOf(0)
    if (end < 0) return body
    return Buffer.concat([body.subarray(0, end + 1), Buffer.from(`${user.id}:`), body.subarray(end + 1)])
  }

  #receive(bytes: Uint8Array): void {
    this.#reader.push(bytes)
    for (let packet = this.#reader.next(); packet; packet = this.#reader.next()) {
      const body = Buffer.from(packet.body)
      if (packet.type === XS.WATCH_EVENT) this.#event(body)
      else this.#reply(packet.type, packet.reqId, packet.txId, body)
    }
    this.#reader.detach()
  }

  #event(body: Buffer): void {
    const [path = '', token = ''] = latin1(body).split('\0')
    const colon = token.indexOf(':')
    const user = this.#users.get(Number(token.slice(0, colon)))
    user?.send(message(XS.WATCH_EVENT, 0, 0, Buffer.from(`${path}\0${token.slice(colon + 1)}\0`, 'latin1')))
  }

  #reply(type: number, request: number, transaction: number, body: Buffer): void {
    const waiting = this.#waiting.get(request)
    if (!waiting) return
    this.#waiting.delete(request)
    const { user } = waiting
    if (type !== XS.ERROR) this.#note(waiting, body)
    if (this.#users.has(user.id)) user.send(message(type, waiting.request, transaction, body))
  }

  /** What succeeded, and must be undone when its user ends; at once if it has ended. */
  #note({ user, type, transaction, body }: Waiting, reply: Buffer): void {
    const gone = !this.#users.has(user.id)
    const key = latin1(body)
    if (type === XS.WATCH) {
      if (gone) this.#ask({ user, request: 0, type: XS.UNWATCH, transaction: 0, body })
      else user.watches.set(key, body)
    } else if (type === XS.UNWATCH) user.watches.delete(key)
    else if (type === XS.TRANSACTION_START) {
      const started = Number.parseInt(latin1(reply), 10)
      if (gone) this.#abort(user, started)
      else user.transactions.add(started)
    } else if (type === XS.TRANSACTION_END) user.transactions.delete(transaction)
  }

  #abort(user: User, transaction: number): void {
    this.#ask({ user, request: 0, type: XS.TRANSACTION_END, transaction, body: Buffer.from('F\0') })
  }

  #close(user: User): void {
    if (!this.#users.delete(user.id)) return
    for (const body of user.watches.values()) this.#ask({ user, request: 0, type: XS.UNWATCH, transaction: 0, body })
    for (const transaction of user.transactions) this.#abort(user, transaction)
  }
}
