/** What a request sees of the daemon. */

import type { Connection } from './connection.js'
import type { Domains, SpecialNames } from './domains.js'
import type { Rules, Scene } from './operations.js'
import type { Ticket } from './output.js'
import type { Transaction } from './transaction.js'
import type { Watch, WatchTable } from './watch.js'
import type { Packet } from './wire.js'

/** The daemon, as its requests use it. Methods that fail refuse the request. */
export interface Daemon extends Rules {
  readonly domains: Domains
  readonly specials: SpecialNames
  readonly watches: WatchTable<Connection>
  readonly connections: readonly Connection[]
  /** What a request reads from: its transaction, or the store. */
  scene(call: Call): Scene
  /** Runs an operation that changes nodes. */
  mutate(call: Call, operation: (scene: Scene) => void): void
  startTransaction(connection: Connection, inside: Transaction | null): number
  endTransaction(connection: Connection, transaction: Transaction, commit: boolean): void
  addWatch(
    connection: Connection,
    path: string,
    token: string,
    relative: boolean,
    depth: number | null,
  ): Watch<Connection>
  removeWatch(connection: Connection, path: string, token: string): boolean
  sendEvent(watch: Watch<Connection>, path: string, ticket: Ticket | null): void
  dropRequests(connection: Connection): void
  introduce(domid: number, gfn: number, port: number): void
  release(domid: number): void
  resumeDomain(domid: number): void
}

/** A request that is being handled. */
export interface Call {
  readonly server: Daemon
  readonly connection: Connection
  readonly packet: Packet
  readonly transaction: Transaction | null
  /** Done when the reply is queued. */
  afterwards?: () => void
}
