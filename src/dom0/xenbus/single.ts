/** The baseline: every callback in the one thread `xenwatch` (XW-base-6, XW-base-8, XW-base-13). */

import { done, type Task } from '../kernel/index.js'
import type { Delivery, DeliveryHost } from './delivery.js'
import type { EventThread } from './event_thread.js'
import type { XenbusWatch, XsWatchEvent } from './watch.js'

/** One thread. */
export class SingleDelivery implements Delivery {
  readonly design: string = 'single'
  readonly domainLists: readonly EventThread[] = Object.freeze([])
  readonly #host: DeliveryHost

  constructor(host: DeliveryHost) {
    this.#host = host
  }

  enqueue(event: XsWatchEvent): EventThread {
    const { xenwatch } = this.#host
    xenwatch.add(event)
    return xenwatch
  }

  route(_event: XsWatchEvent): EventThread | undefined {
    return undefined
  }

  /** Takes the mutex, and so waits for the running callback of any owner, unless it is called from one. */
  *purge(watch: XenbusWatch): Task {
    const { kernel, xenwatch } = this.#host
    const inCallback = kernel.scheduler.current === xenwatch.thread
    if (!inCallback) yield* xenwatch.mutex.lock()
    xenwatch.purge(watch)
    if (!inCallback) xenwatch.mutex.unlock()
  }

  callbackReturned(): void {}

  get(): undefined {
    return undefined
  }

  put(): void {}

  start(): Task {
    return done(undefined)
  }

  stop(): Task {
    return done(undefined)
  }
}
