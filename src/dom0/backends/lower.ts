/**
 * What lies below the backends and may keep what it was given: the network stack behind a vif, the disk behind a vbd. A
 * hook may take a packet or a request away; that is where stalls are injected.
 */

import type { Scheduler } from '../kernel/index.js'
import type { MappedPage } from './grants.js'

/** A packet of a guest inside dom0, its data still in the guest's granted pages. */
export interface Skb {
  /** `vif1.0`. */
  readonly dev: string
  readonly domid: number
  /** SKBTX_DEV_ZEROCOPY: the sender must be told when it is freed. */
  readonly zerocopy: boolean
  /** Segmentation size; 0 = none. */
  readonly gsoSize: number
  readonly frags: readonly MappedPage[]
  /** Frees it; `copied`: its data were copied on the way, so zero-copy failed. */
  free(copied: boolean): void
}

/** A block request below blkback, its data in a granted page. */
export interface Bio {
  /** `1.xvda`. */
  readonly dev: string
  readonly page: MappedPage
  readonly write: boolean
  complete(): void
}

/** Takes something away: true if it did, and then it is the taker's to release. */
export interface LowerHooks {
  readonly packet?: (skb: Skb) => boolean
  readonly io?: (bio: Bio) => boolean
  readonly page?: (bio: Bio) => boolean
}

/** How long a disk takes for a request. */
const IO_NS = 100_000

/** The devices below all backends of a host. */
export class LowerDevices {
  #hooks: LowerHooks = {}
  readonly #scheduler: Scheduler

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler
  }

  /** @internal Who looks at everything that passes; the last one counts. */
  intercept(hooks: LowerHooks): void {
    this.#hooks = hooks
  }

  /** @internal netif_receive_skb: a packet goes up to dom0, which copies and frees it, unless somebody keeps it. */
  receive(skb: Skb): void {
    if (!this.#hooks.packet?.(skb)) skb.free(true)
  }

  /** @internal submit_bio. */
  submit(bio: Bio): void {
    if (this.#hooks.io?.(bio)) return
    // It counts as complete, and yet somebody holds on to its page: persistent pages are waited for later.
    this.#hooks.page?.(bio)
    this.#scheduler.setTimer(this.#scheduler.nowNs + IO_NS, () => bio.complete())
  }
}
