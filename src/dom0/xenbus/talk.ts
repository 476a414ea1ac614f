/**
 * The summit's talk of June 2018: dom0's kernel alone, by the special watches. These carry no domid, so the list of
 * domains is compared with the threads that there are (XW-talk-1 to XW-talk-3).
 */

import type { Task } from '../kernel/index.js'
import { ForwardingDelivery } from './forwarding.js'
import { parseDomid, XenbusWatch } from './watch.js'

/** Threads made and ended by what `/local/domain` lists. */
export class TalkDelivery extends ForwardingDelivery {
  readonly design: string = 'talk'
  readonly #introduce = new XenbusWatch({
    node: '@introduceDomain',
    callback: () => this.host.kernel.call('mtwatch_introduce', this.#compare('introduce')),
  })
  readonly #release = new XenbusWatch({
    node: '@releaseDomain',
    callback: () => this.host.kernel.call('mtwatch_release', this.#compare('release')),
  })

  protected *stopWatching(): Task {
    yield* this.host.unregister(this.#introduce)
    yield* this.host.unregister(this.#release)
  }

  *start(): Task {
    yield* this.host.register(this.#introduce)
    yield* this.host.register(this.#release)
  }

  /** Several domains may have come or gone for one event; at a shutdown the domain is still listed, and stays. */
  *#compare(event: 'introduce' | 'release'): Task {
    const listed = new Set((yield* this.host.store.directoryIfExists('/local/domain')).map(parseDomid))
    listed.delete(0)
    if (event === 'release') {
      for (const domid of this.domids) if (!listed.has(domid)) this.retire(domid)
    } else {
      for (const domid of listed) if (!this.up(domid)) this.create(domid)
    }
  }
}
