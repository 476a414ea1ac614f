/**
 * A list of events and the thread that runs their callbacks, one after the other: `xenwatch`, and each
 * `xen-mtwatch-<domid>` (XW-base-6, XW-thr-2).
 *
 *     add ──▶ events ──pop──▶ forwarded to another list           (only `xenwatch`, in the designs of April and June)
 *                        └──▶ current: callback, under the mutex
 *
 * Adding, popping, forwarding and purging never sleep: they are what Linux does under watch_events_lock.
 */

import type { Callouts } from '../../callout.js'
import { Queue } from '../../queue.js'
import { DeadlockError, type Kernel, type Mutex, type Task, type Thread, type WaitQueue } from '../kernel/index.js'
import { watchRecord, type XenbusWatch, type XsWatchEvent } from './watch.js'

/** What happens to events and threads; each is optional. For tests, figures and timelines. */
export interface DeliveryObserver {
  /** It was queued on its first list. */
  arrived?(event: XsWatchEvent, list: EventThread): void
  /** It is not wanted (`will_handle`) or its watch is gone; then `watch` is undefined. */
  dropped?(watch: XenbusWatch | undefined, path: string): void
  moved?(event: XsWatchEvent, from: EventThread, to: EventThread): void
  started?(event: XsWatchEvent, list: EventThread): void
  finished?(event: XsWatchEvent, list: EventThread): void
  purged?(event: XsWatchEvent, list: EventThread): void
  /** A domain's thread began, was told to go, or has ended. */
  threadUp?(list: EventThread): void
  threadDown?(list: EventThread): void
  threadEnded?(list: EventThread): void
}

/** Where mistakes are reported: programming errors of subscribers, and deadlocks (XW-life-6, XW-unreg-5). */
export type Report = (problem: string) => void

/** UP accepts events, DOWN does not (XW-life-1). */
export type ListState = 'up' | 'down'

/** What an event list needs of its surroundings. */
export interface EventThreadOptions {
  readonly kernel: Kernel
  readonly callouts: Callouts
  /** 0: the default thread. */
  readonly domid: number
  readonly name: string
  /** The thread's function, for its call stack. */
  readonly fn: string
  readonly observer: DeliveryObserver
  readonly report: Report
  /** Called each time that a callback has returned. */
  readonly onFinished: () => void
  /** Where an event goes instead; asked when it is popped. Default: nowhere else. */
  readonly route?: (event: XsWatchEvent) => EventThread | undefined
  /** Called once, when it is DOWN and its list is empty. */
  readonly onDrained?: (list: EventThread) => void
}

/** One list and its thread. */
export class EventThread {
  readonly domid: number
  readonly name: string
  readonly mutex: Mutex
  readonly thread: Thread
  readonly #options: EventThreadOptions
  readonly #wait: WaitQueue
  readonly #events = new Queue<XsWatchEvent>()
  #state: ListState = 'up'
  #current: XsWatchEvent | undefined
  #held: (() => boolean) | undefined
  #drained = false

  constructor(options: EventThreadOptions) {
    const { kernel, domid, name, fn } = options
    this.#options = options
    this.domid = domid
    this.name = name
    this.#wait = kernel.waitQueue()
    this.mutex = kernel.mutex(domid ? `mutex of ${name}` : 'xenwatch_mutex')
    this.thread = kernel.kthreadRun(name, fn, () => this.#loop())
  }

  /** Does it accept events? */
  get state(): ListState {
    return this.#state
  }

  /** It was DOWN with an empty list: its thread has left the loop, and would never see another event. */
  get drained(): boolean {
    return this.#drained
  }

  /** The event whose callback runs; undefined if none does. */
  get current(): XsWatchEvent | undefined {
    return this.#current
  }

  /** Queued events, oldest first. */
  get events(): readonly XsWatchEvent[] {
    return [...this.#events]
  }

  get length(): number {
    return this.#events.length
  }

  add(event: XsWatchEvent): void {
    this.#events.push(event)
    this.#wait.wakeAll()
  }

  /** Holds the thread off as long as `held` returns true. Whoever changes that calls `wake`. */
  holdWhile(held: () => boolean): void {
    this.#held = held
  }

  /** Is it held off now? */
  get held(): boolean {
    return this.#held?.() ?? false
  }

  /** The thread looks again whether it may run. */
  wake(): void {
    this.#wait.wakeAll()
  }

  /** Takes out the events for which `goes` holds, in their order. */
  extract(goes: (event: XsWatchEvent) => boolean): XsWatchEvent[] {
    return this.#events.extract(goes)
  }

  /** Removes the events of a watch. */
  purge(watch: XenbusWatch): void {
    if (!this.length) return
    for (const event of this.extract((each) => each.watch === watch)) {
      watchRecord(watch).nrPending--
      this.#options.observer.purged?.(event, this)
    }
  }

  /** Accepts no more events; ends when those that it has are done (XW-life-2). */
  down(): void {
    this.#state = 'down'
    this.wake()
  }

  *#loop(): Task {
    for (;;) {
      yield* this.#wait.until(() => (this.length > 0 || this.#state === 'down') && !this.held, {
        state: 'S',
        what: 'watch events',
      })
      if (!this.length) break
      yield* this.mutex.lock()
      try {
        yield* this.#handle()
      } finally {
        this.mutex.unlock()
      }
      yield* this.#options.kernel.scheduler.preemptionPoint()
    }
    this.#drained = true
    this.#options.onDrained?.(this)
  }

  *#handle(): Task {
    const event = this.#events.shift()
    if (!event) return
    const { observer, report, onFinished, callouts } = this.#options
    const other = this.#options.route?.(event)
    if (other) {
      observer.moved?.(event, this, other)
      other.add(event)
      return
    }
    const { watch, path, token } = event
    watchRecord(watch).nrPending--
    this.#current = event
    observer.started?.(event, this)
    try {
      yield* watch.callback(watch, path, token)
    } catch (error) {
      if (error instanceof DeadlockError) report(error.message)
      else {
        report(`the callback for ${path} failed: ${error instanceof Error ? error.message : String(error)}`)
        callouts.report(error, `callback of ${watch.node}`)
      }
    } finally {
      this.#current = undefined
      observer.finished?.(event, this)
      onFinished()
    }
  }
}
