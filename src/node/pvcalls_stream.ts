/**
 * A stream through pvcalls and real TCP on loopback, hashed at both ends: first to the guest, then from it. Used by the
 * command, the suite and the benchmark.
 */

import { createHash, type Hash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { among, options as checkOptions, func, type Table, within } from '../check.js'
import { IO_POLICIES, type IoPolicyName } from '../dom0/backends/pvcalls/index.js'
import { MAX_RING_ORDER } from '../dom0/io/index.js'
import { nowNs } from './clock.js'
import { TcpHost } from './tcp_host.js'

/** Options of a stream. */
export interface StreamOptions {
  /** Bytes each way. */
  readonly bytes: number
  /** Order of the data ring, 1 to 9. */
  readonly ringOrder: number
  readonly policy?: IoPolicyName
  readonly onProgress?: (way: string, moved: number, total: number) => void
}

const OPTIONS: Table<StreamOptions> = {
  bytes: within(0, Number.MAX_SAFE_INTEGER),
  ringOrder: within(1, MAX_RING_ORDER),
  policy: among(...IO_POLICIES),
  onProgress: func,
}

/** One way of a stream. */
export interface OneWay {
  readonly bytes: number
  /** From the connect to the end of the stream. */
  readonly ns: number
  /** SHA-256 at the receiver's, in hex. */
  readonly sha256: string
  /** It is the sender's. */
  readonly intact: boolean
}

/** Both ways. */
export interface Streamed {
  readonly toGuest: OneWay
  readonly fromGuest: OneWay
}

/** Bytes of the pattern: a prime number, so that no ring's size is a multiple of it. */
const PATTERN = 999_983
const PROGRESS_BYTES = 16 << 20

/** Pieces of an endless pattern, hashed as they are taken. */
class Source {
  readonly hash: Hash = createHash('sha256')
  readonly #pattern = new Uint8Array(PATTERN)
  readonly #total: number
  #at = 0

  constructor(total: number) {
    this.#total = total
    for (let i = 0; i < PATTERN; i++) this.#pattern[i] = Math.imul(i, 0x9e3779b1) >>> 13
  }

  /** The next piece; undefined at the end. */
  next(): Uint8Array | undefined {
    const from = this.#at % PATTERN
    const length = Math.min(PATTERN - from, this.#total - this.#at)
    if (!length) return undefined
    this.#at += length
    const piece = this.#pattern.subarray(from, from + length)
    this.hash.update(piece)
    return piece
  }
}

/** Listens on a free port of loopback. */
export async function listenLocally(onConnection: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const server = createServer(onConnection)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

/** Writes a source to a socket as fast as it takes it, and ends. */
function pour(source: { next(): Uint8Array | undefined }, socket: Socket): void {
  const more = () => {
    for (let piece = source.next(); piece; piece = source.next())
      if (!socket.write(piece)) {
        socket.once('drain', more)
        return
      }
    socket.end()
  }
  more()
}

/** A real server sends, the guest receives. */
export async function streamToGuest(host: TcpHost, options: StreamOptions): Promise<OneWay> {
  const { bytes, ringOrder, onProgress } = options
  const source = new Source(bytes)
  const { server, port } = await listenLocally((socket) => pour(source, socket))
  const hash = createHash('sha256')
  const from = nowNs()
  const { front } = host
  let moved = 0
  try {
    await host.guest(function* () {
      const socket = yield* front.connect({ ip: '127.0.0.1', port }, { ringOrder })
      const piece = new Uint8Array(socket.end.ring.in.size)
      for (let got = yield* socket.receiveInto(piece); got; got = yield* socket.receiveInto(piece)) {
        hash.update(piece.subarray(0, got))
        moved += got
        if (moved % PROGRESS_BYTES < got) onProgress?.('to the guest', moved, bytes)
      }
      yield* socket.close()
    })
  } finally {
    server.close()
  }
  const sha256 = hash.digest('hex')
  return { bytes: moved, ns: nowNs() - from, sha256, intact: moved === bytes && sha256 === source.hash.digest('hex') }
}

/** The guest sends, a real server receives. */
export async function streamFromGuest(host: TcpHost, options: StreamOptions): Promise<OneWay> {
  const { bytes, ringOrder, onProgress } = options
  const source = new Source(bytes)
  const hash = createHash('sha256')
  let moved = 0
  let ended = () => {}
  const end = new Promise<void>((resolve) => {
    ended = resolve
  })
  const { server, port } = await listenLocally((socket) => {
    socket.on('data', (piece: Buffer) => {
      hash.update(piece)
      moved += piece.length
      if (moved % PROGRESS_BYTES < piece.length) onProgress?.('from the guest', moved, bytes)
    })
    socket.on('end', ended)
    socket.on('error', ended)
  })
  const from = nowNs()
  const { front } = host
  try {
    await host.guest(function* () {
      const socket = yield* front.connect({ ip: '127.0.0.1', port }, { ringOrder })
      for (let piece = source.next(); piece; piece = source.next()) yield* socket.send(piece)
      yield* socket.close()
    })
    await end
  } finally {
    server.close()
  }
  const sha256 = hash.digest('hex')
  return { bytes: moved, ns: nowNs() - from, sha256, intact: moved === bytes && sha256 === source.hash.digest('hex') }
}

/** Both ways, on a fresh host. @throws ParameterError */
export async function streamBoth(options: StreamOptions): Promise<Streamed> {
  checkOptions('streamBoth', options, OPTIONS)
  const host = new TcpHost(options.policy ? { policy: options.policy } : {})
  try {
    const toGuest = await streamToGuest(host, options)
    return { toGuest, fromGuest: await streamFromGuest(host, options) }
  } finally {
    host.close()
  }
}
