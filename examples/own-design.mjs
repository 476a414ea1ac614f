/**
 * A design of xenwatch of your own: two threads for all domains, by the remainder of the domid. It stands beside the
 * others with `npx evtchn xenwatch --design examples/own-design.mjs --scenario all`.
 */
import { ForwardingDelivery } from 'evtchn/dom0'

export default class Buckets extends ForwardingDelivery {
  design = 'buckets'

  /** The list that takes a domain's events: made when it is first needed, and never ended. */
  serves(domid) {
    const bucket = 1 + (domid % 2)
    return this.up(bucket) ?? this.create(bucket)
  }

  *start() {}

  *stopWatching() {}
}
