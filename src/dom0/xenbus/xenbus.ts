/**
 * A kernel's xenbus: its requests to the store, its watches, suspend and resume (XW-base-1 to XW-base-13).
 *
 * Threads: `xenbus` moves bytes, `xenwatch` runs callbacks, and the design in force may add `xen-mtwatch-<domid>`. Which
 * design is the kernel parameter `xen_mtwatch`; without it there is the one thread, as in Linux.
 */

import type { Callouts } from '../../callout.js'
import { options as checkOptions, flag, having, instance, type Table } from '../../check.js'
import { type RingPeer, XenStoreError, XS } from '../../xenstore/index.js'
import { calloutsOf, Kernel, type RwSemaphore, type Task, type WaitQueue } from '../kernel/index.js'
import { XenbusComms } from './comms.js'
import type { Delivery, DeliveryHost, Design, DesignMaker } from './delivery.js'
import { checkDesign, makeDelivery } from './designs.js'
import { type DeliveryObserver, EventThread } from './event_thread.js'
import { sealedObserver, wanted } from './sealed.js'
import { StoreTasks, type TransactionId } from './store_tasks.js'
import { type ThreadChoice, watchRecord, type XenbusWatch } from './watch.js'

/** Options of a kernel's xenbus. */
export interface XenbusOptions {
  readonly kernel: Kernel
  /** The ring and event channel to the store. */
  readonly peer: RingPeer
  /** The kernel parameter. Default false: one thread, whatever `design` says. */
  readonly xenMtwatch?: boolean
  /** Which of the multithreaded designs `xen_mtwatch` switches on, or an own one. Default 'on-demand'. */
  readonly design?: Design | DesignMaker
  /** Told what becomes of each event. */
  readonly observer?: DeliveryObserver
}

const OPTIONS: Table<XenbusOptions> = {
  kernel: instance(Kernel, 'a Kernel'),
  peer: having('page', 'close'),
  xenMtwatch: flag,
  design: checkDesign,
  observer: having(),
}

/** Where tokens begin: they stand for the addresses of watch structures (XW-base-7). */
const FIRST_TOKEN = 0xffff_8880
const TOKEN_STEP = 0x40

/** The client of the store in a kernel. */
export class Xenbus extends StoreTasks {
  readonly kernel: Kernel
  readonly comms: XenbusComms
  readonly xenwatch: EventThread
  readonly #reports: string[] = []
  readonly #callouts: Callouts
  readonly #observer: DeliveryObserver
  readonly #host: DeliveryHost
  readonly #watches = new Map<string, XenbusWatch>()
  readonly #watchSemaphore: RwSemaphore
  readonly #state: WaitQueue
  #delivery: Delivery
  #users = 0
  #suspended = false
  #lastToken = FIRST_TOKEN
  #arrived = 0

