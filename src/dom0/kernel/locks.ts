/** Sleeping locks: the mutex, and the semaphore of one writer or many readers. First come, first served. */

import type { Scheduler } from './scheduler.js'
import type { Task } from './task.js'
import { recordOf, type Thread } from './thread.js'
import { WaitQueue } from './wait_queue.js'

/** One thread at a time. Not recursive. */
export class Mutex {
  readonly name: string
  readonly #scheduler: Scheduler
  readonly #queue: WaitQueue
  readonly #turns: Thread[] = []
  #owner: Thread | undefined

  constructor(scheduler: Scheduler, name: string) {
    this.name = name
    this.#scheduler = scheduler
    this.#queue = new WaitQueue(scheduler)
  }

  /** Who has it; undefined if nobody has. */
  get owner(): Thread | undefined {
    return this.#owner
  }

  /** Takes it; waits in D. @throws DeadlockError if its owner waits for the caller. */
  *lock(): Task {
    const thread = this.#scheduler.running
    yield* this.#scheduler.preemptionPoint()
    if (this.#owner === undefined && !this.#turns.length) {
      this.#owner = thread
      return
    }
    this.#turns.push(thread)
    const { frames } = recordOf(thread)
    frames.push('mutex_lock')
    try {
      yield* this.#queue.until(() => this.#owner === undefined && this.#turns[0] === thread, {
        what: this.name,
        on: () => (this.#owner ? [this.#owner] : []),
      })
      this.#owner = thread
    } finally {
      frames.pop()
      this.#turns.splice(this.#turns.indexOf(thread), 1)
    }
  }

  /** Gives it back. @throws Error if the caller does not have it. */
  unlock(): void {
    if (this.#owner !== this.#scheduler.running) throw new Error(`${this.name} is unlocked by who does not hold it`)
    this.#owner = undefined
    this.#queue.wakeAll()
  }
}

/** Many readers or one writer; a waiting writer holds off new readers. */
export class RwSemaphore {
  readonly name: string
  readonly #queue: WaitQueue
  #readers = 0
  #writer = false
  #writersWaiting = 0

  constructor(scheduler: Scheduler, name: string) {
    this.name = name
    this.#queue = new WaitQueue(scheduler)
  }

  *downRead(): Task {
    yield* this.#queue.until(() => !this.#writer && !this.#writersWaiting, { what: this.name })
    this.#readers++
  }

  upRead(): void {
    this.#readers--
    this.#queue.wakeAll()
  }

  *downWrite(): Task {
    this.#writersWaiting++
    try {
      yield* this.#queue.until(() => !this.#writer && !this.#readers, { what: this.name })
      this.#writer = true
    } finally {
      this.#writersWaiting--
    }
  }

  upWrite(): void {
    this.#writer = false
    this.#queue.wakeAll()
  }
}
