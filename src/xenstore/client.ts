/**
 * The client: the requests as methods, over any transport. Replies are matched by request id, so requests may be under way
 * at the same time; the daemon handles them in order.
 */

/// <reference lib="esnext.disposable" preserve="true" />

import { Callouts, type OnError } from '../callout.js'
import { anything, options as checked, func, having, ParameterError, within } from '../check.js'
import * as asks from './asks.js'
import { XenStoreError } from './errors.js'
import { Exchange } from './exchange.js'
import { unlessAborted } from './giving_up.js'
import { formatPermission, type Permission, parsePermission } from './perms.js'
import { fromLatin1, fromUtf8, toUtf8 } from './text.js'
import { type AbortSignalLike, StoreWatch, type WatchEvent } from './watcher.js'
import { joinStrings, PacketReader, splitStrings, typeName, XS } from './wire.js'

/** The way to a daemon. */
export interface ClientTransport {
  /** Sends bytes, now or as soon as there is room. */
  send(bytes: Uint8Array): void
  /** Where received bytes go, and what is called when the connection has ended. Called once, before the first `send`. */
  listen(receive: (bytes: Uint8Array) => void, closed: () => void): void
  close(): void
}

/** Options of a single request. */
export interface RequestOptions {
  /** Gives up waiting; the request itself cannot be called back, and its reply is dropped. */
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

/** Options of a client. */
export interface ClientOptions {
  /** Gets what a function of the user's threw, such as `onEvent`. Default: it is thrown again outside of any call. */
  readonly onError?: OnError
}

const CLIENT_OPTIONS = { onError: func }
const WATCH_OPTIONS = { signal: anything, onEvent: func, depth: within(0, 0x7fffffff) }
const TRANSACTION_OPTIONS = { signal: anything, attempts: within(1, Number.MAX_SAFE_INTEGER) }

/** The requests that work on nodes, inside a transaction or not. Paths may be relative to the caller's home. */
export abstract class StoreAccess {
  /** Makes one request. @throws XenStoreError with the daemon's answer. */
  abstract request(type: number, body: Uint8Array, about: string, options?: RequestOptions): Promise<Uint8Array>

  /** Makes one of the requests that every client knows. */
  async #ask(ask: asks.Ask): Promise<Uint8Array> {
    return this.request(ask.type, payload(ask), asks.aboutOf(ask))
  }

