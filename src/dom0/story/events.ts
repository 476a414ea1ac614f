/** What happens in a story, with its time: steps, stalls, threads, and watch events. */

import type { Thread, ThreadState } from '../kernel/index.js'
import type { DeliveryObserver } from '../xenbus/index.js'

/** Kinds of events. */
export type StoryEventKind =
  | 'step begins'
  | 'step ends'
  | 'stalls'
  | 'goes on'
  | 'thread up'
  | 'thread down'
  | 'thread ended'
  | 'watch queued'
  | 'watch moved'
  | 'watch dropped'
  | 'watch purged'
  | 'callback begins'
  | 'callback ends'
  | 'release'

/** One event. */
export interface StoryEvent {
  /** Simulated time in ns. */
  readonly ns: number
  readonly kind: StoryEventKind
  /** The thread or list that it is about; a guest's has its domain in front: `domain 1: xenwatch`. Empty: nobody's. */
  readonly who: string
  /** A step's name, a path or what is waited for. */
  readonly what: string
}

/** Name of a thread: those of guests have their domain in front. */
export const nameOf = ({ owner, name }: Thread): string =>
  owner.name === 'd0' ? name : `domain ${owner.name.slice(1)}: ${name}`

/** Keeps events, in order. */
export class StoryLog {
  readonly #events: StoryEvent[] = []
  readonly #nowNs: () => number
  /** Threads in D: since when, and what for. */
  readonly #inD = new Map<Thread, Wait>()

  constructor(nowNs: () => number) {
    this.#nowNs = nowNs
  }

  /** By time: how long a stall was is known only when it ends. */
  get events(): StoryEvent[] {
    for (const thread of [...this.#inD.keys()]) this.#settle(thread)
    return [...this.#events].sort((a, b) => a.ns - b.ns)
  }

  add(kind: StoryEventKind, who: string, what: string): void {
    this.#events.push({ ns: this.#nowNs(), kind, who, what })
  }

  /** For the host: what becomes of watch events, and of domains' threads. */
  readonly observer: DeliveryObserver = {
    arrived: ({ path }, { name }) => this.add('watch queued', name, path),
    moved: ({ path }, _from, { name }) => this.add('watch moved', name, path),
    dropped: (_watch, path) => this.add('watch dropped', '', path),
    purged: ({ path }, { name }) => this.add('watch purged', name, path),
    started: ({ path }, { name }) => this.add('callback begins', name, path),
    finished: ({ path }, { name }) => this.add('callback ends', name, path),
    threadUp: ({ name }) => this.add('thread up', name, ''),
    threadDown: ({ name }) => this.add('thread down', name, ''),
    threadEnded: ({ name }) => this.add('thread ended', name, ''),
  }

  /**
   * A wait in D that ends within the same moment is a reply of the store, and no stall: it is not kept. A thread that is
   * woken, looks, and waits for the same again has not gone on.
   */
  onState(thread: Thread, state: ThreadState): void {
    const ns = this.#nowNs()
    const wait = this.#inD.get(thread)
    if (state !== 'D') {
      if (wait) wait.toNs ??= ns
      return
    }
    const what = thread.waiting?.what ?? ''
    if (wait?.toNs === ns && wait.what === what) wait.toNs = undefined
    else {
      this.#settle(thread)
      this.#inD.set(thread, { ns, what, toNs: undefined })
    }
  }

  /** A wait that is over becomes two events. */
  #settle(thread: Thread): void {
    const wait = this.#inD.get(thread)
    if (wait?.toNs === undefined) return
    this.#inD.delete(thread)
    if (wait.toNs === wait.ns) return
    const who = nameOf(thread)
    this.#events.push({ ns: wait.ns, kind: 'stalls', who, what: wait.what })
    this.#events.push({ ns: wait.toNs, kind: 'goes on', who, what: wait.what })
  }
}

/** A thread's wait in D. */
interface Wait {
  readonly ns: number
  readonly what: string
  toNs: number | undefined
}
