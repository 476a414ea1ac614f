/**
 * A network inside a process: for browsers, tests, and whoever wants no other. Each direction of a connection is a buffer
 * of bounded size, so that senders feel a receiver that is slow, as with TCP. Addresses are compared as they are written;
 * `0.0.0.0` listens on all.
 *
 *     end A ── send ──▶ pipe ── receive ──▶ end B
 *           ◀─ receive ─ pipe ◀── send ───
 */

import { options as checkOptions, type Table, within } from '../../../check.js'
import { type InetAddress, PVCALLS_ERRNO } from '../../io/pvcalls_protocol.js'
import type { NetListener, NetSocket, Network } from './network.js'

const { EAGAIN, EADDRINUSE, EINVAL, ECONNREFUSED, ECONNRESET, EPIPE } = PVCALLS_ERRNO
const ANY = '0.0.0.0'
/** Bytes that a direction holds unless told otherwise: what Linux begins with is of this size. */
const BUFFER_BYTES = 1 << 17

/** One direction: a circular buffer. */
class Pipe {
  readonly #bytes: Uint8Array
  #first = 0
  #count = 0
  /** The sender has closed: what is in it is the last. */
  ended = false
  /** The receiver has closed, or the sender broke off: `receive` and `send` fail. */
  reset = false
  /** A send took less than all. */
  blocked = false

  constructor(size: number) {
    this.#bytes = new Uint8Array(size)
  }

  get count(): number {
    return this.#count
  }

