/** What a guest may use, and what it uses. Privileged connections have no limits (section 6 of the rules: XS-quota-*). */

/** Limits for each unprivileged domain. */
export interface Quotas {
  /** Nodes owned. */
  readonly nodes: number
  readonly watches: number
  readonly transactions: number
  /** Bytes of one node: see `nodeSize`. */
  readonly nodeSize: number
  /** Entries of a permission list. */
  readonly permissions: number
  /** Characters of a path, without a leading `/local/domain/N/`. */
  readonly pathMax: number
  /** Nodes that one transaction may touch. */
  readonly transactionNodes: number
  /** Replies and events under way (XS-quota-3). */
  readonly outstanding: number
  /** Bytes of memory: at `memoryHard` its ring is no longer read, from `memorySoft` on the embedder is warned. */
  readonly memoryHard: number
  readonly memorySoft: number
  /** After this time an event that nobody fetches is dropped (XS-watch-13). */
  readonly eventTimeoutMs: number
}

/** The limits of the C daemon. */
export const DEFAULT_QUOTAS: Quotas = {
  nodes: 1000,
  watches: 128,
  transactions: 10,
  nodeSize: 2048,
  permissions: 5,
  pathMax: 2048,
  transactionNodes: 1024,
  outstanding: 20,
  memoryHard: 2.5 * 1024 * 1024,
  memorySoft: 2 * 1024 * 1024,
  eventTimeoutMs: 20_000,
}

/** What one domain uses. */
export interface Usage {
  nodes: number
  nodeBytes: number
  watches: number
  watchBytes: number
  transactions: number
  outstanding: number
}

/** Changes of node counts and bytes by owner, collected while an operation runs and applied when it has succeeded. */
export class Delta {
  readonly byOwner = new Map<number, { nodes: number; bytes: number }>()

  add(owner: number, nodes: number, bytes: number): void {
    const entry = this.byOwner.get(owner)
    if (!entry) this.byOwner.set(owner, { nodes, bytes })
    else {
      entry.nodes += nodes
      entry.bytes += bytes
    }
  }

  /** Nodes that `owner` would own more. */
  nodes(owner: number): number {
    return this.byOwner.get(owner)?.nodes ?? 0
  }
}

/** Usage by domain. */
export class Accounts {
  readonly #byDomid = new Map<number, Usage>()

  /** Account of a domain, empty if it is new. */
  of(domid: number): Usage {
    let usage = this.#byDomid.get(domid)
    if (!usage) {
      usage = { nodes: 0, nodeBytes: 0, watches: 0, watchBytes: 0, transactions: 0, outstanding: 0 }
      this.#byDomid.set(domid, usage)
    }
    return usage
  }

  apply(delta: Delta): void {
    for (const [owner, { nodes, bytes }] of delta.byOwner) {
      const usage = this.of(owner)
      usage.nodes += nodes
      usage.nodeBytes += bytes
    }
  }

  /** A dead domain's account goes, so that the next one of this number begins with nothing (XS-adv-483). */
  close(domid: number): void {
    this.#byDomid.delete(domid)
  }

  /** All accounts. */
  entries(): IterableIterator<[number, Usage]> {
    return this.#byDomid.entries()
  }
}
