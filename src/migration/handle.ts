/**
 * A migration under way: the frozen source of a saved state. From `beginMigration` to `commit` or `abort` the domain
 * stands still: its hypercalls return EAGAIN and no upcall enters it. What others send it is kept in its own pending bits.
 * Then exactly one of the two runs on:
 *
 *     begin ── state ──▶ restored elsewhere ── commit ──▶ the source is gone; `raised` tells what came in meanwhile
 *       │                refused            ── abort  ──▶ the source runs on, and finds what came in
 *       └────────────▶ restored here, `replaces` ───────▶ committed by that restore, nothing in between
 */

/// <reference lib="esnext.disposable" preserve="true" />

import { ECS } from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import { Errno, XenError } from '../errno.js'
import type { SavedDomain, SaveMode } from './format.js'

/** Where a migration stands; `gone`: the source was destroyed by other means. */
export type MigrationStatus = 'frozen' | 'committed' | 'aborted' | 'gone'

/** How a migration ended. */
export interface Committed {
  /** Ports that others raised at the source after it was saved: for `startDomain` where it was restored. */
  raised: number[]
}

/** What a migration does to its host. */
export interface MigrationHost {
  /** The source is destroyed. */
  destroy(): void
  /** The source runs on. */
  thaw(): void
}

/** A frozen source, as its host knows it. The holder of a `Migration` sees none of it. */
export class Source {
  readonly domain: Domain
  /** Peers on this host that were given another number meanwhile. */
  readonly renamed = new Map<number, number>()
  readonly host: MigrationHost
  status: MigrationStatus = 'frozen'
  readonly #pending: ReadonlySet<number>
  /** Domid + 1 and port of the other end of every channel when it was saved; 0 = none. */
  readonly #ends: Int32Array

  constructor(domain: Domain, host: MigrationHost) {
    this.domain = domain
    this.host = host
    this.#pending = new Set(pendingPorts(domain))
    const { ports } = domain
    this.#ends = new Int32Array(2 * ports.validEvtchns)
    for (let port = ports.nextUsed(1); port >= 0; port = ports.nextUsed(port + 1))
      if (ports.state(port) === ECS.INTERDOMAIN)
        this.#ends.set([ports.remoteDomid(port) + 1, ports.remotePort(port)], 2 * port)
  }

  /** Ports that were raised since the source was saved. */
  raised(): number[] {
    return [...pendingPorts(this.domain)].filter((port) => !this.#pending.has(port))
  }

  /** Was this the other end of `port` when the source was saved? */
  wasConnected(port: number, domid: number, remotePort: number): boolean {
    return this.#ends[2 * port] === domid + 1 && this.#ends[2 * port + 1] === remotePort
  }
}

let sourceIn: (migration: Migration) => Source

/** The frozen source behind a handle. */
export const sourceOf = (migration: Migration): Source => sourceIn(migration)

/** The handle of a frozen source. Made by `Hypervisor.beginMigration`. */
export class Migration<S extends SavedDomain = SavedDomain> {
  readonly domid: number
  readonly mode: SaveMode
  /** The state to restore; plain data, the caller's to send or store. */
  readonly state: S
  readonly #source: Source

  static {
    sourceIn = (migration) => migration.#source
  }

  /** @internal */
  constructor(source: Source, state: S) {
    this.domid = source.domain.domid
    this.mode = state.mode
    this.state = state
    this.#source = source
    Object.freeze(this)
  }

  get status(): MigrationStatus {
    return this.#source.status
  }

  /** Ports that were raised at the source since it was saved. */
  raised(): number[] {
    return this.#source.raised()
  }

  /**
   * The restored domain is the one that runs: the source is destroyed, its peers here find their ports unbound.
   * @throws XenError EINVAL if the migration is over.
   */
  commit(): Committed {
    const source = this.#frozen('commit')
    const raised = source.raised()
    source.status = 'committed'
    source.host.destroy()
    return { raised }
  }

  /**
   * The source is the one that runs: it continues where it stood, and gets the upcalls for what came in meanwhile.
   * @throws XenError EINVAL if the migration is over.
   */
  abort(): void {
    const source = this.#frozen('abort')
    source.status = 'aborted'
    source.host.thaw()
  }

  /** Aborts, unless the migration is over: for `using`. */
  [Symbol.dispose](): void {
    if (this.status === 'frozen') this.abort()
  }

  #frozen(call: string): Source {
    if (this.status !== 'frozen')
      throw new XenError(`Migration.${call}`, Errno.EINVAL, `the migration of d${this.domid} is ${this.status}`)
    return this.#source
  }
}

/** Has this port an event? One that came before the page of its FIFO word has only a mark, which waits for it (EC-bug-4). */
export function isRaised(domain: Domain, port: number): boolean {
  const { fifo, ports } = domain
  if (fifo && fifo.wordAt(port) < 0) return ports.isUsable(port) && ports.savedPending(port)
  return domain.isPending(port)
}

/** Open ports of a domain that have an event, ascending. */
export function* pendingPorts(domain: Domain): Generator<number, void, void> {
  const { ports } = domain
  for (let port = ports.nextUsed(1); port >= 0; port = ports.nextUsed(port + 1)) if (isRaised(domain, port)) yield port
}
