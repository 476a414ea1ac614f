/**
 * A daemon for a test: on a socket in a folder of its own, with sockets for guests, gone when the test's block ends.
 *
 *     await using daemon = await xenstored({ guests: [7] })
 *     const client = await daemon.client(7)
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { anything, options as checkOptions, listOf, type Table, text, within } from '../check.js'
import { loadListing, type XenStoreClient, XenStored, type XenStoredOptions } from '../xenstore/index.js'
import { connectSocket, type SocketServer, serveSocket } from './xenstored_socket.js'

/** What the daemon of a test is like. */
export interface XenstoredFixtureOptions {
  /** Guests that are introduced, each with a socket of its own. Default: none. */
  readonly guests?: readonly number[]
  /** A listing to begin with, as `xenstore-ls` prints it. */
  readonly load?: string
  /** Options of the daemon: profile, quotas, faults, trace. */
  readonly daemon?: XenStoredOptions
}

const TABLE: Table<XenstoredFixtureOptions> = {
  guests: listOf(within(1, 0x7fef), 'domain numbers'),
  load: text,
  daemon: anything,
}

/** A daemon that runs until it is stopped. */
export interface XenstoredFixture {
  readonly store: XenStored
  /** Its socket, for XENSTORED_PATH. A guest's is this with `.N` behind. */
  readonly path: string
  /** A new client: of domain 0, or of a guest. It is closed with the daemon. */
  client(domid?: number): Promise<XenStoreClient>
  /** Ends clients and sockets, and removes the folder. Harmless a second time. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** The path of a guest's socket beside the daemon's. */
const guestSocketPath = (path: string, domid: number): string => `${path}.${domid}`

/** Introduces a guest and serves it on a socket of its own: its kernel's ring is played by the socket. */
export function serveGuest(store: XenStored, path: string, domid: number): Promise<SocketServer> {
  store.attachDomain(domid, { wake() {}, fail() {}, end() {} })
  return serveSocket(store, guestSocketPath(path, domid), { domid })
}

/** Starts a daemon for a test. @throws ParameterError */
export async function xenstored(options: XenstoredFixtureOptions = {}): Promise<XenstoredFixture> {
  const { guests = [], load, daemon = {} } = checkOptions('xenstored', options, TABLE)
  const store = new XenStored(daemon)
  if (load !== undefined) loadListing(store, load)
  const folder = await mkdtemp(join(tmpdir(), 'xenstored-'))
  const path = join(folder, 'socket')
  const servers: SocketServer[] = []
  const clients = new Set<XenStoreClient>()
  let stopped: Promise<void> | undefined
  const stop = (): Promise<void> => {
    stopped ??= (async () => {
      for (const client of clients) client.close()
      await Promise.all(servers.map((server) => server.close()))
      await rm(folder, { recursive: true, force: true })
    })()
    return stopped
  }
  try {
    servers.push(await serveSocket(store, path))
    for (const domid of guests) servers.push(await serveGuest(store, path, domid))
  } catch (error) {
    await stop()
    throw error
  }
  return {
    store,
    path,
    async client(domid = 0) {
      const client = await connectSocket(domid ? guestSocketPath(path, domid) : path)
      clients.add(client)
      return client
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
}
