/** Transactions of all connections: opening, ending, and how many are open. One is its connection's own (transaction.ts). */

import type { Connection } from './connection.js'
import { refuse } from './errors.js'
import type { Birth } from './perms.js'
import type { Profile } from './profile.js'
import type { Quotas } from './quota.js'
import type { Store } from './store.js'
import { Transaction } from './transaction.js'
import type { Change } from './view.js'

/** What transactions are opened over. */
export interface TransactionRules {
  readonly store: Store
  readonly profile: Profile
  readonly quotas: Quotas
  readonly birth: Birth
}

/** All open transactions. */
export class Transactions {
  readonly #rules: TransactionRules
  #open = 0

  constructor(rules: TransactionRules) {
    this.#rules = rules
  }

  /** How many are open, on all connections. */
  get open(): number {
    return this.#open
  }

  /** TRANSACTION_START: opens a transaction and returns its number. */
  start(connection: Connection, inside: Transaction | undefined): number {
    if (inside) refuse('EBUSY')
    const { usage, privileged } = connection
    const limit = this.#rules.quotas.transactions + this.#rules.profile.slack.transactions
    if (!privileged && usage.transactions >= limit) refuse('ENOSPC')
    const id = connection.nextTransaction()
    this.add(connection, id)
    return id
  }

  /** Opens a transaction with this number. */
  add(connection: Connection, id: number): void {
    const { store, birth, quotas } = this.#rules
    const maxNodes = connection.privileged ? Number.POSITIVE_INFINITY : quotas.transactionNodes
    connection.transactions.set(id, new Transaction(id, store, { birth, maxNodes }))
    connection.usage.transactions++
    this.#open++
  }

  /** Ends a transaction; its number is dead whatever the result (XS-tx-6). Returns what it changed, if it was committed. */
  end(connection: Connection, transaction: Transaction, commit: boolean): readonly Change[] | undefined {
    this.#forget(connection, transaction.id)
    if (!commit) return undefined
    const { quotas, profile } = this.#rules
    const limit = connection.privileged ? Number.POSITIVE_INFINITY : quotas.nodes + profile.slack.nodes
    return transaction.commit(connection.domid, limit)
  }

  /** Drops all transactions of a connection. */
  forgetAll(connection: Connection): void {
    for (const id of [...connection.transactions.keys()]) this.#forget(connection, id)
  }

  #forget(connection: Connection, id: number): void {
    if (!connection.transactions.delete(id)) return
    connection.usage.transactions--
    this.#open--
  }
}
