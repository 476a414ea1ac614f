/**
 * The daemon from the inside: connections, requests in, replies and events out. It does no I/O and knows no time:
 * transports bring bytes and fetch bytes, the embedder passes a clock and calls `tick`. Its public face is server.ts.
 *
 *     bytes → PacketReader → request → operation on a view → new root → events queued → reply queued → transports woken
 */

import { Callouts } from '../callout.js'
import { ambient, type Disruption } from '../trace/index.js'
import { Admission } from './admission.js'
import { Backlog } from './backlog.js'
import type { Call, Daemon } from './call.js'
import { Connection, RING_ERROR, type Transport } from './connection.js'
import { type DomainHost, Domains, NO_HYPERVISOR, SpecialNames } from './domains.js'
import { Refusal, refuse } from './errors.js'
import { Introductions } from './introductions.js'
import { RequestLog } from './log.js'
import type { Scene } from './operations.js'
import { checkOptions, type XenStoredOptions } from './options.js'
import { C_4_17, type Profile } from './profile.js'
import { DEFAULT_QUOTAS, type Quotas } from './quota.js'
import { type RequestKind, requestKind } from './requests.js'
import type { RingPeer } from './ring.js'
import { RingTransport } from './ring_server.js'
import { Rota } from './rota.js'
import { sealedHost, sealedLater, sealedNow, sealedTransport } from './sealed.js'
import { StoreSeam } from './seam.js'
import { Store } from './store.js'
import type { Transaction } from './transaction.js'
import { Transactions } from './transactions.js'
import { DirectView } from './view.js'
import { Watches } from './watches.js'
import { oneString, PAYLOAD_MAX, type Packet, XS } from './wire.js'

const OUTPUT_MAX = 16 * 1024 * 1024
const OUTPUT_TOTAL = 64 * 1024 * 1024

/** A xenstore daemon, with everything that its parts share. */
export class StoreDaemon implements Daemon {
  readonly profile: Profile
  readonly quotas: Readonly<Quotas>
  readonly store = new Store()
  readonly domains: Domains
  readonly specials: SpecialNames
  readonly watches: Watches
  readonly introductions: Introductions
  readonly transactions: Transactions
  readonly host: DomainHost
  /** Where requests are watched, and refused on request. */
  readonly seam: StoreSeam | undefined
  /** The way out to the embedder's functions. */
  readonly callouts: Callouts
  /** Time in milliseconds; undefined if nothing times out. */
  readonly now: () => number | undefined
  readonly #options: XenStoredOptions
  readonly #connections = new Set<Connection>()
  readonly #rota: Rota
  readonly #backlog: Backlog
  readonly log: RequestLog
  readonly #admission: Admission
  #ids = 0
  #handling = false