  /** Carries out a request that takes several messages. */
  async #talk<T>(talk: asks.Talk<T>): Promise<T> {
    let step = talk.next()
    while (!step.done) {
      let body: Uint8Array
      try {
        body = await this.#ask(step.value)
      } catch (error) {
        step = talk.throw(error)
        continue
      }
      step = talk.next(body)
    }
    return step.value
  }

  /** Value of a node as bytes. */
  async readBytes(path: string): Promise<Uint8Array> {
    return this.#ask(asks.read(path))
  }

  /** Value of a node as UTF-8 text. */
  async read(path: string): Promise<string> {
    return fromUtf8(await this.readBytes(path))
  }

  /** Value of a node as UTF-8 text, or undefined if there is none. */
  async readIfExists(path: string): Promise<string | undefined> {
    return absent(this.read(path))
  }

  /** True if there is a node; one that may not be read is an error, not false. */
  async exists(path: string): Promise<boolean> {
    return (await absent(this.readBytes(path))) !== undefined
  }

  /** Gives a node a value; makes the node and its parents if they are missing. */
  async write(path: string, value: string | Uint8Array): Promise<void> {
    if (typeof value !== 'string' && !(value instanceof Uint8Array))
      throw new ParameterError('write', 'value', value, 'a string or a Uint8Array')
    await this.#ask(asks.write(path, value))
  }

  /** Makes an empty node; one that exists stays as it is. */
  async mkdir(path: string): Promise<void> {
    await this.#ask(asks.mkdir(path))
  }

  /** Removes a node with all below it. */
  async rm(path: string): Promise<void> {
    await this.#ask(asks.rm(path))
  }

  /** Names of a node's children, however many (XS-wire-12). */
  ls(path: string): Promise<string[]> {
    return this.#talk(asks.children(path))
  }

  /** Permissions of a node; entry 0 names the owner. */
  async getPermissions(path: string): Promise<Permission[]> {
    return list(await this.#ask(asks.getPermissions(path))).map((text) => {
      const entry = parsePermission(text)
      if (!entry) throw new XenStoreError('GET_PERMS', path, 'EIO')
      return entry
    })
  }

  /** Sets the permissions of a node: entries, or their text such as `['n0', 'r5']`. */
  async setPermissions(path: string, perms: readonly (Permission | string)[]): Promise<void> {
    const texts = perms.map((entry) => (typeof entry === 'string' ? entry : formatPermission(entry)))
    await this.#ask(asks.setPermissions(path, texts))
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
  readonly #callouts: Callouts
  readonly #reader = new PacketReader()
  readonly #watches = new Map<string, StoreWatch>()
  // An event for a watch that was taken back meanwhile is dropped (XS-watch-11).
  readonly #exchange = new Exchange({ event: (path, token) => this.#watches.get(token)?.deliver({ path }) })
  #lastToken = 0
  #closed = false

  constructor(transport: ClientTransport, options: ClientOptions = {}) {
    super()
    having('send', 'listen', 'close')('XenStoreClient', 'transport', transport)
    this.#callouts = new Callouts(checked('XenStoreClient', options, CLIENT_OPTIONS).onError)
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
      const giveUp = () => {
        this.#exchange.forget(id)
        reject(signal!.reason as Error)
      }
      // One signal may serve many requests: one that has its reply stops listening.
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T) => {
          signal?.removeEventListener('abort', giveUp)
          settle(value)
        }
      const outcome = { resolve: settled(resolve), reject: settled(reject) }
      const { id, packet } = this.#exchange.request(type, txId, body, about, outcome)
      signal?.addEventListener('abort', giveUp)
      try {
        this.#transport.send(packet)
      } catch (error) {
        // Not sent: no reply will come.
        this.#exchange.forget(id)
        outcome.reject(error as Error)
      }
    })
  }

  #receive(bytes: Uint8Array): void {
    this.#reader.push(bytes)
    for (let packet = this.#reader.next(); packet; packet = this.#reader.next()) this.#exchange.accept(packet)
    if (this.#reader.tooLong) this.close()
    else this.#reader.detach()
  }

  #end(): void {
    if (this.#closed) return
    this.#closed = true
    this.#exchange.end()
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

  #send(ask: asks.Ask, options: RequestOptions = {}, txId = 0): Promise<Uint8Array> {
    return this.request(ask.type, payload(ask), asks.aboutOf(ask), options, txId)
  }

  /** Watches a path; resolves when the daemon has accepted it. The first event names the path itself. */
  async watch(path: string, options: WatchOptions = {}): Promise<StoreWatch> {
    checked('watch', options, WATCH_OPTIONS)
    const { signal, depth } = options
    const token = `w${++this.#lastToken}`
    const unwatch = () => this.#send(asks.unwatch(path, token))
    const watch = new StoreWatch(path, options.onEvent, this.#callouts, async () => {
      this.#watches.delete(token)
      if (!this.#closed) await unwatch()
    })
    // Before the request: the first event may come with its reply.
    this.#watches.set(token, watch)
    const forget = () => {
      this.#watches.delete(token)
      watch.end()
    }
    try {
      // Given up while it was under way: the daemon has it all the same, so take it back.
      await unlessAborted(
        signal,
        () => this.#send(asks.watch(path, token, depth)),
        () => void unwatch().catch(() => {}),
      )
    } catch (error) {
      forget()
      throw error
    }
    const close = () => void watch.close().catch(() => {})
    signal?.addEventListener('abort', close)
    watch.whenEnded(() => signal?.removeEventListener('abort', close))
    // Aborted after the reply, and before anybody listened.
    if (signal?.aborted) close()
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
    func('transaction', 'body', body)
    checked('transaction', options, TRANSACTION_OPTIONS)
    const { signal, attempts = Number.POSITIVE_INFINITY } = options
    for (let attempt = 1; ; attempt++) {
      const id = await this.#startTransaction(signal)
      let result: T
      try {
        result = await body(new ClientTransaction(this, id, options))
      } catch (error) {
        if (!this.#closed) await this.#endTransaction(id, 'discard').catch(() => {})
        throw error
      }
      try {
        await this.#endTransaction(id, 'commit')
        return result
      } catch (error) {
        if (!asks.isRefusal(error, 'EAGAIN') || attempt >= attempts) throw error
        if (signal?.aborted) throw signal.reason
      }
    }
  }

  /** Given up while it is under way, the transaction is discarded as soon as its number is there. */
  #startTransaction(signal: AbortSignalLike | undefined): Promise<number> {
    const start = async () => Number(text(await this.#send(asks.startTransaction())))
    return unlessAborted(signal, start, (id) => void this.#endTransaction(id, 'discard').catch(() => {}))
  }

  #endTransaction(id: number, end: 'commit' | 'discard'): Promise<Uint8Array> {
    return this.#send(asks.endTransaction(end), {}, id)
  }

  async #numbers(type: number, ...values: number[]): Promise<string> {
    return text(await this.#send(asks.numbers(type, ...values)))
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

  /** Makes the daemon report a domain's next shutdown again. */
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
    return text(await this.#send(asks.control(command)))
  }

  /** Drops all watches and transactions of this connection, as a guest does at boot. */
  async resetWatches(): Promise<void> {
    await this.#send(asks.resetWatches())
    for (const watch of this.#watches.values()) watch.end()
    this.#watches.clear()
  }
}

/** The payload of a request; text becomes UTF-8. */
function payload({ strings, value }: asks.Ask): Uint8Array {
  const head = joinStrings(strings)
  if (value === undefined) return toUtf8(head)
  if (typeof value === 'string') return toUtf8(head + value)
  const front = toUtf8(head)
  const body = new Uint8Array(front.length + value.length)
  body.set(front)
  body.set(value, front.length)
  return body
}

function list(body: Uint8Array): string[] {
  return splitStrings(body) ?? []
}

function text(body: Uint8Array): string {
  return fromLatin1(body).replace(/\0$/, '')
}

async function absent<T>(result: Promise<T>): Promise<T | undefined> {
  try {
    return await result
  } catch (error) {
    if (asks.isRefusal(error, 'ENOENT')) return undefined
    throw error
  }
}
