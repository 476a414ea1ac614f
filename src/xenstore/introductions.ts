/**
 * Domains come, shut down and go: INTRODUCE, RELEASE, RESUME, and the hypervisor's word that some domain changed.
 *
 *     INTRODUCE ──▶ ring mapped, connection reset ──▶ @introduceDomain
 *     VIRQ_DOM_EXC ─┬─ shut down ──▶ @releaseDomain
 *     RELEASE ──────┴─ gone ──▶ its nodes removed, its connection ended ──▶ @releaseDomain
 */

import type { Callouts } from '../callout.js'
import type { Connection, Transport } from './connection.js'
import type { DomainHost, Domains, KnownDomain, SpecialNames } from './domains.js'
import { refuse } from './errors.js'
import { INTRODUCE_DOMAIN, RELEASE_DOMAIN } from './path.js'
import type { Profile } from './profile.js'
import type { RingPeer } from './ring.js'
import { sealedTransport } from './sealed.js'
import type { DirectView } from './view.js'
import type { Watches } from './watches.js'

/** The daemon, as far as the life of domains changes it. */
export interface IntroductionDaemon {
  readonly callouts: Callouts
  readonly profile: Profile
  readonly domains: Domains
  readonly specials: SpecialNames
  readonly watches: Watches
  readonly host: DomainHost
  /** A new connection of a domain. */
  open(domid: number, transport: Transport): Connection
  /** Forgets all that a connection had begun. */
  reset(connection: Connection): void
  disconnect(connection: Connection): void
  /** Serves a connection over a ring. */
  startRing(connection: Connection, peer: RingPeer): Transport
  /** Serves a connection over a ring that is in use. */
  resumeRing(connection: Connection, peer: RingPeer): Transport
  /** A view that changes the store. */
  direct(): DirectView
  /** Drops the accounts of a domain that is gone. */
  closeAccounts(domid: number): void
}

const NOWHERE: Transport = { wake: () => {}, fail: () => {}, end: () => {} }

/** The life of domains. */
export class Introductions {
  readonly #daemon: IntroductionDaemon

  constructor(daemon: IntroductionDaemon) {
    this.#daemon = daemon
  }

  /** INTRODUCE: connects a domain by its ring, or anew (XS-dom-1, XS-dom-3). */
  introduce(domid: number, gfn: number, port: number): void {
    const { domains, profile, host } = this.#daemon
    const domain = domains.know(domid) ?? refuse('EINVAL')
    if (domain.connection && profile.introduceOnce && (domain.gfn !== gfn || domain.port !== port)) refuse('EINVAL')
    const { connection } = domain
    // Nothing of a domain that is dying or gone can be mapped anew: a known one keeps what it has.
    if (connection && (host.state(domid)?.dying ?? true)) {
      this.#daemon.reset(connection)
      connection.transport.restart?.()
      return
    }
    domain.unmap?.()
    domain.unmap = undefined
    const peer = host.connect(domid, gfn, port)
    if (!peer) refuse('EINVAL')
    this.#attach(domain, (made) => this.#daemon.startRing(made, peer!))
    domain.gfn = gfn
    domain.port = port
  }

  /** Connects a domain by a transport in the same program instead of a ring, as INTRODUCE does. */
  attach(domid: number, transport: Transport): Connection {
    const domain = this.#daemon.domains.know(domid)
    if (!domain) throw new Error(`there is no domain ${domid}`)
    domain.unmap?.()
    this.#attach(domain, () => transport)
    return domain.connection!
  }

  /** Connects a domain by a ring that is in use: its indexes and what the guest had begun stay. */
  reconnect(domid: number, port: number): Connection | undefined {
    const domain = this.#daemon.domains.know(domid)
    const peer = domain && this.#daemon.host.connect(domid, 0, port)
    if (!domain || !peer) return undefined
    const connection = domain.connection ?? this.#daemon.open(domid, NOWHERE)
    domain.connection = connection
    domain.port = port
    connection.transport = this.#daemon.resumeRing(connection, peer)
    domain.unmap = () => connection.transport.end()
    return connection
  }

  #attach(domain: KnownDomain, transport: (connection: Connection) => Transport): void {
    const fresh = !domain.connection
    const connection = domain.connection ?? this.#daemon.open(domain.domid, NOWHERE)
    domain.connection = connection
    this.#daemon.reset(connection)
    connection.ignored = false
    connection.transport = sealedTransport(transport(connection), this.#daemon.callouts, domain.domid)
    domain.unmap = () => connection.transport.end()
    if (fresh) this.#daemon.watches.fireSpecial(INTRODUCE_DOMAIN, domain.domid)
  }

  #connected(domid: number): KnownDomain {
    const { profile, domains } = this.#daemon
    if (domid === 0) refuse(profile.releaseDomain0)
    const domain = domains.get(domid)
    return domain?.connection ? domain : refuse(profile.releaseUnknown)
  }

  /** RELEASE: as if the domain had died, though it may still run (XS-dom-5). */
  release(domid: number): void {
    this.#bury(this.#connected(domid))
  }

  /** RESUME: its next shutdown is reported again (XS-dom-6). */
  resume(domid: number): void {
    this.#connected(domid).shutdown = false
  }

  /** VIRQ_DOM_EXC: some domain changed; all are looked at (XS-dom-6). */
  scan(): void {
    const { domains, host, watches, profile } = this.#daemon
    let shutdown: number[] = []
    for (const domain of domains.all()) {
      if (domain.domid === 0) continue
      const state = host.state(domain.domid)
      if (state?.shutdown && !domain.shutdown && domain.connection) {
        domain.shutdown = true
        shutdown.push(domain.domid)
      }
      // A dying domain is buried for its connection's sake; one without is known until it is gone (XS-dom-6).
      if (state && !(state.dying && domain.connection)) continue
      // The event of a death stands for those of the shutdowns found before it (XS-dom-6).
      if (domain.connection) shutdown = []
      this.#bury(domain)
    }
    for (const domid of profile.watchDepth ? shutdown : shutdown.slice(0, 1)) watches.fireSpecial(RELEASE_DOMAIN, domid)
  }

  /** XS-dom-7, in its order. */
  #bury(domain: KnownDomain): void {
    const { profile, specials, domains, watches } = this.#daemon
    const { domid, connection } = domain
    const view = this.#daemon.direct()
    view.removeOwnedBy(domid)
    if (profile.deadEntriesDeleted) view.dropEntries(domid)
    view.commit()
    watches.fire(view.changes, undefined)
    specials.drop(domid)
    domains.forget(domid)
    if (connection) this.#daemon.disconnect(connection)
    this.#daemon.closeAccounts(domid)
    if (connection) watches.fireSpecial(RELEASE_DOMAIN, domid)
  }
}
