/**
 * What the multithreaded designs share: the table of domain threads, their life, and unregistering across all lists
 * (XW-thr, XW-unreg, XW-life).
 *
 *            create              down                 list empty            worker
 *     (none) ──────▶ UP, hashed ──────▶ DOWN, unhashed ──────────▶ ended ──────────▶ (none)
 *
 * At most one UP object per domid is found by its domid; objects that go down stay listed until they are done, so an old
 * and a new one of the same domid may exist. A thread cannot wait for its own end: a worker reaps it.
 */

import { calloutsOf, type Task } from '../kernel/index.js'
import type { Delivery, DeliveryHost, ThreadReference } from './delivery.js'
import { EventThread } from './event_thread.js'
import { domidOf, ownerOf } from './sealed.js'
import type { XenbusWatch, XsWatchEvent } from './watch.js'

/** Threads by domain. */
export abstract class MtwatchDelivery implements Delivery {
  abstract readonly design: string
  protected readonly host: DeliveryHost
  readonly #up = new Map<number, EventThread>()
  readonly #all = new Set<EventThread>()

  constructor(host: DeliveryHost) {
    this.host = host
  }

  abstract enqueue(event: XsWatchEvent): EventThread
  abstract route(event: XsWatchEvent): EventThread | undefined
  abstract start(): Task
  protected abstract stopWatching(): Task

  get domainLists(): readonly EventThread[] {
    return [...this.#all]
  }

  /** Domains with a thread that accepts events. */
  protected get domids(): number[] {
    return [...this.#up.keys()]
  }

  /** The thread that accepts events for a domain. */
  protected up(domid: number): EventThread | undefined {
    return this.#up.get(domid)
  }

  /** The list of the domain that an event is about; undefined: the default list (XW-thr-3). */
  protected listOf(event: XsWatchEvent): EventThread | undefined {
    const domid = domidOf(calloutsOf(this.host.kernel.scheduler), event)
    return (domid > 0 && this.serves(domid)) || undefined
  }

  /** The list that takes a domain's events. Default: that which is UP. */
  protected serves(domid: number): EventThread | undefined {
    return this.#up.get(domid)
  }

  /** The last thread of a domain that was told to go and still runs events. */
  protected draining(domid: number): EventThread | undefined {
    return [...this.#all].filter((list) => list.domid === domid && list.state === 'down' && !list.drained).at(-1)
  }

  /** Makes a domain's thread. */
  protected create(domid: number): EventThread {
    const { kernel, observer, report } = this.host
    const list = new EventThread({
      kernel,
      callouts: calloutsOf(kernel.scheduler),
      domid,
      name: `xen-mtwatch-${domid}`,
      fn: 'mtwatch_thread',
      observer,
      report,
      onFinished: () => this.callbackReturned(),
      onDrained: (drained) => kernel.scheduleWork(() => this.#reap(drained)),
    })
    this.#up.set(domid, list)
    this.#all.add(list)
    observer.threadUp?.(list)
    return list
  }

  callbackReturned(): void {
    this.host.finished.wakeAll()
  }

  /** Takes a domain's thread out of service. It ends by itself; nobody waits for it (XW-life-3). */
  protected retire(domid: number): void {
    const list = this.#up.get(domid)
    if (!list) return
    this.#up.delete(domid)
    this.host.observer.threadDown?.(list)
    list.down()
  }

  *#reap(list: EventThread): Task {
    yield* this.host.kernel.kthreadStop(list.thread)
    this.#all.delete(list)
    this.host.observer.threadEnded?.(list)
  }

  /** XW-unreg-1 to XW-unreg-4. */
  *purge(watch: XenbusWatch): Task {
    const { kernel, xenwatch, finished } = this.host
    const owner = ownerOf(calloutsOf(kernel.scheduler), watch)
    const lists = [xenwatch, ...[...this.#all].filter((list) => !owner || list.domid === owner)]
    for (const list of lists) list.purge(watch)
    const self = kernel.scheduler.current
    const runners = () =>
      lists.filter((list) => list.current?.watch === watch && list.thread !== self).map((list) => list.thread)
    yield* kernel.call(
      'unregister_xenbus_watch',
      finished.until(() => runners().length === 0, { what: `the callback for ${watch.node} to return`, on: runners }),
    )
  }

  get(_domid: number): ThreadReference {
    return undefined
  }

  put(_reference: ThreadReference): void {}

  *stop(): Task {
    if (this.#all.size)
      throw new Error(`xen_mtwatch: ${[...this.#all].map((list) => list.name).join(', ')} must end first`)
    yield* this.stopWatching()
  }
}
