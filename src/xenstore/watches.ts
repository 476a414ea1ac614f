/**
 * The watches of all connections: setting them, dropping them, and the events that a change causes.
 *
 *     change ──▶ watches on the path and above it ──▶ who may read it ──▶ not waiting already ──▶ output queue
 */

import type { Connection } from './connection.js'
import type { SpecialNames } from './domains.js'
import { refuse } from './errors.js'
import type { Ticket } from './output.js'
import { domainPath, isSpecial } from './path.js'
import { type Birth, NEED, permits } from './perms.js'
import type { Profile } from './profile.js'
import type { Quotas } from './quota.js'
import type { StoreSeam } from './seam.js'
import type { Change } from './view.js'
import { eventText, type Watch, WatchTable, watchBytes, watchKey } from './watch.js'
import { encodeText, PAYLOAD_MAX, XS } from './wire.js'

/** What events are judged by. */
export interface WatchRules {
  readonly seam: StoreSeam | undefined
  readonly profile: Profile
  readonly quotas: Quotas
  readonly specials: SpecialNames
  readonly birth: Birth
  /** Time in milliseconds; undefined if nothing times out. */
  now(): number | undefined
}

/** A watch as a request describes it. */
export interface WatchRequest {
  /** Absolute. */
  readonly path: string
  readonly token: string
  /** Its path was given without the home of the domain, and so are the paths of its events (XS-watch-5). */
  readonly relative: boolean
  /** Levels below the path that are reported; undefined: all (XS-watch-14). */
  readonly depth: number | undefined
}

/** All watches of a daemon. */
export class Watches {
  readonly #rules: WatchRules
  readonly #table: WatchTable<Connection>
  #lastSeq = 0

  constructor(rules: WatchRules) {
    this.#rules = rules
    this.#table = new WatchTable(rules.profile.watchOrder === 'newest')
  }

  /** Number of paths that are watched. */
  get size(): number {
    return this.#table.size
  }

  /** Sets a watch. Refuses a second equal one, and one more than the quota allows. */
  add(connection: Connection, request: WatchRequest): Watch<Connection> {
    const { usage, privileged, watches } = connection
    const { quotas, profile } = this.#rules
    if (watches.has(watchKey(request.path, request.token))) refuse('EEXIST')
    if (!privileged && usage.watches >= quotas.watches + profile.slack.watches) refuse(profile.tooManyWatches)
    return this.set(connection, request)
  }

  /** Sets a watch that may be set. */
  set(connection: Connection, { path, token, relative, depth }: WatchRequest): Watch<Connection> {
    const { usage, domid, watches } = connection
    const cut = relative ? domainPath(domid).length + 1 : 0
    const watch = { connection, path, token, cut, depth, seq: ++this.#lastSeq }
    watches.set(watchKey(path, token), watch)
    this.#table.add(watch)
    usage.watches++
    usage.watchBytes += watchBytes(watch)
    return watch
  }

  /** Takes a watch away; false if there is none. */
  remove(connection: Connection, path: string, token: string): boolean {
    const watch = connection.watches.get(watchKey(path, token))
    if (watch) this.#forget(watch)
    return watch !== undefined
  }

  /** Takes all watches of a connection away. */
  removeAll(connection: Connection): void {
    for (const watch of connection.watches.values()) this.#forget(watch)
  }

  #forget(watch: Watch<Connection>): void {
    const { connection, path, token } = watch
    connection.watches.delete(watchKey(path, token))
    this.#table.remove(watch)
    connection.usage.watches--
    connection.usage.watchBytes -= watchBytes(watch)
  }

  /** Queues the events of a request's changes; `cause` pays for them until all receivers have fetched them. */
  fire(changes: readonly Change[], cause: Connection | undefined): void {
    if (!changes.length || !this.#table.size) return
    const ticket = cause?.ticket()
    for (const { path, exact, readers } of changes)
      for (const watch of this.#table.concerned(path, exact)) {
        const { connection } = watch
        if (connection.privileged || readers.some((node) => permits(node, connection, NEED.read, this.#rules.birth)))
          this.send(watch, path, ticket)
      }
  }

  /** Tells the watches of a special name about a domain (XS-watch-9, XS-watch-14). */
  fireSpecial(name: string, domid: number): void {
    const guarded = this.#rules.specials.get(name)!
    for (const watch of this.#table.concerned(name, true))
      if (permits(guarded, watch.connection, NEED.read, this.#rules.birth))
        this.send(watch, watch.depth ? `${name}/${domid}` : name, undefined)
  }

  /** Queues an event. Drops it if it is too long (XS-wire-8), or if an equal one waits already (XS-watch-10). */
  send(watch: Watch<Connection>, path: string, ticket: Ticket | undefined): void {
    const { connection } = watch
    const text = eventText(watch, path)
    if (text.length > PAYLOAD_MAX) return
    const key = isSpecial(path) ? undefined : text
    if (key !== undefined && connection.output.has(key)) return
    const now = connection.privileged ? undefined : this.#rules.now()
    const deadline = now === undefined ? undefined : now + this.#rules.quotas.eventTimeoutMs
    this.#rules.seam?.watchEvent(connection.domid, text)
    connection.sendPacket(encodeText(XS.WATCH_EVENT, 0, 0, text), ticket, key, deadline)
  }
}
