/**
 * The designs of April and June 2018: everything arrives on the default list, and the default thread forwards what is
 * about a domain with a thread. Forwarding never blocks (XW-rfc-2), but a blocked default thread forwards nothing (XW-ds-6).
 */

import type { EventThread } from './event_thread.js'
import { MtwatchDelivery } from './mtwatch.js'
import type { XsWatchEvent } from './watch.js'

/** Delivery by way of the default list. */
export abstract class ForwardingDelivery extends MtwatchDelivery {
  enqueue(event: XsWatchEvent): EventThread {
    const { xenwatch } = this.host
    xenwatch.add(event)
    return xenwatch
  }

  /**
   * A thread that goes down still takes its domain's late events, unless a new one is UP (XW-life-1): in the default thread
   * a callback that had to wait for the stalled one would stop everybody.
   */
  protected override serves(domid: number): EventThread | undefined {
    return this.up(domid) ?? this.draining(domid)
  }

  route(event: XsWatchEvent): EventThread | undefined {
    return this.listOf(event)
  }
}
