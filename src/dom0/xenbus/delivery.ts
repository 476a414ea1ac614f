/**
 * Who runs the callback of an event: the small interface behind which the designs stand (xenwatch.md section 6).
 *
 * All of them have the default list and its thread `xenwatch`. A design says which list an event joins on arrival, where it goes
 * when the default thread pops it, and what unregistering a watch must wait for.
 */

import type { Kernel, Task, WaitQueue } from '../kernel/index.js'
import type { DeliveryObserver, EventThread, Report } from './event_thread.js'
import type { StoreTasks } from './store_tasks.js'
import type { ThreadChoice, XenbusWatch, XsWatchEvent } from './watch.js'

/** `single` as in Linux; `rfc`: April 2018; `talk`: the summit's talk; `on-demand`: its design session. */
export const DESIGNS = ['single', 'rfc', 'talk', 'on-demand'] as const
/** Name of a design. */
export type Design = (typeof DESIGNS)[number]

/**
 * Makes a user's own design: once for each kernel's xenbus, and again at each switch to it. What a function of its delivery
 * throws is reported, and counts as if the design had not been asked: the event goes to the default thread.
 */
export type DesignMaker = (host: DeliveryHost) => Delivery

/** What a design works with. */
export interface DeliveryHost {
  readonly kernel: Kernel
  readonly store: StoreTasks
  /** The default list. */
  readonly xenwatch: EventThread
  readonly observer: DeliveryObserver
  readonly report: Report
  /** Woken each time that a callback of any thread has returned. */
  readonly finished: WaitQueue
  register(watch: XenbusWatch, choice?: ThreadChoice): Task
  unregister(watch: XenbusWatch): Task
}

/** A domain's use of its thread, from get() to put(); undefined where a design does not count. */
export type ThreadReference = EventThread | undefined

/** A way of delivering events. */
export interface Delivery {
  /** Name of the design; a user's own has any. */
  readonly design: string
  /** Lists of domains, those that are going down included. */
  readonly domainLists: readonly EventThread[]
  /** xs_watch_msg: puts an event on its first list and returns that list. Must not sleep. */
  enqueue(event: XsWatchEvent): EventThread
  /** Where the default thread forwards an event to; undefined: it runs it. */
  route(event: XsWatchEvent): EventThread | undefined
  /** Unregistering, when no new event can come: removes what is queued and waits for what runs. */
  purge(watch: XenbusWatch): Task
  /** A callback has returned, in any thread. */
  callbackReturned(): void
  /** A component uses the thread of a domain: makes it if need be (XW-ds-2). */
  get(domid: number): ThreadReference
  /** Gives that use back. */
  put(reference: ThreadReference): void
  /** Registers the watches that the design itself needs. */
  start(): Task
  /** Takes them back. @throws Error if a domain thread is alive (XW-life-8). */
  stop(): Task
}
