/**
 * What is measured: bytes over TCP on loopback, from one end in this process to the other, on one thread.
 *
 *     plain         net.Socket ──────────────── TCP ──▶ net.Socket
 *     to a guest    net.Socket ── TCP ──▶ worker ── in ──▶ guest's program
 *     from a guest  guest's program ── out ──▶ worker ── TCP ──▶ net.Socket
 *
 * Nothing is hashed: the bytes are counted. Each stream is a connection of its own, made before the clock starts to run.
 */

import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { PvSocket } from '../../src/dom0/index.js'
import type { TcpHost } from '../../src/node/tcp_host.js'

/** Which way bytes go. */
export type Way = 'to the guest' | 'from the guest'

const PIECE = new Uint8Array(1 << 20).map((_, i) => (i * 31) & 0xff)

/**
 * Processor time of this process in ns. All of it is one thread that is never idle here, so on an idle machine this is
 * real time; on a busy one, what others do does not count.
 */
function processorNs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) * 1000
}

/** Connections of a server of this process, in the order in which they came. */
export class Peers {
  readonly #server: Server
  readonly #sockets: Socket[] = []

  private constructor() {
    this.#server = createServer((socket) => void this.#sockets.push(socket))
  }

  static async listen(): Promise<Peers> {
    const peers = new Peers()
    peers.#server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 })
    await once(peers.#server, 'listening')
    return peers
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** `count` connections that were begun already. */
  async take(count: number): Promise<Socket[]> {
    while (this.#sockets.length < count) await new Promise((resolve) => setImmediate(resolve))
    return this.#sockets.splice(0, count)
  }

  close(): void {
    this.#server.close()
  }
}

/** Writes so many bytes, and ends. */
function pour(socket: Socket, bytes: number): void {
  let left = bytes
  const more = () => {
    while (left > 0) {
      const piece = left < PIECE.length ? PIECE.subarray(0, left) : PIECE
      left -= piece.length
      if (!socket.write(piece)) {
        socket.once('drain', more)
        return
      }
    }
    socket.end()
  }
  more()
}

/** Counts what comes; fulfilled at the end of the stream. @throws Error if it is not so many bytes. */
async function count(socket: Socket, bytes: number): Promise<void> {
  let got = 0
  socket.on('data', (piece: Buffer) => {
    got += piece.length
  })
  await once(socket, 'end')
  if (got !== bytes) throw new Error(`${got} bytes came instead of ${bytes}`)
}

/** MB per second of processor time, `bytes` over each of `sockets` connections without a guest. */
export async function plain(peers: Peers, sockets: number, bytes: number): Promise<number> {
  const near: Socket[] = []
  for (let i = 0; i < sockets; i++) {
    const socket = connect({ port: peers.port, host: '127.0.0.1' })
    await once(socket, 'connect')
    near.push(socket.setNoDelay(true))
  }
  const far = await peers.take(sockets)
  const start = processorNs()
  for (const socket of far) pour(socket, bytes)
  await Promise.all(near.map((socket) => count(socket, bytes)))
  const ns = processorNs() - start
  for (const socket of [...near, ...far]) socket.destroy()
  return (sockets * bytes) / (ns / 1e3)
}

/** The same through a guest. */
export async function through(
  host: TcpHost,
  peers: Peers,
  way: Way,
  sockets: number,
  bytes: number,
  ringOrder: number,
): Promise<number> {
  const { front } = host
  const address = { ip: '127.0.0.1', port: peers.port }
  const near = await host.guest(function* () {
    const made: PvSocket[] = []
    for (let i = 0; i < sockets; i++) made.push(yield* front.connect(address, { ringOrder }))
    return made
  })
  const far = await peers.take(sockets)
  const start = processorNs()
  if (way === 'to the guest') {
    for (const socket of far) pour(socket, bytes)
    await Promise.all(near.map((socket) => host.guest(() => swallow(socket, bytes))))
  } else {
    const counted = far.map((socket) => count(socket, bytes))
    await Promise.all([...counted, ...near.map((socket) => host.guest(() => feed(socket, bytes)))])
  }
  const ns = processorNs() - start
  await host.guest(function* () {
    for (const socket of near) yield* socket.close()
  })
  for (const socket of far) socket.destroy()
  return (sockets * bytes) / (ns / 1e3)
}

function* swallow(socket: PvSocket, bytes: number) {
  const piece = new Uint8Array(socket.end.ring.in.size)
  let got = 0
  for (let n = yield* socket.receiveInto(piece); n; n = yield* socket.receiveInto(piece)) got += n
  if (got !== bytes) throw new Error(`${got} bytes came instead of ${bytes}`)
}

function* feed(socket: PvSocket, bytes: number) {
  for (let left = bytes; left > 0; ) {
    const piece = left < PIECE.length ? PIECE.subarray(0, left) : PIECE
    yield* socket.send(piece)
    left -= piece.length
  }
  yield* socket.close()
}