  put(from: Uint8Array): number {
    const size = this.#bytes.length
    const length = Math.min(from.length, size - this.#count)
    const at = (this.#first + this.#count) % size
    const head = Math.min(length, size - at)
    this.#bytes.set(from.subarray(0, head), at)
    this.#bytes.set(from.subarray(head, length), 0)
    this.#count += length
    return length
  }

  take(into: Uint8Array): number {
    const size = this.#bytes.length
    const length = Math.min(into.length, this.#count)
    const head = Math.min(length, size - this.#first)
    into.set(this.#bytes.subarray(this.#first, this.#first + head))
    into.set(this.#bytes.subarray(0, length - head), head)
    this.#first = (this.#first + length) % size
    this.#count -= length
    return length
  }
}

/** One end. */
export class LocalSocket implements NetSocket {
  onReadable: (() => void) | undefined
  onWritable: (() => void) | undefined
  readonly #in: Pipe
  readonly #out: Pipe
  #peer: LocalSocket | undefined
  #closed = false

  private constructor(incoming: Pipe, outgoing: Pipe) {
    this.#in = incoming
    this.#out = outgoing
  }

  /** Both ends of a connection whose directions hold `size` bytes each. */
  static pair(size = BUFFER_BYTES): [LocalSocket, LocalSocket] {
    const [there, back] = [new Pipe(size), new Pipe(size)]
    const [a, b] = [new LocalSocket(back, there), new LocalSocket(there, back)]
    a.#peer = b
    b.#peer = a
    return [a, b]
  }

  receive(into: Uint8Array): number {
    if (this.#closed) return EINVAL
    const got = this.#in.take(into)
    if (!got) return this.#in.reset ? ECONNRESET : this.#in.ended ? 0 : EAGAIN
    if (this.#in.blocked) {
      this.#in.blocked = false
      this.#peer!.onWritable?.()
    }
    return got
  }

  send(from: Uint8Array): number {
    if (this.#closed || this.#out.ended) return EPIPE
    if (this.#out.reset) return ECONNRESET
    const put = this.#out.put(from)
    if (put < from.length) this.#out.blocked = true
    if (put) this.#peer!.onReadable?.()
    return put || EAGAIN
  }

  /** Bytes that wait to be received. */
  get queued(): number {
    return this.#in.count
  }

  /** No more is sent; receiving continues (shutdown of one direction, which the protocol does not have). */
  end(): void {
    this.#out.ended = true
    this.#peer!.onReadable?.()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.onReadable = undefined
    this.onWritable = undefined
    // Notify whoever still sends to it, and whoever waits for room.
    this.#in.reset = true
    this.#out.ended = true
    this.#peer!.onReadable?.()
    this.#peer!.onWritable?.()
  }

  /** Breaks off: the other end sees a reset instead of an orderly end. */
  abort(): void {
    this.#out.reset = true
    this.close()
  }
}

/** A connection that has no room in the backlog yet; `done` tells the one that connects. */
interface Waiting {
  readonly done: (socket: NetSocket | number) => void
}

class LocalListener implements NetListener {
  onConnection: (() => void) | undefined
  readonly #network: LocalNetwork
  readonly #key: string
  readonly #queue: LocalSocket[] = []
  readonly #waiting = new Set<Waiting>()
  #backlog = 0

  constructor(network: LocalNetwork, key: string) {
    this.#network = network
    this.#key = key
  }

  get listens(): boolean {
    return this.#backlog > 0
  }

  listen(backlog: number, done: (ret: number) => void): void {
    this.#backlog = Math.max(1, backlog)
    done(0)
    this.#admit()
  }

  /** One more that wants to connect; it waits if the backlog is full. */
  enter(waiting: Waiting): void {
    this.#waiting.add(waiting)
    this.#admit()
  }

  /** It gave up: nothing of it is kept. */
  leave(waiting: Waiting): void {
    this.#waiting.delete(waiting)
  }

  /** Connections that have no room in the backlog yet. */
  get waiting(): number {
    return this.#waiting.size
  }

  #admit(): void {
    for (const next of this.#waiting) {
      if (this.#queue.length >= this.#backlog) return
      this.#waiting.delete(next)
      const [near, far] = LocalSocket.pair(this.#network.bufferBytes)
      this.#queue.push(far)
      next.done(near)
      this.onConnection?.()
    }
  }

  get pending(): boolean {
    return this.#queue.length > 0
  }

  accept(): NetSocket | undefined {
    const socket = this.#queue.shift()
    this.#admit()
    return socket
  }

  close(): void {
    this.onConnection = undefined
    this.#network.forget(this.#key, this)
    for (const socket of this.#queue.splice(0)) socket.abort()
    for (const waiting of this.#waiting) {
      this.#waiting.delete(waiting)
      waiting.done(ECONNREFUSED)
    }
  }
}

const BUFFER: Table<{ bufferBytes?: number }> = { bufferBytes: within(1, 2 ** 30) }

/** The network. */
export class LocalNetwork implements Network {
  /** Bytes that each direction of a connection holds. */
  readonly bufferBytes: number
  readonly #listeners = new Map<string, LocalListener>()

  constructor(options: { bufferBytes?: number } = {}) {
    const { bufferBytes = BUFFER_BYTES } = checkOptions('LocalNetwork', options, BUFFER)
    this.bufferBytes = bufferBytes
  }

  connect({ ip, port }: InetAddress, done: (result: NetSocket | number) => void): () => void {
    const listener = this.#listeners.get(`${ip}:${port}`) ?? this.#listeners.get(`${ANY}:${port}`)
    const waiting: Waiting = { done }
    if (!listener?.listens) done(ECONNREFUSED)
    else listener.enter(waiting)
    return () => listener?.leave(waiting)
  }

  bind({ ip, port }: InetAddress): NetListener | number {
    const key = `${ip}:${port}`
    if (port === 0) return EINVAL
    if (this.#listeners.has(key)) return EADDRINUSE
    const listener = new LocalListener(this, key)
    this.#listeners.set(key, listener)
    return listener
  }

  /** Connections that wait for room in a backlog. */
  get waiting(): number {
    return [...this.#listeners.values()].reduce((sum, { waiting }) => sum + waiting, 0)
  }

  /** Addresses in use. */
  get bound(): string[] {
    return [...this.#listeners.keys()]
  }

  /** @internal */
  forget(key: string, listener: LocalListener): void {
    if (this.#listeners.get(key) === listener) this.#listeners.delete(key)
  }
}
