/** The designs by name, and users' own ones behind a wall: what a user's function throws does not reach xenbus. */

import type { Callouts } from '../../callout.js'
import { ParameterError } from '../../check.js'
import type { Task } from '../kernel/index.js'
import { DESIGNS, type Delivery, type DeliveryHost, type Design, type DesignMaker } from './delivery.js'
import type { EventThread } from './event_thread.js'
import { OnDemandDelivery } from './on_demand.js'
import { RfcDelivery } from './rfc.js'
import { SingleDelivery } from './single.js'
import { TalkDelivery } from './talk.js'
import type { XenbusWatch } from './watch.js'

const MAKERS: Record<Design, new (host: DeliveryHost) => Delivery> = {
  single: SingleDelivery,
  rfc: RfcDelivery,
  talk: TalkDelivery,
  'on-demand': OnDemandDelivery,
}

/** A design by its name, or a function that makes one. @throws ParameterError */
export function checkDesign(call: string, parameter: string, value: unknown): void {
  if (typeof value === 'function') return
  if (!(DESIGNS as readonly unknown[]).includes(value))
    throw new ParameterError(call, parameter, value, `${DESIGNS.join(', ')}, or a function that makes a Delivery`)
}

/** A delivery of a design. @throws ParameterError for a design that does not exist; whatever a user's maker throws. */
export function makeDelivery(design: Design | DesignMaker, host: DeliveryHost, callouts: Callouts): Delivery {
  if (typeof design === 'function') return walled(design(host), host, callouts)
  checkDesign('Xenbus', 'design', design)
  return new MAKERS[design](host)
}

/**
 * A user's delivery as xenbus calls it. What goes wrong in it is reported, and the event is the default thread's; a watch
 * is then purged from the default list, so that nothing of it runs later (XW-unreg-4).
 */
function walled(own: Delivery, host: DeliveryHost, callouts: Callouts): Delivery {
  const { xenwatch } = host
  const where = (what: string) => `${what} of design ${own.design}`
  const run = <T>(what: string, otherwise: T, body: () => T): T => callouts.run(where(what), otherwise, body)
  return {
    design: own.design,
    get domainLists() {
      return run('domainLists', [], () => own.domainLists)
    },
    enqueue(event) {
      const list = run<EventThread | undefined>('enqueue', undefined, () => own.enqueue(event))
      if (list) return list
      xenwatch.add(event)
      return xenwatch
    },
    // Forwarding an event to the list that it comes from would never end.
    route: (event) => {
      const list = run('route', undefined, () => own.route(event))
      return list === xenwatch ? undefined : list
    },
    *purge(watch: XenbusWatch): Task {
      try {
        yield* own.purge(watch)
      } catch (error) {
        callouts.report(error, where('purge'))
        xenwatch.purge(watch)
      }
    },
    callbackReturned: () => run('callbackReturned', undefined, () => own.callbackReturned()),
    get: (domid) => run('get', undefined, () => own.get(domid)),
    put: (reference) => run('put', undefined, () => own.put(reference)),
    start: () => own.start(),
    stop: () => own.stop(),
  }
}
