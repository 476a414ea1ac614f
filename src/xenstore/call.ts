/** What a request sees of the daemon. */

import type { Connection } from './connection.js'
import type { Domains, SpecialNames } from './domains.js'
import type { Introductions } from './introductions.js'
import type { RequestLog } from './log.js'
import type { Rules, Scene } from './operations.js'
import type { Quotas } from './quota.js'
import type { Transaction } from './transaction.js'
import type { Transactions } from './transactions.js'
import type { Watches } from './watches.js'
import type { Packet } from './wire.js'

/** The daemon, as its requests use it. Methods that fail refuse the request. */
export interface Daemon extends Rules {
  readonly domains: Domains
  readonly specials: SpecialNames
  readonly watches: Watches
  readonly introductions: Introductions
  readonly connections: readonly Connection[]
  /** What a request reads from: its transaction, or the store. */
  scene(call: Call): Scene
  /** Runs an operation that changes nodes. */
  mutate(call: Call, operation: (scene: Scene) => void): void
  readonly transactions: Transactions
  endTransaction(connection: Connection, transaction: Transaction, commit: boolean): void
  /** CONTROL log and print. */
  readonly log: RequestLog
  /** CONTROL quota set. */
  setQuota(name: keyof Quotas, value: number): void
  /** CONTROL memreport; false if the embedder takes no report. */
  writeReport(text: string, file: string | undefined): boolean
  /** Drops a connection's watches and transactions. */
  dropRequests(connection: Connection): void
}

/** A request that is being handled. */
export interface Call {
  readonly server: Daemon
  readonly connection: Connection
  readonly packet: Packet
  readonly transaction: Transaction | undefined
  /** Done when the reply is queued. */
  afterwards?: () => void
}
