/**
 * The client: the requests as methods, over any transport. Replies are matched by request id, so requests may be under way
 * at the same time; the daemon handles them in order.
 */

import { errorName, XenStoreError } from './errors.js'
import { formatPermission, type Permission, parsePermission } from './perms.js'
import { fromLatin1, fromUtf8, toLatin1, toUtf8 } from './text.js'
import { type AbortSignalLike, StoreWatch, type WatchEvent } from './watcher.js'
import {
  encodePacket,
  joinStrings,
  PAYLOAD_MAX,
  type Packet,
  PacketReader,
  splitStrings,
  typeName,
  XS,
} from './wire.js'

/** The way to a daemon. */
export interface ClientTransport {
  /** Sends bytes, now or as soon as there is room. */
  send(bytes: Uint8Array): void
  /** Where received bytes go, and who is told that the connection has ended. Called once, before the first `send`. */
  listen(receive: (bytes: Uint8Array) => void, closed: () => void): void
  close(): void
}

/** Options of a single request. */
export interface RequestOptions {
  /** Gives up waiting; the request itself cannot be called back. */
  readonly signal?: AbortSignalLike
}

/** Options of a transaction. */
export interface TransactionRunOptions extends RequestOptions {
  /** How often it is tried before EAGAIN is passed on. Default: as often as it takes. */
  readonly attempts?: number
}

/** Options of a watch. */
export interface WatchOptions extends RequestOptions {
  /** Called for each event; without it events are taken from the watch by `for await`. */
  readonly onEvent?: (event: WatchEvent) => void
  /** Levels below the path that are reported, if the daemon knows that (XS-watch-14). Default: all. */
  readonly depth?: number
}

interface Pending {
  readonly type: number
  readonly about: string
  resolve(body: Uint8Array): void
  reject(error: Error): void
}

/** The requests that work on nodes, inside a transaction or not. Paths may be relative to the caller's home. */
export abstract class StoreAccess {
  /** Makes one request. @throws XenStoreError with the daemon's answer. */
  abstract request(type: number, body: Uint8Array, about: string, options?: RequestOptions): Promise<Uint8Array>

  async #strings(type: number, path: string, ...more: string[]): Promise<Uint8Array> {
    return this.request(type, strings(type, path, ...more), path)
  }

  /** Value of a node as bytes. */
  readBytes(path: string): Promise<Uint8Array> {
    return this.#strings(XS.READ, path)
  }

  /** Value of a node as UTF-8 text. */
  async read(path: string): Promise<string> {
    return fromUtf8(await this.readBytes(path))
  }

  /** Value of a node as UTF-8 text, or null if there is none. */
  async readIfExists(path: string): Promise<string | null> {
    return absent(this.read(path))
  }

  /** True if there is a node; one that may not be read is an error, not false. */
  async exists(path: string): Promise<boolean> {
    return (await absent(this.readBytes(path))) !== null
  }

  /** Gives a node a value, making it and its parents if need be. */
  async write(path: string, value: string | Uint8Array): Promise<void> {
    const head = strings(XS.WRITE, path)
    const bytes = typeof value === 'string' ? toUtf8(value) : value
    const body = new Uint8Array(head.length + bytes.length)
    body.set(head)
    body.set(bytes, head.length)
    await this.request(XS.WRITE, body, path)
  }

  /** Makes an empty node; one that exists stays as it is. */
  async mkdir(path: string): Promise<void> {
    await this.#strings(XS.MKDIR, path)
  }

  /** Removes a node with all below it. */
  async rm(path: string): Promise<void> {
    await this.#strings(XS.RM, path)
  }

  /** Names of a node's children, however many (XS-wire-12). */
  async ls(path: string): Promise<string[]> {
    try {
      return list(await this.#strings(XS.DIRECTORY, path))
    } catch (error) {
      if (!(error instanceof XenStoreError && error.code === 'E2BIG')) throw error
    }
    for (;;) {
      const names = await this.#parts(path)
      if (names) return names
    }
  }

  /** The list part by part; null if it changed meanwhile. */
  async #parts(path: string): Promise<string[] | null> {
    let generation: string | undefined
    for (let text = ''; ; ) {
      const body = fromLatin1(await this.#strings(XS.DIRECTORY_PART, path, String(text.length)))
      const cut = body.indexOf('\0') + 1
      if (generation !== undefined && generation !== body.slice(0, cut)) return null
      generation = body.slice(0, cut)
      // The last part ends in one more empty string: two nuls, or a single one if there are no names.
      const part = body.slice(cut)
      if (part === '\0' || part.endsWith('\0\0')) return list(toLatin1(text + part.slice(0, -1)))
      text += part
    }
  }

  /** Permissions of a node; entry 0 names the owner. */
  async getPermissions(path: string): Promise<Permission[]> {
    return list(await this.#strings(XS.GET_PERMS, path)).map((text) => {
      const entry = parsePermission(text)
      if (!entry) throw new XenStoreError('GET_PERMS', path, 'EIO')
      return entry
    })
  }

  /** Sets the permissions of a node: entries, or their text such as `['n0', 'r5']`. */
  async setPermissions(path: string, perms: readonly (Permission | string)[]): Promise<void> {
    const texts = perms.map((entry) => (typeof entry === 'string' ? entry : formatPermission(entry)))
    await this.#strings(XS.SET_PERMS, path, ...texts)
  }
}

