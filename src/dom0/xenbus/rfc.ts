/**
 * The RFC of April 2018: the toolstack says by nodes below `/local/domain/0/mtwatch` which domains are to have a thread
 * (XW-rfc-1 to XW-rfc-5).
 */

import type { Task } from '../kernel/index.js'
import { ForwardingDelivery } from './forwarding.js'
import { parseDomid, XenbusWatch } from './watch.js'

/** The node whose children are the domains that have a thread. */
export const MTWATCH_NODE = '/local/domain/0/mtwatch'

/** Threads made and ended by nodes. */
export class RfcDelivery extends ForwardingDelivery {
  readonly design: string = 'rfc'
  readonly #watch = new XenbusWatch({
    node: MTWATCH_NODE,
    callback: (_watch, path) => this.host.kernel.call('mtwatch_changed', this.#changed(path)),
  })

  protected *stopWatching(): Task {
    yield* this.host.unregister(this.#watch)
  }

  *start(): Task {
    yield* this.host.register(this.#watch)
  }

  /** Events may be merged or repeated: what counts is what is there now (XW-rfc-4). */
  *#changed(path: string): Task {
    const domid = parseDomid(path.slice(MTWATCH_NODE.length + 1).split('/')[0])
    if (domid) this.#settle(domid, yield* this.host.store.exists(`${MTWATCH_NODE}/${domid}`))
    else if (path === MTWATCH_NODE) yield* this.#settleAll()
  }

  *#settleAll(): Task {
    const names = yield* this.host.store.directoryIfExists(MTWATCH_NODE)
    const wanted = new Set(names.map(parseDomid))
    wanted.delete(0)
    for (const domid of this.domids) if (!wanted.has(domid)) this.retire(domid)
    for (const domid of wanted) this.#settle(domid, true)
  }

  #settle(domid: number, wanted: boolean): void {
    if (!wanted) this.retire(domid)
    else if (!this.up(domid)) this.create(domid)
  }
}
