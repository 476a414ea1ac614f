/** xenbus and a store alone, in which a test plays toolstack, guests and backends. */

import { StoreHost, type StoreHostOptions } from '../../src/dom0/host/store_host.js'
import type { Task } from '../../src/dom0/kernel/index.js'
import {
  type Design,
  type EventThread,
  MTWATCH_NODE,
  type ThreadReference,
  XenbusWatch,
} from '../../src/dom0/xenbus/index.js'
import { EventTrace } from './lab.js'

/** A door that callbacks may be held at. */
export class Gate {
  #open = true
  readonly #host: StoreHost
  readonly #queue

  constructor(host: StoreHost) {
    this.#host = host
    this.#queue = host.kernel.waitQueue()
  }

  shut(): void {
    this.#open = false
  }

  open(): void {
    this.#open = true
    this.#queue.wakeAll()
    this.#host.run()
  }

  *pass(): Task {
    yield* this.#queue.until(() => this.#open, { what: 'the gate' })
  }
}

/** A host of a design, and how domains' threads come and go in it. */
export class SmallLab {
  readonly design: Design
  readonly trace = new EventTrace()
  readonly host: StoreHost
  /** Runs of callbacks: `thread path`. */
  readonly ran: string[] = []
  readonly #references = new Map<number, ThreadReference>()

  constructor(design: Design, options: StoreHostOptions = {}) {
    this.design = design
    this.host = new StoreHost({ xenMtwatch: true, design, observer: this.trace.observer, ...options })
    this.host.complete(this.host.xenbus.start())
  }

  /** A domain appears; with its thread, if the design has threads. */
  up(domid: number): void {
    const { host, design } = this
    if (design === 'rfc') host.write(`${MTWATCH_NODE}/${domid}`)
    if (design === 'talk') {
      host.write(`/local/domain/${domid}`)
      host.introduce(domid)
    }
    if (design === 'on-demand') this.#references.set(domid, host.xenbus.delivery.get(domid))
    host.run()
  }

  /** It goes again. */
  down(domid: number): void {
    const { host, design } = this
    if (design === 'rfc') host.rm(`${MTWATCH_NODE}/${domid}`)
    if (design === 'talk') {
      host.rm(`/local/domain/${domid}`)
      host.release(domid)
    }
    if (design === 'on-demand') host.xenbus.delivery.put(this.#references.get(domid)!)
    host.run()
  }

  /** The lists of a domain, those that go down included. */
  lists(domid: number): EventThread[] {
    return this.host.xenbus.delivery.domainLists.filter((list) => list.domid === domid)
  }

  /** Which thread runs now. */
  get thread(): string {
    return this.host.scheduler.running.name
  }

  /** A watch about one domain. */
  domainWatch(domid: number, name: string, body: (path: string) => Task = nothing): XenbusWatch {
    return this.#watch(`/w/${domid}/${name}`, body, () => domid, domid)
  }

  /** A watch about many: the third component of the path is the domid, as below `backend`. */
  sharedWatch(body: (path: string) => Task = nothing): XenbusWatch {
    return this.#watch('/shared', body, (path) => Number(/^\/shared\/([1-9]\d*)\//.exec(path)?.[1] ?? 0), 0)
  }

  /** A watch without get_domid. */
  plainWatch(name: string, body: (path: string) => Task = nothing): XenbusWatch {
    return this.#watch(`/plain/${name}`, body, undefined, 0)
  }

  #watch(node: string, body: (path: string) => Task, domid: ((path: string) => number) | undefined, owner: number) {
    const lab = this
    return new XenbusWatch({
      node,
      *callback(_watch, path) {
        lab.ran.push(`${lab.thread} ${path}`)
        yield* body(path)
      },
      ...(domid && { getDomid: (_watch, path) => domid(path) }),
      ...(owner && { getOwner: () => owner }),
    })
  }

  /** Registers a watch, lets its first event run, and forgets that it did. */
  register(...watches: XenbusWatch[]): void {
    for (const watch of watches) this.host.complete(this.host.xenbus.register(watch, 'domain'))
    this.ran.length = 0
    this.trace.clear()
  }

  unregister(watch: XenbusWatch): void {
    this.host.complete(this.host.xenbus.unregister(watch))
  }
}

/** A callback that does nothing. */
function* nothing(): Task {}
