/**
 * A process's handle to the store, over a socket: one request at a time or several, replies by id, and its watches.
 * libxenstore to the toolstack's libxl.
 */

import {
  type ClientTransport,
  encodeText,
  type Packet,
  PacketReader,
  typeName,
  XenStoreError,
  XS,
  type XsErrorName,
} from '../../xenstore/index.js'
import type { Kernel, Task, WaitQueue } from '../kernel/index.js'
import { bytesToText, StoreTasks } from '../xenbus/index.js'

interface Reply {
  readonly type: number
  readonly body: Uint8Array
}

/** A connection of a process. */
export class XsHandle extends StoreTasks {
  readonly #transport: ClientTransport
  readonly #reader = new PacketReader()
  readonly #replies = new Map<number, Reply>()
  readonly #wait: WaitQueue
  readonly #watches = new Map<string, (path: string) => void>()
  #lastId = 0
  #lastToken = 0

  constructor(kernel: Kernel, transport: ClientTransport) {
    super()
    this.#transport = transport
    this.#wait = kernel.waitQueue()
    transport.listen(
      (bytes) => this.#receive(bytes),
      () => {},
    )
  }

  *request(type: number, body: string, tx = 0): Task<Uint8Array> {
    this.#lastId = (this.#lastId + 1) >>> 0
    const id = this.#lastId
    this.#transport.send(encodeText(type, id, tx, body))
    yield* this.#wait.until(() => this.#replies.has(id), { state: 'S', what: 'the store' })
    const reply = this.#replies.get(id)!
    this.#replies.delete(id)
    if (reply.type === type) return reply.body
    const code = bytesToText(reply.body).replace(/\0$/, '') as XsErrorName
    throw new XenStoreError(typeName(type), body.split('\0', 1)[0]!, code)
  }

  /** Watches a path: `onEvent` is called with each event's path. Returns what ends it. */
  *watch(path: string, onEvent: (path: string) => void): Task<() => Task> {
    const token = `x${++this.#lastToken}`
    this.#watches.set(token, onEvent)
    yield* this.watchPath(path, token)
    const end = () => {
      this.#watches.delete(token)
      return this.unwatchPath(path, token)
    }
    return end
  }

  close(): void {
    this.#transport.close()
  }

  #receive(bytes: Uint8Array): void {
    this.#reader.push(bytes)
    for (let packet = this.#reader.next(); packet; packet = this.#reader.next()) this.#take(packet)
    this.#reader.detach()
  }

  #take({ type, reqId, body }: Packet): void {
    if (type === XS.WATCH_EVENT) {
      const [path, token] = bytesToText(body).split('\0')
      this.#watches.get(token!)?.(path!)
      return
    }
    this.#replies.set(reqId, { type, body: body.slice() })
    this.#wait.wakeAll()
  }
}
