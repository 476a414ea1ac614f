/** Counts what becomes of events, and keeps who was in which state when: the figures and the timeline of a run. */

import type { Thread, ThreadState } from '../dom0/kernel/index.js'
import type { DeliveryObserver } from '../dom0/xenbus/index.js'

/** What became of watch events, and of threads. */
export interface EventCounts {
  /** Queued on a list. */
  arrived: number
  /** Their callback ran to its end. */
  handled: number
  /** Forwarded from the default list to a domain's. */
  moved: number
  /** Not wanted on arrival, or their watch was gone. */
  dropped: number
  /** Removed because their watch was unregistered. */
  purged: number
  threadsMade: number
  threadsEnded: number
}

/** From when on a thread was in a state. */
export interface StateChange {
  readonly ns: number
  readonly state: ThreadState
}

/** A thread's life. */
export interface ThreadTrack {
  readonly pid: number
  readonly name: string
  readonly changes: StateChange[]
}

/** Watches a host of dom0. */
export class Recorder {
  readonly counts: EventCounts = {
    arrived: 0,
    handled: 0,
    moved: 0,
    dropped: 0,
    purged: 0,
    threadsMade: 0,
    threadsEnded: 0,
  }
  readonly observer: DeliveryObserver = {
    arrived: () => void this.counts.arrived++,
    finished: () => void this.counts.handled++,
    moved: () => void this.counts.moved++,
    dropped: () => void this.counts.dropped++,
    purged: () => void this.counts.purged++,
    threadUp: () => void this.counts.threadsMade++,
    threadEnded: () => void this.counts.threadsEnded++,
  }
  readonly #tracks = new Map<Thread, ThreadTrack>()
  readonly #nowNs: () => number

  /** `nowNs`: the clock of the scheduler. */
  constructor(nowNs: () => number) {
    this.#nowNs = nowNs
  }

  /** For the scheduler's `onState`: dom0's threads only. */
  readonly onState = (thread: Thread, state: ThreadState): void => {
    if (thread.owner.name !== 'd0') return
    let track = this.#tracks.get(thread)
    if (!track) {
      track = { pid: thread.pid, name: thread.name, changes: [] }
      this.#tracks.set(thread, track)
    }
    const { changes } = track
    const ns = this.#nowNs()
    const last = changes.at(-1)
    // A turn on the processor takes no simulated time: it is kept once for each moment.
    if (last && last.ns === ns && last.state === state) return
    if (changes.length > 1 && last!.ns === ns && changes.at(-2)!.ns === ns && changes.at(-2)!.state === state) return
    changes.push({ ns, state })
  }

  /** Threads in the order in which they began. */
  get tracks(): ThreadTrack[] {
    return [...this.#tracks.values()]
  }
}