  /** @throws ParameterError for an option that is unknown or of the wrong type. */
  constructor(options: XenbusOptions) {
    super()
    checkOptions('Xenbus', options, OPTIONS)
    const { kernel } = options
    this.kernel = kernel
    this.#callouts = calloutsOf(kernel.scheduler)
    this.#observer = sealedObserver(options.observer ?? {}, this.#callouts)
    this.#watchSemaphore = kernel.rwSemaphore('xs_watch_rwsem')
    this.#state = kernel.waitQueue()
    this.comms = new XenbusComms(kernel, options.peer, (path, token) => this.#watchMessage(path, token))
    const report = (problem: string) => void this.#reports.push(problem)
    this.xenwatch = new EventThread({
      kernel,
      callouts: this.#callouts,
      domid: 0,
      name: 'xenwatch',
      fn: 'xenwatch_thread',
      observer: this.#observer,
      report,
      onFinished: () => this.#delivery.callbackReturned(),
      route: (event) => this.#delivery.route(event),
    })
    this.#host = {
      kernel,
      store: this,
      xenwatch: this.xenwatch,
      observer: this.#observer,
      report,
      finished: kernel.waitQueue(),
      register: (watch, choice) => this.register(watch, choice),
      unregister: (watch) => this.unregister(watch),
    }
    this.#delivery = makeDelivery(
      options.xenMtwatch ? (options.design ?? 'on-demand') : 'single',
      this.#host,
      this.#callouts,
    )
  }

  /** Programming errors of subscribers, deadlocks, requests that failed where nothing could be done: in order. */
  get reports(): readonly string[] {
    return [...this.#reports]
  }

  /** The design in force. */
  get delivery(): Delivery {
    return this.#delivery
  }

  /** Registers what the design needs. Before anyone else registers watches. */
  start(): Task {
    return this.#delivery.start()
  }

  /** Changes the design. @throws Error while a domain thread is alive (XW-life-8). */
  *switchTo(design: Design | DesignMaker): Task {
    yield* this.#delivery.stop()
    this.#delivery = makeDelivery(design, this.#host, this.#callouts)
    yield* this.#delivery.start()
  }

  // --- requests ------------------------------------------------------------------------------------------------------

  *#enter(): Task {
    yield* this.#state.until(() => !this.#suspended, { what: 'the end of the suspend' })
    this.#users++
  }

  #leave(): void {
    this.#users--
    this.#state.wakeAll()
  }

  *request(type: number, body: string, tx: TransactionId = 0): Task<Uint8Array> {
    // A transaction has entered at its start, and leaves at its end.
    if (tx) return yield* this.comms.talk(type, body, tx)
    yield* this.#enter()
    try {
      return yield* this.comms.talk(type, body, 0)
    } finally {
      this.#leave()
    }
  }

  /** Counts as open from its start to its end, so that a suspend does not cut it (XW-base-10). */
  override *startTransaction(): Task<TransactionId> {
    yield* this.#enter()
    try {
      const tx = yield* super.startTransaction()
      this.#users++
      return tx
    } finally {
      this.#leave()
    }
  }

  override *endTransaction(tx: TransactionId, commit: boolean): Task<boolean> {
    try {
      return yield* super.endTransaction(tx, commit)
    } finally {
      this.#leave()
    }
  }

  // --- watches -------------------------------------------------------------------------------------------------------

  /** Registered watches, in order of registration. */
  get watches(): readonly XenbusWatch[] {
    return [...this.#watches.values()]
  }

  /** register_xenbus_watch (XW-base-7). @throws XenStoreError if the daemon refuses; the watch is unlinked then. */
  *register(watch: XenbusWatch, choice: ThreadChoice = 'default'): Task {
    if (watch.token && this.#watches.has(watch.token))
      throw new Error(`the watch on ${watch.node} is registered already`)
    this.#lastToken += TOKEN_STEP
    Object.assign(watchRecord(watch), { token: this.#lastToken.toString(16), nrPending: 0, choice })
    yield* this.#enter()
    yield* this.#watchSemaphore.downRead()
    // First: the initial event must find it.
    this.#watches.set(watch.token, watch)
    try {
      yield* this.comms.talk(XS.WATCH, `${watch.node}\0${watch.token}\0`, 0)
    } catch (error) {
      this.#watches.delete(watch.token)
      yield* this.#delivery.purge(watch)
      throw error
    } finally {
      this.#watchSemaphore.upRead()
      this.#leave()
    }
  }

  /** unregister_xenbus_watch (XW-base-8, XW-unreg). When it returns, the watch may be forgotten (XW-unreg-4). */
  *unregister(watch: XenbusWatch): Task {
    if (!this.#watches.has(watch.token)) return
    yield* this.#enter()
    yield* this.#watchSemaphore.downRead()
    this.#watches.delete(watch.token)
    try {
      yield* this.comms.talk(XS.UNWATCH, `${watch.node}\0${watch.token}\0`, 0)
    } catch (error) {
      if (!(error instanceof XenStoreError)) throw error
      this.#reports.push(`failed to release the watch on ${watch.node}: ${error.code}`)
    } finally {
      this.#watchSemaphore.upRead()
      this.#leave()
    }
    yield* this.#delivery.purge(watch)
  }

  /** xs_watch_msg, in the thread `xenbus` (XW-base-5). */
  #watchMessage(path: string, token: string): void {
    const watch = this.#watches.get(token)
    if (!watch || !wanted(this.#callouts, watch, path, token)) {
      this.#observer.dropped?.(watch, path)
      return
    }
    const event = { watch, path, token, seq: ++this.#arrived }
    watchRecord(watch).nrPending++
    const list = this.#delivery.enqueue(event)
    this.#observer.arrived?.(event, list)
  }

  // --- suspend -------------------------------------------------------------------------------------------------------

  /** Blocks new requests, waits for open ones and for a packet boundary, and holds off the watches (XW-base-10). */
  *suspend(): Task {
    this.#suspended = true
    yield* this.#state.until(() => this.#users === 0, { what: 'open requests' })
    yield* this.comms.responseMutex.lock()
    yield* this.#watchSemaphore.downWrite()
  }

  /** After a suspend that did not happen. By the thread that suspended. */
  cancelSuspend(): void {
    this.#watchSemaphore.upWrite()
    this.comms.responseMutex.unlock()
    this.#suspended = false
    this.#state.wakeAll()
  }

  /** On the new host: with the ring as it is there, and every watch set again under its old token (XS-linux-3). */
  *resume(peer?: RingPeer): Task {
    this.comms.reinitialise(peer)
    this.comms.responseMutex.unlock()
    for (const watch of this.watches) yield* this.#rewatch(watch)
    this.#watchSemaphore.upWrite()
    this.#suspended = false
    this.#state.wakeAll()
  }

  /** A daemon that still has the watch replies EEXIST: nothing was lost. */
  *#rewatch({ node, token }: XenbusWatch): Task {
    try {
      yield* this.comms.talk(XS.WATCH, `${node}\0${token}\0`, 0)
    } catch (error) {
      if (!(error instanceof XenStoreError)) throw error
      if (error.code !== 'EEXIST') this.#reports.push(`failed to set the watch on ${node} again: ${error.code}`)
    }
  }
}