  constructor(options: XenStoredOptions = {}) {
    this.#options = checkOptions(options)
    this.profile = options.profile ?? C_4_17
    this.quotas = { ...DEFAULT_QUOTAS, ...options.quotas }
    this.callouts = new Callouts(options.onError)
    this.now = sealedNow(options.now, this.callouts)
    const known = (domid: number) => this.domains?.get(domid) !== undefined
    this.host = sealedHost(options.host ?? NO_HYPERVISOR, this.callouts, known)
    const { outputMax = OUTPUT_MAX, outputTotal = OUTPUT_TOTAL, later, onLog } = this.#options
    this.#backlog = new Backlog({ each: outputMax, total: outputTotal })
    this.log = new RequestLog(onLog, this.callouts)
    this.#rota = new Rota({
      ready: () => !this.#handling,
      turn: (connection) => this.#turn(connection),
      later: sealedLater(later, this.callouts),
    })
    this.domains = new Domains(this.host, this.store)
    this.specials = new SpecialNames(this.profile.releaseDomainOpen)
    this.watches = new Watches(this)
    this.introductions = new Introductions(this)
    this.transactions = new Transactions(this)
    this.#admission = new Admission(this.quotas, this.#options, this.now, this.callouts)
    const { trace = ambient().trace, faults = ambient().faults } = this.#options
    this.seam = StoreSeam.of(trace, faults, this.now, this.callouts)
    this.domains.know(0)
  }

  /** For permissions: since when a domain is known. */
  get birth(): Domains['birth'] {
    return this.domains.birth
  }

  /** Connections in order of creation. */
  get connections(): Connection[] {
    return [...this.#connections]
  }

  // --- connections ---------------------------------------------------------------------------------------------------

  /** A new connection of a domain; one of domain 0 is privileged, as a socket is (XS-sock-1). */
  open(domid: number, transport: Transport, readonly = false): Connection {
    const connection = new Connection({
      id: ++this.#ids,
      domid,
      privileged: domid === 0,
      readonly,
      usage: this.store.accounts.of(domid),
      transport: sealedTransport(transport, this.callouts, domid),
      target: () => this.domains.get(domid)?.target,
      due: (each) => this.#rota.add(each),
      backlog: (each) => this.#backlog.note(each),
      log: this.log,
    })
    this.#connections.add(connection)
    this.#backlog.add(connection)
    return connection
  }

  /** The client is gone: its watches and transactions go without events (XS-sock-4, XS-watch-15). */
  disconnect(connection: Connection): void {
    if (connection.closed) return
    this.reset(connection)
    connection.closed = true
    this.#connections.delete(connection)
    this.#rota.delete(connection)
    this.#backlog.delete(connection)
    connection.transport.end()
    this.#rota.run()
  }

  /** Forgets all that a connection had begun. */
  reset(connection: Connection): void {
    this.dropRequests(connection)
    connection.heldBack = undefined
    connection.input.reset()
    connection.output.clear()
  }

  /** The peer sent what cannot be: it is not listened to any more, but not forgotten (XS-dom-9). */
  fault(connection: Connection, error: number): void {
    if (connection.ignored || connection.closed) return
    this.reset(connection)
    connection.ignored = true
    connection.transport.fail(error)
    this.#rota.run()
  }

  /** RESET_WATCHES: all watches and transactions of a connection (XS-watch-12). */
  dropRequests(connection: Connection): void {
    this.watches.removeAll(connection)
    this.transactions.forgetAll(connection)
  }

  // --- bytes in, bytes out -------------------------------------------------------------------------------------------

  /** May a request of this connection be handled now? If not, its transport leaves bytes where they are. */
  mayServe(connection: Connection): boolean {
    return this.#admission.mayServe(connection)
  }

  /** Bytes from a client. They may be written over as soon as this returns. */
  receive(connection: Connection, bytes: Uint8Array): void {
    if (connection.ignored || connection.closed) return
    connection.input.push(bytes)
    this.#serve(connection)
    connection.input.detach()
    this.#rota.run()
  }

  /** The transport has taken output: requests that waited for that are handled. */
  resume(connection: Connection): void {
    this.#serve(connection)
    this.#rota.run()
  }

  #serve(connection: Connection): void {
    // A client in the same program may call from within a reply; its request waits until this one is over.
    if (this.#handling) {
      this.#rota.add(connection)
      return
    }
    this.#handling = true
    try {
      while (this.mayServe(connection)) {
        const { heldBack } = connection
        connection.heldBack = undefined
        const packet = heldBack?.packet ?? connection.input.next()
        if (!packet) break
        this.#handle(connection, packet, heldBack !== undefined)
      }
    } finally {
      this.#handling = false
    }
    const refused = connection.input.refusedHeader
    if (refused) this.#overLong(connection, refused)
  }

  #overLong(connection: Connection, { reqId, txId }: Packet): void {
    if (this.profile.overLong === 'E2BIG') {
      connection.send(XS.ERROR, reqId, txId, 'E2BIG\0')
      connection.transport.wake()
    }
    this.fault(connection, RING_ERROR.protocol)
  }

  /** Serves one share of what waits for its turn; true if there is more (XS-ring-10). */
  step(): boolean {
    return this.#rota.step()
  }

  /** A connection has something to do that `receive` does not bring: its guest has written to its ring. */
  knock(connection: Connection): void {
    this.#rota.add(connection)
    this.#rota.run()
  }

  /** A transport could not do all that there is to do in one turn. */
  again(connection: Connection): void {
    this.#rota.add(connection)
  }

  /** Serves and sends in turn, for what is sent makes room for more replies. */
  #turn(connection: Connection): void {
    if (connection.closed) return
    if (connection.isCut) {
      this.disconnect(connection)
      return
    }
    do {
      this.#serve(connection)
      connection.transport.wake()
    } while (connection.input.ready && this.mayServe(connection))
    // Its transport may hold more than before, or less.
    if (connection.transport.held) this.#backlog.note(connection)
  }

  /** Lets time take effect: drops events that nobody fetched, and serves guests that had to wait. */
  tick(): void {
    const now = this.now()
    if (now === undefined) return
    for (const connection of this.connections) {
      if (connection.privileged && !connection.heldBack) continue
      connection.output.expire(now)
      this.#rota.add(connection)
    }
    this.#rota.run()
  }

  /** When `tick` has something to do next, on the clock that was passed in; Infinity if never. */
  get nextTick(): number {
    const now = this.now()
    let next = Number.POSITIVE_INFINITY
    if (now === undefined) return next
    for (const { privileged, domid, output, heldBack } of this.#connections) {
      if (heldBack) next = Math.min(next, heldBack.untilMs)
      if (privileged) continue
      next = Math.min(next, output.deadline, this.#admission.recovery(domid, now))
    }
    return next
  }

  // --- requests ------------------------------------------------------------------------------------------------------

  #handle(connection: Connection, packet: Packet, wasHeld: boolean): void {
    const { type, reqId, txId } = packet
    const seen = this.seam?.request(connection.domid, packet, wasHeld)
    if (seen?.disruption && this.#disrupt(connection, packet, seen.disruption)) return
    const reply = connection.ticket()
    if (this.log.on) this.log.request(connection, packet)
    let call: Call | undefined
    try {
      if (seen?.fault) refuse(seen.fault)
      const kind = this.#kind(connection, packet)
      const transaction = kind.outside || txId === 0 ? undefined : this.#transaction(connection, txId)
      call = { server: this, connection, packet, transaction }
      const text = kind.handle(call) ?? 'OK\0'
      if (text.length > PAYLOAD_MAX) refuse('E2BIG')
      seen?.replied(text)
      connection.send(type, reqId, txId, text, reply)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      seen?.refused(error.code)
      connection.send(XS.ERROR, reqId, txId, `${error.code}\0`, reply)
    }
    call?.afterwards?.()
  }

  /** A fault: ends the connection, or holds the request back. False: it is handled at once, for there is no clock. */
  #disrupt(connection: Connection, packet: Packet, how: Disruption): boolean {
    const now = this.now()
    if ('cut' in how) connection.cut()
    else if (now === undefined) return false
    else connection.heldBack = { packet: { ...packet, body: packet.body.slice() }, untilMs: now + how.delayMs }
    return true
  }

  /** Unknown types and requests that are not for guests (XS-wire-9). */
  #kind({ privileged, readonly }: Connection, { type, body }: Packet): RequestKind {
    const kind = requestKind(type)
    if (!kind) return refuse('ENOSYS')
    const help = type === XS.CONTROL && this.profile.helpForAll && oneString(body) === 'help'
    return (kind.privileged && !privileged && !help) || (kind.changes && readonly) ? refuse('EACCES') : kind
  }

  #transaction(connection: Connection, id: number): Transaction {
    return connection.transactions.get(id) ?? refuse(this.profile.unknownTransaction)
  }

  /** What a request reads from: its transaction, or the store. */
  scene({ connection, transaction }: Call): Scene {
    return { view: transaction ?? this.direct(), who: connection, rules: this }
  }

  /** A view that changes the store. */
  direct(): DirectView {
    return new DirectView(this.store, this.birth, this.profile.removalOrder === 'top')
  }

  /** Runs an operation that changes nodes; outside a transaction it takes effect, and its events are queued, at once. */
  mutate(call: Call, operation: (scene: Scene) => void): void {
    const { connection, transaction } = call
    if (transaction) {
      operation({ view: transaction, who: connection, rules: this })
      return
    }
    const view = this.direct()
    operation({ view, who: connection, rules: this })
    view.commit()
    this.#debit(connection)
    this.watches.fire(view.changes, connection)
  }

  /** A guest's write counts against its rate while a transaction that it may disturb is open. */
  #debit(connection: Connection): void {
    if (!connection.privileged && this.transactions.open > 0) this.#admission.debit(connection.domid)
  }

  /** Ends a transaction; its events are queued at once. */
  endTransaction(connection: Connection, transaction: Transaction, commit: boolean): void {
    const changes = this.transactions.end(connection, transaction, commit)
    if (!changes) return
    if (transaction.modified) this.#debit(connection)
    this.watches.fire(changes, connection)
  }

  /** CONTROL quota set: a limit for all guests, from now on. */
  setQuota(name: keyof Quotas, value: number): void {
    ;(this.quotas as { -readonly [K in keyof Quotas]: Quotas[K] })[name] = value
  }

  /** CONTROL memreport; false if the embedder takes no report. */
  writeReport(text: string, file: string | undefined): boolean {
    this.callouts.run('onMemoryReport', undefined, () => this.#options.onMemoryReport?.(text, file))
    return this.#options.onMemoryReport !== undefined
  }

  // --- domains -------------------------------------------------------------------------------------------------------

  /** Connects a domain by its ring, as INTRODUCE does (XS-dom-1, XS-dom-3). */
  introduce(domid: number, gfn: number, port: number): void {
    this.introductions.introduce(domid, gfn, port)
    this.#rota.run()
  }

  /** Connects a domain by a transport in the same program instead of a ring, as INTRODUCE does. */
  attachDomain(domid: number, transport: Transport): Connection {
    const connection = this.introductions.attach(domid, transport)
    this.#rota.run()
    return connection
  }

  /** VIRQ_DOM_EXC: some domain changed; all are looked at (XS-dom-6). */
  domainsChanged(): void {
    this.introductions.scan()
    this.#rota.run()
  }

  /** Serves a connection over a ring. */
  startRing(connection: Connection, peer: RingPeer): Transport {
    const transport = new RingTransport(this, connection, peer, this.profile.features)
    transport.start()
    return transport
  }

  /** Serves a connection over a ring that is in use: its indexes stay. */
  resumeRing(connection: Connection, peer: RingPeer): Transport {
    const transport = new RingTransport(this, connection, peer, this.profile.features)
    transport.listen()
    return transport
  }

  /** Drops the accounts of a domain that is gone. */
  closeAccounts(domid: number): void {
    this.store.accounts.close(domid)
    this.#admission.forget(domid)
  }
}