/** A transaction as its body sees it. */
export class ClientTransaction extends StoreAccess {
  readonly id: number
  readonly #client: XenStoreClient
  readonly #options: RequestOptions

  constructor(client: XenStoreClient, id: number, options: RequestOptions) {
    super()
    this.#client = client
    this.id = id
    this.#options = options
  }

  request(type: number, body: Uint8Array, about: string, options = this.#options): Promise<Uint8Array> {
    return this.#client.request(type, body, about, options, this.id)
  }
}

/** A connection to a xenstore daemon. */
export class XenStoreClient extends StoreAccess {
  readonly #transport: ClientTransport
  readonly #reader = new PacketReader()
  readonly #pending = new Map<number, Pending>()
  readonly #watches = new Map<string, StoreWatch>()
  #lastRequest = 0
  #lastToken = 0
  #closed = false

  constructor(transport: ClientTransport) {
    super()
    this.#transport = transport
    transport.listen(
      (bytes) => this.#receive(bytes),
      () => this.#end(),
    )
  }

  request(type: number, body: Uint8Array, about: string, options: RequestOptions = {}, txId = 0): Promise<Uint8Array> {
    const { signal } = options
    return new Promise((resolve, reject) => {
      if (signal?.aborted) throw signal.reason
      if (this.#closed) throw new XenStoreError(typeName(type), about, 'EIO')
      if (body.length > PAYLOAD_MAX) throw new XenStoreError(typeName(type), about, 'E2BIG')
      do this.#lastRequest = (this.#lastRequest + 1) >>> 0
      while (this.#pending.has(this.#lastRequest))
      const giveUp = () => reject(signal!.reason as Error)
      // One signal may serve many requests: what has been answered listens no more.
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T) => {
          signal?.removeEventListener('abort', giveUp)
          settle(value)
        }
      signal?.addEventListener('abort', giveUp)
      this.#pending.set(this.#lastRequest, { type, about, resolve: settled(resolve), reject: settled(reject) })
      this.#transport.send(encodePacket(type, this.#lastRequest, txId, body))
    })
  }

  #receive(bytes: Uint8Array): void {
    this.#reader.push(bytes)
    for (let packet = this.#reader.next(); packet; packet = this.#reader.next()) this.#take(packet)
    if (this.#reader.tooLong) this.close()
    else this.#reader.detach()
  }

  #take({ type, reqId, body }: Packet): void {
    if (type === XS.WATCH_EVENT) {
      const [path, token] = splitStrings(body) ?? []
      // An event for a watch that is gone is nobody's (XS-watch-11).
      if (path !== undefined && token !== undefined) this.#watches.get(token)?.deliver({ path })
      return
    }
    const pending = this.#pending.get(reqId)
    if (!pending) return
    this.#pending.delete(reqId)
    if (type === pending.type) pending.resolve(body.slice())
    else
      pending.reject(
        new XenStoreError(typeName(pending.type), pending.about, errorName(fromLatin1(body, 0, -1 + body.length))),
      )
  }

  #end(): void {
    if (this.#closed) return
    this.#closed = true
    for (const { type, about, reject } of this.#pending.values())
      reject(new XenStoreError(typeName(type), about, 'EIO'))
    this.#pending.clear()
    for (const watch of this.#watches.values()) watch.end()
    this.#watches.clear()
  }

  /** Ends the connection; requests under way fail with EIO, watches end. */
  close(): void {
    this.#end()
    this.#transport.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** True when the connection has ended. */
  get closed(): boolean {
    return this.#closed
  }

  /** Watches a path; resolves when the daemon has accepted it. The first event tells the path itself. */
  async watch(path: string, options: WatchOptions = {}): Promise<StoreWatch> {
    const token = `w${++this.#lastToken}`
    const more = options.depth === undefined ? [] : [String(options.depth)]
    const watch = new StoreWatch(path, options.onEvent, async () => {
      this.#watches.delete(token)
      if (!this.#closed) await this.request(XS.UNWATCH, strings(XS.UNWATCH, path, token), path)
    })
    // Before the request: the first event may come with its reply.
    this.#watches.set(token, watch)
    try {
      await this.request(XS.WATCH, strings(XS.WATCH, path, token, ...more), path, options)
    } catch (error) {
      this.#watches.delete(token)
      watch.end()
      // Given up, but the daemon has it: take it back.
      if (options.signal?.aborted && !this.#closed)
        this.request(XS.UNWATCH, strings(XS.UNWATCH, path, token), path).catch(() => {})
      throw error
    }
    const { signal } = options
    const close = () => void watch.close().catch(() => {})
    signal?.addEventListener('abort', close)
    watch.onEnd = () => signal?.removeEventListener('abort', close)
    return watch
  }

  /**
   * Runs `body` in a transaction and commits it; after a conflict (EAGAIN) runs it again, in a new one. If `body` fails,
   * the transaction is discarded and its error passed on.
   */
  async transaction<T>(
    body: (t: ClientTransaction) => Promise<T> | T,
    options: TransactionRunOptions = {},
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const id = Number(text(await this.request(XS.TRANSACTION_START, new Uint8Array(1), '', options)))
      let result: T
      try {
        result = await body(new ClientTransaction(this, id, options))
      } catch (error) {
        if (!this.#closed) await this.#endTransaction(id, 'F').catch(() => {})
        throw error
      }
      try {
        await this.#endTransaction(id, 'T')
        return result
      } catch (error) {
        const again = error instanceof XenStoreError && error.code === 'EAGAIN'
        if (!again || attempt >= (options.attempts ?? Number.POSITIVE_INFINITY)) throw error
        if (options.signal?.aborted) throw options.signal.reason
      }
    }
  }

  #endTransaction(id: number, end: 'T' | 'F'): Promise<Uint8Array> {
    return this.request(XS.TRANSACTION_END, toLatin1(`${end}\0`), '', {}, id)
  }

  async #numbers(type: number, ...numbers: number[]): Promise<string> {
    return text(await this.request(type, toLatin1(joinStrings(numbers.map(String))), numbers.join(' ')))
  }

  /** Home of a domain. */
  getDomainPath(domid: number): Promise<string> {
    return this.#numbers(XS.GET_DOMAIN_PATH, domid)
  }

  /** Connects a domain by its ring. For domain 0 only, as the following ones are. */
  async introduce(domid: number, gfn: number, port: number): Promise<void> {
    await this.#numbers(XS.INTRODUCE, domid, gfn, port)
  }

  /** Takes a domain's connection away, as if it had died. */
  async release(domid: number): Promise<void> {
    await this.#numbers(XS.RELEASE, domid)
  }

  /** Lets a domain's next shutdown be told again. */
  async resume(domid: number): Promise<void> {
    await this.#numbers(XS.RESUME, domid)
  }

  /** Makes `domid` the device model of `target`. */
  async setTarget(domid: number, target: number): Promise<void> {
    await this.#numbers(XS.SET_TARGET, domid, target)
  }

  /** Is a domain connected? */
  async isIntroduced(domid: number): Promise<boolean> {
    return (await this.#numbers(XS.IS_DOMAIN_INTRODUCED, domid)) === 'T'
  }

  /** A command for the daemon itself. */
  async control(...command: string[]): Promise<string> {
    return text(await this.request(XS.CONTROL, strings(XS.CONTROL, ...command), command.join(' ')))
  }

  /** Drops all watches and transactions of this connection, as a guest does that boots anew. */
  async resetWatches(): Promise<void> {
    await this.request(XS.RESET_WATCHES, new Uint8Array(1), '')
    for (const watch of this.#watches.values()) watch.end()
    this.#watches.clear()
  }
}

/** Strings with their nuls. @throws XenStoreError EINVAL if one has a nul inside. */
function strings(type: number, ...parts: string[]): Uint8Array {
  if (parts.some((part) => part.includes('\0'))) throw new XenStoreError(typeName(type), parts[0]!, 'EINVAL')
  return toUtf8(joinStrings(parts))
}

function list(body: Uint8Array): string[] {
  return splitStrings(body) ?? []
}

function text(body: Uint8Array): string {
  return fromLatin1(body).replace(/\0$/, '')
}

async function absent<T>(result: Promise<T>): Promise<T | null> {
  try {
    return await result
  } catch (error) {
    if (error instanceof XenStoreError && error.code === 'ENOENT') return null
    throw error
  }
}
