/** The domains that the daemon knows: connected ones, and those that own nodes or are named in permissions. */

import type { Connection } from './connection.js'
import { INTRODUCE_DOMAIN, RELEASE_DOMAIN } from './path.js'
import type { Guarded, Permissions } from './perms.js'
import type { RingPeer } from './ring.js'
import type { Store } from './store.js'

/** What the hypervisor says of a domain. */
export interface DomainState {
  /** It was shut down or has crashed. */
  readonly shutdown: boolean
  /** It is being destroyed. */
  readonly dying: boolean
}

/** What the daemon asks of the hypervisor. */
export interface DomainHost {
  /** State of a domain; undefined if there is none of this number. */
  state(domid: number): DomainState | undefined
  /**
   * Maps a domain's ring page and binds its port (XS-dom-1); undefined if that cannot be done. The frame number is passed on
   * for embedders without grants.
   */
  connect(domid: number, gfn: number, port: number): RingPeer | undefined
}

/** A host that has every domain and maps none: the daemon on a socket alone. */
export const NO_HYPERVISOR: DomainHost = {
  state: () => ({ shutdown: false, dying: false }),
  connect: () => undefined,
}

/** One domain. */
export interface KnownDomain {
  readonly domid: number
  /** Store generation when it became known: what was written before does not mean this domain (XS-perm-7). */
  readonly born: number
  /** Its connection over a ring. */
  connection: Connection | undefined
  /** Closes the ring's mapping and port. */
  unmap: (() => void) | undefined
  gfn: number
  port: number
  /** Domain whose device model it is. */
  target: number | undefined
  /** It was seen shut down: `@releaseDomain` was fired for it (XS-dom-6). */
  shutdown: boolean
}

/** All known domains. */
export class Domains {
  readonly #known = new Map<number, KnownDomain>()
  readonly #host: DomainHost
  readonly #store: Store

  constructor(host: DomainHost, store: Store) {
    this.#host = host
    this.#store = store
  }

  /** A domain that is known already. */
  get(domid: number): KnownDomain | undefined {
    return this.#known.get(domid)
  }

  /** A domain, made known if the hypervisor has it. */
  know(domid: number): KnownDomain | undefined {
    const known = this.#known.get(domid)
    if (known) return known
    const state = this.#host.state(domid)
    if (!state) return undefined
    const domain: KnownDomain = {
      domid,
      born: domid === 0 ? 0 : this.#store.nextGeneration(),
      connection: undefined,
      unmap: undefined,
      gfn: 0,
      port: 0,
      target: undefined,
      shutdown: false,
    }
    this.#known.set(domid, domain)
    return domain
  }

  /** For permissions: since when a domain is known. */
  readonly birth = (domid: number): number | undefined => this.know(domid)?.born

  forget(domid: number): void {
    this.#known.delete(domid)
    for (const other of this.#known.values()) if (other.target === domid) other.target = undefined
  }

  /** The newest known first. A list of its own, for domains come and go while it is gone through (XS-adv-425). */
  all(): KnownDomain[] {
    return [...this.#known.values()].reverse()
  }
}

/** Permissions of the special names (XS-perm-8). */
export class SpecialNames {
  readonly #byName = new Map<string, Guarded>()

  constructor(releaseOpen: boolean) {
    this.#byName.set(INTRODUCE_DOMAIN, { perms: [{ letter: 'n', domid: 0 }], generation: 0 })
    this.#byName.set(RELEASE_DOMAIN, { perms: [{ letter: releaseOpen ? 'r' : 'n', domid: 0 }], generation: 0 })
  }

  entries(): IterableIterator<[string, Guarded]> {
    return this.#byName.entries()
  }

  get(name: string): Guarded | undefined {
    return this.#byName.get(name)
  }

  set(name: string, perms: Permissions, generation: number): void {
    this.#byName.set(name, { perms, generation })
  }

  /** A dead domain's entries vanish (XS-dom-7). */
  drop(domid: number): void {
    for (const [name, { perms, generation }] of this.#byName)
      this.#byName.set(name, { perms: perms.filter((entry, i) => i === 0 || entry.domid !== domid), generation })
  }
}
