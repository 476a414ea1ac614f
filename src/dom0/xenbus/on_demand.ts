/**
 * The design session of July 2018: a domain's thread lives from the first get() to the last put(), and xs_watch_msg puts
 * an event on its list at once (XW-ds-1 to XW-ds-6).
 *
 * The event that makes the thread runs in the default thread (XW-ds-4), and others of the same domain may be behind it on
 * the default list by then. They move to the new list together, and the new thread begins when that callback has
 * returned: so a domain's events stay in order, one at a time (XW-thr-1).
 */

import { done, type Task } from '../kernel/index.js'
import type { ThreadReference } from './delivery.js'
import type { EventThread } from './event_thread.js'
import { MtwatchDelivery } from './mtwatch.js'
import type { XsWatchEvent } from './watch.js'

/** Threads counted by their users. */
export class OnDemandDelivery extends MtwatchDelivery {
  readonly design: string = 'on-demand'
  readonly #counts = new Map<EventThread, number>()
  /** New threads that wait for the callback that made them. */
  readonly #held = new Set<EventThread>()

  /** Users of a domain's thread: 0 if there is none. */
  count(domid: number): number {
    const list = this.up(domid)
    return list ? this.#counts.get(list)! : 0
  }

  enqueue(event: XsWatchEvent): EventThread {
    const list = (event.watch.choice === 'domain' && this.listOf(event)) || this.host.xenwatch
    list.add(event)
    return list
  }

  route(_event: XsWatchEvent): EventThread | undefined {
    return undefined
  }

  override get(domid: number): ThreadReference {
    const list = this.up(domid) ?? this.#make(domid)
    this.#counts.set(list, (this.#counts.get(list) ?? 0) + 1)
    return list
  }

  override put(reference: ThreadReference): void {
    const count = reference ? (this.#counts.get(reference) ?? 0) : 0
    if (!reference || count === 0) {
      this.host.report(`put() of ${reference?.name ?? 'no thread'} without a get()`)
      return
    }
    this.#counts.set(reference, count - 1)
    if (count > 1) return
    this.#counts.delete(reference)
    this.retire(reference.domid)
  }

  #make(domid: number): EventThread {
    const { xenwatch, kernel, observer } = this.host
    const list = this.create(domid)
    for (const event of xenwatch.extract((each) => each.watch.choice === 'domain' && this.listOf(each) === list)) {
      observer.moved?.(event, xenwatch, list)
      list.add(event)
    }
    const maker = kernel.scheduler.current === xenwatch.thread ? xenwatch.current : undefined
    if (maker) {
      list.holdWhile(() => xenwatch.current === maker)
      this.#held.add(list)
    }
    return list
  }

  /** Threads that the callback made may begin. */
  override callbackReturned(): void {
    super.callbackReturned()
    for (const list of this.#held) {
      if (list.held) continue
      this.#held.delete(list)
      list.wake()
    }
  }

  start(): Task {
    return done(undefined)
  }

  protected stopWatching(): Task {
    return done(undefined)
  }
}
