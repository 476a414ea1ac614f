/** Wait queues: threads that sleep until a condition holds; whoever changes it wakes them to look again. */

import { among, between, options as checkOptions, func, type Table, text } from '../../check.js'
import type { Scheduler } from './scheduler.js'
import type { Task } from './task.js'
import type { Thread } from './thread.js'

/** How to wait. */
export interface WaitOptions {
  /** S or D. Default 'D', as wait_event; 'S' is wait_event_interruptible. */
  state?: 'S' | 'D'
  /** What for, in words. */
  what?: string
  /** The threads that it waits for, if it waits for threads. */
  on?: () => Iterable<Thread>
  /** Gives up after this time. Default never. */
  timeoutNs?: number
}

const OPTIONS: Table<WaitOptions> = {
  state: among('S', 'D'),
  what: text,
  on: func,
  timeoutNs: between(0, Number.MAX_VALUE),
}

/** Threads waiting for something. */
export class WaitQueue {
  readonly #scheduler: Scheduler
  readonly #waiters = new Set<Thread>()

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler
  }

  /** Wakes everyone. May be called from interrupts. */
  wakeAll(): void {
    for (const thread of this.#waiters) this.#scheduler.wake(thread)
  }

  /** Sleeps until `holds`; true, or false if the time was over first. @throws ParameterError */
  *until(holds: () => boolean, options: WaitOptions = {}): Task<boolean> {
    if (holds()) return true
    const scheduler = this.#scheduler
    const thread = scheduler.running
    const { state = 'D', what = 'an event', on, timeoutNs } = checkOptions('until', options, OPTIONS)
    const deadline = timeoutNs === undefined ? Number.POSITIVE_INFINITY : scheduler.nowNs + timeoutNs
    const timer = timeoutNs === undefined ? undefined : scheduler.setTimer(deadline, () => scheduler.wake(thread))
    try {
      do {
        if (scheduler.nowNs >= deadline) return false
        this.#waiters.add(thread)
        yield* scheduler.sleep(state, { what, on })
      } while (!holds())
      return true
    } finally {
      this.#waiters.delete(thread)
      timer?.cancel()
    }
  }
}
