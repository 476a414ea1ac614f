/**
 * Real TCP for pvcalls-back, in Node: part of the entry `evtchn/node`. Connections and listening sockets of guests are the host's
 * own, on loopback only unless told otherwise.
 *
 *     guest ─ data ring ─ worker ─ receive ◀─ pieces that came ◀─ net.Socket
 *                                ─ send ───▶ a copy, queued ────▶
 *
 * Node's sockets are asynchronous and a backend's never block: what comes is kept until a worker takes it, and the stream
 * is paused when that is too much; what is sent is copied, for the ring is the guest's again when `send` returns, and no
 * more is taken when too much is queued. After each callback `kick` has to be called so that dom0 runs: see `NodeLoop`.
 */

import { createServer, connect as netConnect, type Server, type Socket } from 'node:net'
import { between, options as checkOptions, flag, func, type Table } from '../check.js'
import type { NetListener, NetSocket, Network } from '../dom0/backends/pvcalls/index.js'
import type { InetAddress } from '../dom0/io/index.js'
import { PVCALLS_ERRNO, type PvcallsErrnoName } from '../dom0/io/index.js'

const { EAGAIN, ECONNRESET, EPIPE, EINVAL, EACCES } = PVCALLS_ERRNO
/** Bytes that wait to be taken by a worker, or by the host's TCP, before the other side is held off. */
const HIGH_WATER = 1 << 20
/** Connections that wait to be accepted, whatever the guest asks for. */
const MOST_WAITING = 4096
/** How long a peer may take nothing of what a closed socket has still to send. */
const LINGER_MS = 60_000
const LOOPBACK = '127.0.0.1'

/** A host's error as the protocol has it. */
function ret(error: unknown): number {
  const code = (error as NodeJS.ErrnoException).code as PvcallsErrnoName
  return PVCALLS_ERRNO[code] ?? ECONNRESET
}

/** A connected stream of the host's. */
class TcpSocket implements NetSocket {
  onReadable: (() => void) | undefined
  onWritable: (() => void) | undefined
  readonly #socket: Socket
  readonly #kick: () => void
  readonly #pieces: Buffer[] = []
  #first = 0
  #waiting = 0
  /** What comes behind the last piece: EAGAIN as long as it is open, 0 for the end, or an error. */
  #end: number = EAGAIN
  #blocked = false
  #closed = false
  readonly #lingerMs: number

