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
  destroy(source: Domain): void
  /** The source runs on. */
  thaw(source: Domain): void
}

/** The handle of a frozen source. Made by `Hypervisor.beginMigration`. */
export class Migration<S extends SavedDomain = SavedDomain> {
  readonly domid: number
  readonly mode: SaveMode
  /** The state to restore; plain data, the caller's to send or store. */
  readonly state: S
  /** @internal */
  readonly source: Domain
  /** @internal Peers on this host that were given another number meanwhile. */
  readonly renamed = new Map<number, number>()
  readonly #host: MigrationHost
  readonly #pending: ReadonlySet<number>
  /** Domid + 1 and port of the other end of every channel when it was saved; 0 = none. */
  readonly #ends: Int32Array
  #status: MigrationStatus = 'frozen'

  /** @internal */
  constructor(source: Domain, state: S, host: MigrationHost) {
    this.domid = source.domid
    this.mode = state.mode
    this.state = state
    this.source = source
    this.#host = host
    this.#pending = new Set(pendingPorts(source))
    const { ports } = source
    this.#ends = new Int32Array(2 * ports.validEvtchns)
    for (let port = ports.nextUsed(1); port >= 0; port = ports.nextUsed(port + 1))
      if (ports.state(port) === ECS.INTERDOMAIN)
        this.#ends.set([ports.remoteDomid(port) + 1, ports.remotePort(port)], 2 * port)
  }

  get status(): MigrationStatus {
    return this.#status
  }

  /** Ports that were raised at the source since it was saved. */
  raised(): number[] {
    return [...pendingPorts(this.source)].filter((port) => !this.#pending.has(port))
  }

  /** @internal Was this the other end of `port` when the source was saved? */
  wasConnected(port: number, domid: number, remotePort: number): boolean {
    return this.#ends[2 * port] === domid + 1 && this.#ends[2 * port + 1] === remotePort
  }

  /**
   * The restored domain is the one that runs: the source is destroyed, its peers here find their ports unbound.
   * @throws XenError EINVAL if the migration is over.
   */
  commit(): Committed {
    this.#mustBeFrozen('commit')
    const raised = this.raised()
    this.#status = 'committed'
    this.#host.destroy(this.source)
    return { raised }
  }

  /**
   * The source is the one that runs: it continues where it stood, and gets the upcalls for what came in meanwhile.
   * @throws XenError EINVAL if the migration is over.
   */
  abort(): void {
    this.#mustBeFrozen('abort')
    this.#status = 'aborted'
    this.#host.thaw(this.source)
  }

  /** Aborts, unless the migration is over: for `using`. */
  [Symbol.dispose](): void {
    if (this.#status === 'frozen') this.abort()
  }

  /** @internal The source was destroyed, or replaced by a restore. */
  end(status: 'committed' | 'gone'): void {
    this.#status = status
  }

  #mustBeFrozen(call: string): void {
    if (this.#status !== 'frozen')
      throw new XenError(`Migration.${call}`, Errno.EINVAL, `the migration of d${this.domid} is ${this.#status}`)
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
