/** One client of the daemon: a socket, a guest's ring, or a piece of the same program. */

import type { RequestLog } from './log.js'
import { OutputQueue, Ticket } from './output.js'
import type { Subject } from './perms.js'
import type { Usage } from './quota.js'
import type { Transaction } from './transaction.js'
import type { Watch } from './watch.js'
import { encodeText, type Packet, PacketReader } from './wire.js'

/** Why a connection cannot continue; the number stands in ring field `error` (XS-ring-8). */
export const RING_ERROR = { channel: 1, index: 2, protocol: 3 } as const

/** The way to a client, as the daemon sees it. */
export interface Transport {
  /** There is output to fetch, or input is welcome again. Called when no request is being handled. */
  wake(): void
  /** Nothing that the client sends can be understood any more (XS-wire-6). */
  fail(error: number): void
  /** Bytes that it has taken and could not pass on yet; they count as waiting (XS-sock-5). Default: none. */
  held?(): number
  /** The connection begins anew over the same way. */
  restart?(): void
  /** The daemon has ended the connection. */
  end(): void
}

/** What the daemon tells a connection when it makes it. */
export interface ConnectionConfig {
  /** Number in order of creation. */
  readonly id: number
  readonly domid: number
  readonly privileged: boolean
  /** It may change nothing. */
  readonly readonly: boolean
  readonly usage: Usage
  readonly transport: Transport
  /** Domain whose device model it is, at present. */
  readonly target: () => number | undefined
  /** Called when the connection has become due: there is output, or its account has become lighter. */
  readonly due: (connection: Connection) => void
  /** Called when more or fewer bytes wait for it. */
  readonly backlog: (connection: Connection) => void
  readonly log: RequestLog
}

/** A client's state. */
export class Connection implements Subject {
  readonly id: number
  readonly domid: number
  readonly privileged: boolean
  /** It may change nothing. */
  readonly readonly: boolean
  /** Replaced when a known domain is introduced again. */
  transport: Transport
  readonly usage: Usage
  /** By absolute path and token, in order of registration. */
  readonly watches = new Map<string, Watch<Connection>>()
  readonly transactions = new Map<number, Transaction>()
  readonly input = new PacketReader()
  readonly output = new OutputQueue(() => this.#config.backlog(this))
  /** Its peer misbehaved: nothing is read from it or written to it any more. */
  ignored = false
  closed = false
  /** Too much waited for it. */
  isCut = false
  /** A request that a fault holds back, until this time; it is the next that is handled. */
  heldBack: { readonly packet: Packet; readonly untilMs: number } | undefined
  /** The read-only handle that the package exports (handles.ts). */
  handle: object | undefined
  readonly #config: ConnectionConfig
  #lastTransaction = 0

  constructor(config: ConnectionConfig) {
    this.#config = config
    this.id = config.id
    this.domid = config.domid
    this.privileged = config.privileged
    this.readonly = config.readonly
    this.transport = config.transport
    this.usage = config.usage
  }

  get target(): number | undefined {
    return this.#config.target()
  }

  /** A number for a new transaction: 1, 2, … (XS-tx-1). Behind 2³² - 1 comes 1, and live ones are passed over. */
  nextTransaction(): number {
    do this.#lastTransaction = (this.#lastTransaction + 1) >>> 0
    while (this.#lastTransaction === 0 || this.transactions.has(this.#lastTransaction))
    return this.#lastTransaction
  }

  /** A ticket on this connection's account; a privileged connection pays nothing. */
  ticket(): Ticket | undefined {
    return this.privileged ? undefined : new Ticket(this.usage, () => this.#config.due(this))
  }

  /** Queues a packet whose payload is text of one character per byte. */
  send(type: number, reqId: number, txId: number, text: string, ticket?: Ticket): void {
    this.sendPacket(encodeText(type, reqId, txId, text), ticket)
  }

  /** Queues a packet; `key` names an event that is queued only once while it waits. */
  sendPacket(bytes: Uint8Array, ticket?: Ticket, key?: string, deadline?: number): void {
    if (this.ignored || this.closed) return
    const { log } = this.#config
    if (log.on) log.packet(this, bytes)
    this.output.push(bytes, ticket, key, deadline)
    this.#config.due(this)
  }

  /** Drops what waits for it, and takes no more; its next turn ends it. */
  cut(): void {
    if (this.isCut || this.closed) return
    this.isCut = true
    this.ignored = true
    this.output.clear()
    this.#config.due(this)
  }

  /** Bytes that it keeps: for the memory quota. */
  get memory(): number {
    let sum = this.usage.nodeBytes + this.usage.watchBytes + this.output.bytes + this.input.held
    for (const transaction of this.transactions.values()) sum += transaction.bytes
    return sum
  }
}