  constructor(socket: Socket, { kick, lingerMs = LINGER_MS }: TcpOptions) {
    this.#socket = socket
    this.#kick = kick
    this.#lingerMs = lingerMs
    socket.setNoDelay(true)
    socket.on('data', (piece: Buffer) => {
      // Nobody will take it, and a peer that cannot send any more might never read what waits for it.
      if (this.#closed) return
      this.#pieces.push(piece)
      this.#waiting += piece.length
      if (this.#waiting >= HIGH_WATER) socket.pause()
      this.#readable()
    })
    socket.on('end', () => this.#ended(0))
    socket.on('error', (error) => this.#ended(ret(error)))
    socket.on('close', () => {
      this.#ended(ECONNRESET)
      // Who waits for room learns from the next send that there will be none.
      this.#writable()
    })
    socket.on('drain', () => this.#writable())
  }

  #readable(): void {
    this.onReadable?.()
    this.#kick()
  }

  #writable(): void {
    if (!this.#blocked) return
    this.#blocked = false
    this.onWritable?.()
    this.#kick()
  }

  #ended(how: number): void {
    if (this.#end !== EAGAIN) return
    this.#end = how
    this.#readable()
  }

  receive(into: Uint8Array): number {
    let got = 0
    while (got < into.length && this.#pieces.length) {
      const piece = this.#pieces[0]!
      const length = Math.min(into.length - got, piece.length - this.#first)
      into.set(piece.subarray(this.#first, this.#first + length), got)
      got += length
      this.#first += length
      if (this.#first < piece.length) break
      this.#pieces.shift()
      this.#first = 0
    }
    this.#waiting -= got
    if (got && this.#waiting < HIGH_WATER && this.#socket.isPaused()) this.#socket.resume()
    return got || (into.length ? this.#end : EAGAIN)
  }

  send(from: Uint8Array): number {
    if (this.#end < 0 && this.#end !== EAGAIN) return this.#end
    if (!this.#socket.writable) return EPIPE
    const length = Math.min(from.length, HIGH_WATER - this.#socket.writableLength)
    if (length < from.length) this.#blocked = true
    if (length <= 0) return EAGAIN
    this.#socket.write(Buffer.from(from.subarray(0, length)))
    return length
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.onReadable = undefined
    this.onWritable = undefined
    this.#pieces.length = 0
    // What was sent still goes out; what comes is not wanted any more. A peer that takes nothing does not keep it for ever.
    this.#socket.setTimeout(this.#lingerMs, () => this.#socket.destroy())
    this.#socket.resume()
    this.#socket.destroySoon()
  }
}

/** A listening socket of the host's. */
class TcpListener implements NetListener {
  onConnection: (() => void) | undefined
  readonly #network: TcpNetwork
  readonly #address: InetAddress
  readonly #options: TcpOptions
  readonly #queue: TcpSocket[] = []
  #server: Server | undefined

  constructor(network: TcpNetwork, address: InetAddress, options: TcpOptions) {
    this.#network = network
    this.#address = address
    this.#options = options
  }

  listen(backlog: number, done: (ret: number) => void): void {
    if (this.#server) {
      done(0)
      return
    }
    const most = Math.min(Math.max(backlog, 1), MOST_WAITING)
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      // Node accepts by itself, so the backlog is kept here: one too many is reset.
      if (this.#queue.length >= most) {
        socket.resetAndDestroy()
        return
      }
      this.#queue.push(this.#network.stream(socket))
      this.onConnection?.()
      this.#options.kick()
    })
    this.#server = server
    const answer = (result: number) => {
      server.removeAllListeners('error')
      // A connection that fails while it waits to be accepted is seen by whoever accepts it.
      server.on('error', () => {})
      if (this.#server !== server) return
      if (result < 0) this.#server = undefined
      done(result)
      this.#options.kick()
    }
    server.once('error', (error) => answer(ret(error)))
    const { ip, port } = this.#network.realAddress(this.#address)
    server.listen({ host: ip, port, backlog: most }, () => {
      const real = server.address()
      if (real && typeof real === 'object') this.#network.listens(this.#address, real.port)
      answer(0)
    })
  }

  get pending(): boolean {
    return this.#queue.length > 0
  }

  accept(): NetSocket | undefined {
    return this.#queue.shift()
  }

  close(): void {
    this.onConnection = undefined
    this.#server?.close()
    this.#server = undefined
    this.#network.listens(this.#address, 0)
    this.#network.forget(this)
    for (const socket of this.#queue.splice(0)) socket.close()
  }
}

/** Options of a network. */
export interface TcpOptions {
  /** Called after each callback: dom0 has something to do. Usually `NodeLoop.kick`. */
  readonly kick: () => void
  /** May a guest connect to, or listen on, this? Default: addresses of loopback only; EACCES for others. */
  readonly allow?: (address: InetAddress) => boolean
  /** ms that a peer may take nothing of what a closed socket has still to send, before it is cut off. Default 60,000. */
  readonly lingerMs?: number
  /** Listen on a port that is free instead of the one that the guest names; see `portOf`. Default false. */
  readonly anyPort?: boolean
}

/** A check for each option. */
export const TCP_OPTIONS: Table<TcpOptions> = {
  kick: func,
  allow: func,
  lingerMs: between(0, 2 ** 31 - 1),
  anyPort: flag,
}

/** The host's TCP. */
export class TcpNetwork implements Network {
  readonly #options: TcpOptions
  readonly #ports = new Map<string, number>()
  readonly #streams = new Set<TcpSocket>()
  readonly #listeners = new Set<TcpListener>()
  readonly #connecting = new Set<Socket>()

  /** @throws ParameterError for an option that is unknown or of the wrong type. */
  constructor(options: TcpOptions) {
    this.#options = checkOptions('TcpNetwork', options, TCP_OPTIONS)
    func('TcpNetwork', 'kick', options.kick)
  }

  #allowed(address: InetAddress): boolean {
    return this.#options.allow?.(address) ?? (address.ip.startsWith('127.') || address.ip === '0.0.0.0')
  }

  connect(address: InetAddress, done: (result: NetSocket | number) => void): () => void {
    if (!this.#allowed(address)) {
      done(EACCES)
      return () => {}
    }
    const { kick } = this.#options
    // The orderly end of one direction leaves the other open.
    const socket = netConnect({ host: address.ip, port: address.port, allowHalfOpen: true })
    this.#connecting.add(socket)
    let over = false
    const finish = (result: () => NetSocket | number) => {
      this.#connecting.delete(socket)
      if (over) return
      over = true
      done(result())
      kick()
    }
    socket.once('connect', () => {
      socket.removeListener('error', failed)
      finish(() => this.stream(socket))
    })
    const failed = (error: Error) => finish(() => ret(error))
    socket.once('error', failed)
    return () => {
      if (over) return
      over = true
      this.#connecting.delete(socket)
      socket.on('error', () => {})
      socket.destroy()
    }
  }

  bind(address: InetAddress): NetListener | number {
    if (address.port === 0 && !this.#options.anyPort) return EINVAL
    if (!this.#allowed(address)) return EACCES
    const listener = new TcpListener(this, address, this.#options)
    this.#listeners.add(listener)
    return listener
  }

  /** Connected sockets of the host's: those that guests have, those that wait, and closed ones with bytes still to send. */
  get open(): number {
    return this.#streams.size
  }

  /** Closes all that guests have left: listening sockets, connections, attempts. What was sent still arrives. */
  close(): void {
    for (const listener of this.#listeners) listener.close()
    for (const socket of this.#connecting) socket.destroy()
    for (const stream of this.#streams) stream.close()
  }

  /** @internal */
  forget(listener: TcpListener): void {
    this.#listeners.delete(listener)
  }

  /** @internal */
  stream(socket: Socket): TcpSocket {
    const stream = new TcpSocket(socket, this.#options)
    this.#streams.add(stream)
    socket.once('close', () => this.#streams.delete(stream))
    return stream
  }

  /** The port of the host on which a guest's listening socket is; 0 if it does not listen. */
  portOf({ ip, port }: InetAddress): number {
    return this.#ports.get(`${ip}:${port}`) ?? 0
  }

  /** @internal Where the host listens for a guest's address: never wider than loopback unless `allow` was given. */
  realAddress({ ip, port }: InetAddress): InetAddress {
    const host = ip === '0.0.0.0' && !this.#options.allow ? LOOPBACK : ip
    return { ip: host, port: this.#options.anyPort ? 0 : port }
  }

  /** @internal */
  listens({ ip, port }: InetAddress, real: number): void {
    if (real) this.#ports.set(`${ip}:${port}`, real)
    else this.#ports.delete(`${ip}:${port}`)
  }
}
