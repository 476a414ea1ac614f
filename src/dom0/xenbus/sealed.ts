/**
 * Functions of subscribers and observers as xenbus calls them. What one throws is reported, and it counts as if it had not
 * been given: the event is handled, in the default thread, and unregistering waits for all lists.
 */

import type { Callouts } from '../../callout.js'
import type { DeliveryObserver } from './event_thread.js'
import type { XenbusWatch, XsWatchEvent } from './watch.js'

/** Does the subscriber want the event (XW-base-11)? */
export function wanted(callouts: Callouts, watch: XenbusWatch, path: string, token: string): boolean {
  const { willHandle } = watch
  return !willHandle || callouts.run(`willHandle of ${watch.node}`, true, () => willHandle(watch, path, token))
}

/** The domain that an event is about; 0 = none (XW-ds-5). */
export function domidOf(callouts: Callouts, { watch, path, token }: XsWatchEvent): number {
  const { getDomid } = watch
  return getDomid ? callouts.run(`getDomid of ${watch.node}`, 0, () => getDomid(watch, path, token)) : 0
}

/** The domain that a watch belongs to; 0 = none. */
export function ownerOf(callouts: Callouts, watch: XenbusWatch): number {
  const { getOwner } = watch
  return getOwner ? callouts.run(`getOwner of ${watch.node}`, 0, () => getOwner(watch)) : 0
}

/** An observer whose faults are reported. */
export function sealedObserver(given: DeliveryObserver, callouts: Callouts): DeliveryObserver {
  const run = (what: keyof DeliveryObserver, call: () => void): void =>
    callouts.run(`observer.${what}`, undefined, call)
  return {
    arrived: (event, list) => run('arrived', () => given.arrived?.(event, list)),
    dropped: (watch, path) => run('dropped', () => given.dropped?.(watch, path)),
    moved: (event, from, to) => run('moved', () => given.moved?.(event, from, to)),
    started: (event, list) => run('started', () => given.started?.(event, list)),
    finished: (event, list) => run('finished', () => given.finished?.(event, list)),
    purged: (event, list) => run('purged', () => given.purged?.(event, list)),
    threadUp: (list) => run('threadUp', () => given.threadUp?.(list)),
    threadDown: (list) => run('threadDown', () => given.threadDown?.(list)),
    threadEnded: (list) => run('threadEnded', () => given.threadEnded?.(list)),
  }
}
