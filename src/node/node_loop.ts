/**
 * Runs a host's threads in Node's event loop, with real sockets around them: whenever something happened, and when a timer
 * of the host's is due. The host's own clock stands still between turns and is moved by the real time that went by, so
 * setting a host up in simulated time and serving real sockets afterwards go together.
 */

import { ManualClock } from '../clock.js'
import type { Scheduler } from '../dom0/kernel/index.js'
import { nowNs } from './clock.js'

/** Somebody who waits for something to hold. */
interface Waiter {
  readonly done: () => boolean
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** Drives one scheduler. */
export class NodeLoop {
  #scheduler: Scheduler | undefined
  /** Ended: nothing will come true any more. */
  #stopped = false
  #immediate: NodeJS.Immediate | undefined
  #timer: NodeJS.Timeout | undefined
  #lastNs = 0
  readonly #waiting = new Set<Waiter>()

  /** Something happened: the threads run before the event loop waits again. Before `start`, and often, harmless. */
  readonly kick = (): void => {
    if (!this.#scheduler || this.#immediate) return
    this.#immediate = setImmediate(() => this.#turn())
  }

  /** Begins. `scheduler` has a ManualClock. */
  start(scheduler: Scheduler): void {
    this.#scheduler = scheduler
    this.#stopped = false
    this.#lastNs = nowNs()
    this.kick()
  }

  #turn(): void {
    this.#immediate = undefined
    const scheduler = this.#scheduler
    if (!scheduler) return
    const now = nowNs()
    if (scheduler.clock instanceof ManualClock) scheduler.clock.advance(now - this.#lastNs)
    this.#lastNs = now
    try {
      scheduler.run()
    } catch (error) {
      this.fail(error)
    }
    // A thread that failed has ended the loop.
    if (!this.#scheduler) return
    for (const waiter of this.#waiting) {
      if (!waiter.done()) continue
      this.#waiting.delete(waiter)
      waiter.resolve()
    }
    if (this.#timer) clearTimeout(this.#timer)
    const next = scheduler.nextTimerNs
    this.#timer = next === undefined ? undefined : setTimeout(this.kick, Math.max(0, (next - scheduler.nowNs) / 1e6))
  }

  /** Runs until `done` holds; asked after every turn. Rejects if the loop fails or is stopped first. */
  until(done: () => boolean): Promise<void> {
    if (done()) return Promise.resolve()
    if (this.#stopped) return Promise.reject(stopped())
    return new Promise<void>((resolve, reject) => {
      this.#waiting.add({ done, resolve, reject })
      this.kick()
    })
  }

  /** Ends because of an error: who waits is rejected with it. Throws it if nobody waits. */
  fail(error: unknown): void {
    const waits = this.#waiting.size > 0
    this.#end(error)
    if (!waits) throw error
  }

  /** Ends: nothing runs any more, and nothing keeps the process alive. Who waits is rejected. */
  stop(): void {
    this.#end(stopped())
  }

  #end(reason: unknown): void {
    if (this.#immediate) clearImmediate(this.#immediate)
    if (this.#timer) clearTimeout(this.#timer)
    this.#immediate = undefined
    this.#timer = undefined
    this.#scheduler = undefined
    this.#stopped = true
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(reason)
  }
}

const stopped = () => new Error('NodeLoop: the loop was stopped before what is waited for has come')
