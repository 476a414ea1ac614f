/** The daemon and the client on a unix socket, for Node. */

import { existsSync, lstatSync, unlinkSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { options as checkOptions, flag, func, instance, ParameterError, type Table, text, within } from '../check.js'
import {
  type ClientOptions,
  type ClientTransport,
  type Connection,
  type Transport,
  XenStoreClient,
  XenStored,
} from '../xenstore/index.js'

// Enough for many replies at once, little enough for many slow clients.
const CHUNK = 64 * 1024
// What a socket's address has room for, on Linux; elsewhere it is a few bytes less.
const PATH_MAX_BYTES = process.platform === 'linux' ? 107 : 103

/** Where Xen's tools look for the daemon (XS-sock-2). */
export function defaultSocketPath(env: Record<string, string | undefined> = process.env): string {
  if (env.XENSTORED_PATH) return env.XENSTORED_PATH
  return `${env.XENSTORED_RUNDIR || '/var/run/xenstored'}/socket`
}

/** One client of the daemon on a socket. */
class SocketConnection implements Transport {
  readonly #daemon: XenStored
  readonly #socket: Socket
  readonly #connection: Connection
  #blocked = false

  constructor(daemon: XenStored, socket: Socket, { domid, readonly }: Required<ServeOptions>) {
    this.#daemon = daemon
    this.#socket = socket
    this.#connection = daemon.connect(this, domid, readonly)
    socket.on('data', (bytes: Buffer) => {
      daemon.receive(this.#connection, bytes)
      // Its replies wait, so its requests wait too: in the kernel's buffer, where they cost us nothing.
      if (!daemon.mayServe(this.#connection)) socket.pause()
    })
    socket.on('drain', () => {
      this.#blocked = false
      this.wake()
      daemon.resume(this.#connection)
      if (daemon.mayServe(this.#connection)) socket.resume()
    })
    // A connection that breaks is a connection that has ended; 'close' follows.
    socket.on('error', () => {})
    socket.on('close', () => daemon.disconnect(this.#connection))
  }

  wake(): void {
    const connection = this.#connection
    while (connection.outputBytes && !this.#blocked) this.#blocked = !this.#socket.write(connection.take(CHUNK))
    // It had to wait for the clock: for its rate of writes, or a request that a fault held back.
    if (this.#socket.isPaused() && this.#daemon.mayServe(connection)) this.#socket.resume()
  }

  held(): number {
    return this.#socket.writableLength
  }

  fail(): void {
    // What the kernel has taken still arrives. To wait for the rest would be to wait for a peer that may never read.
    this.close()
  }

  /** Ends the connection from this side. */
  close(): void {
    this.#daemon.disconnect(this.#connection)
  }

  end(): void {
    this.#socket.destroy()
  }
}

/** How a socket is served. */
export interface ServeOptions {
  /** The domain that its clients are: a guest that is introduced. Default 0. */
  readonly domid?: number
  /** Requests that would change anything are refused with EACCES. Default false. */
  readonly readonly?: boolean
}

const SERVE: Table<ServeOptions> = { domid: within(0, 0x7fff), readonly: flag }

/** A daemon that listens. */
export interface SocketServer {
  readonly path: string
  /** Ends all connections, stops listening and removes the socket file. */
  close(): Promise<void>
}

/**
 * Serves a daemon on a unix socket. Whoever may open the socket is domain 0, or the guest that the options name, so only its
 * owner may. A socket file that nobody listens on is replaced.
 * @throws ParameterError for options and for a guest that is not introduced; Error if somebody listens there already, if the path is something else, or if it cannot be made.
 */
export async function serveSocket(daemon: XenStored, path: string, options: ServeOptions = {}): Promise<SocketServer> {
  aDaemon('serveSocket', 'daemon', daemon)
  aPath('serveSocket', path)
  const { domid = 0, readonly = false } = checkOptions('serveSocket', options, SERVE)
  await removeStale(path)
  const open = new Set<SocketConnection>()
  const server = createServer({ highWaterMark: 4 * CHUNK, noDelay: false }, (socket) => {
    const connection = connected(daemon, socket, { domid, readonly })
    if (!connection) return
    open.add(connection)
    socket.on('close', () => open.delete(connection))
  })
  await listen(server, path)
  return {
    path,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const connection of open) connection.close()
      }),
  }
}

/** A client of a guest that was released meanwhile is turned away. */
function connected(daemon: XenStored, socket: Socket, options: Required<ServeOptions>): SocketConnection | undefined {
  try {
    return new SocketConnection(daemon, socket, options)
  } catch (error) {
    if (!(error instanceof ParameterError)) throw error
    socket.destroy()
    return undefined
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    // The file is made with the mode of this moment, before anybody could open it.
    const mask = process.umask(0o177)
    server.listen(path, () => {
      server.off('error', reject)
      resolve()
    })
    process.umask(mask)
  })
}

const aDaemon = instance(XenStored, 'a XenStored')

function aPath(call: string, path: unknown): void {
  if (text(call, 'path', path) === '') throw new ParameterError(call, 'path', path, 'the path of a socket')
}

/** A longer path would be cut off silently, and be another one. */
function mustFit(path: string): void {
  const bytes = Buffer.byteLength(path)
  if (bytes > PATH_MAX_BYTES)
    throw new Error(`${path} has ${bytes} bytes; the path of a socket has at most ${PATH_MAX_BYTES}`)
}

async function removeStale(path: string): Promise<void> {
  mustFit(path)
  // The system says EACCES for a folder that does not exist, which leads astray.
  if (!existsSync(dirname(path)))
    throw new Error(`${path}: there is no folder ${dirname(path)}; make it with mkdir -p, or name another path`)
  if (!existsSync(path)) return
  if (!lstatSync(path).isSocket()) throw new Error(`${path} exists and is not a socket`)
  if (await answers(path)) throw new Error(`${path} is in use by another daemon`)
  unlinkSync(path)
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    const done = (alive: boolean) => {
      probe.destroy()
      resolve(alive)
    }
    probe.once('connect', () => done(true))
    probe.once('error', () => done(false))
  })
}

/** A client's way to a daemon over a unix socket. */
export class SocketTransport implements ClientTransport {
  readonly #socket: Socket

  constructor(socket: Socket) {
    this.#socket = socket
  }
  send(bytes: Uint8Array): void {
    this.#socket.write(bytes)
  }
  listen(receive: (bytes: Uint8Array) => void, closed: () => void): void {
    this.#socket.on('data', receive)
    this.#socket.on('error', () => {})
    this.#socket.on('close', closed)
  }
  close(): void {
    this.#socket.destroy()
  }
}

const CLIENT: Table<ClientOptions> = { onError: func }

/** Connects to a daemon. Default: where Xen's tools would. */
export function connectSocket(
  path: string = defaultSocketPath(),
  options: ClientOptions = {},
): Promise<XenStoreClient> {
  return new Promise((resolve, reject) => {
    aPath('connectSocket', path)
    checkOptions('connectSocket', options, CLIENT)
    mustFit(path)
    const socket = connect(path)
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      resolve(new XenStoreClient(new SocketTransport(socket), options))
    })
  })
}
