/** A watch on the client's side: events by callback, or one after the other by `for await`. */

import type { Callouts } from '../callout.js'

/** The part of the platform's AbortSignal that is used; the library names no type of Node or the DOM. */
export interface AbortSignalLike {
  readonly aborted: boolean
  readonly reason: unknown
  addEventListener(type: 'abort', listener: () => void): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** Something changed at or below a watched path. */
export interface WatchEvent {
  readonly path: string
}

// Watchers look at the store again, so what piles up can be folded into one event for the watched path (XS-adv-349).
const MAX_WAITING = 1024

/** A watch that was set. */
export class StoreWatch implements AsyncIterable<WatchEvent> {
  /** As it was given. */
  readonly path: string
  readonly #onEvent: ((event: WatchEvent) => void) | undefined
  readonly #unwatch: () => Promise<void>
  readonly #callouts: Callouts
  #onEnd = () => {}
  #waiting = new Map<string, WatchEvent>()
  #takers: ((result: IteratorResult<WatchEvent>) => void)[] = []
  #ended = false

  /** @internal */
  constructor(
    path: string,
    onEvent: ((event: WatchEvent) => void) | undefined,
    callouts: Callouts,
    unwatch: () => Promise<void>,
  ) {
    this.path = path
    this.#onEvent = onEvent
    this.#callouts = callouts
    this.#unwatch = unwatch
  }

  /** @internal Calls `callback` once, when the watch has ended by whatever cause. */
  whenEnded(callback: () => void): void {
    this.#onEnd = callback
  }

  /** @internal Takes an event in. One that equals a waiting one is the same event; names beginning with `@` are counted. */
  deliver(event: WatchEvent): void {
    if (this.#ended) return
    if (this.#onEvent) {
      this.#callouts.run(`onEvent of the watch on ${this.path}`, undefined, () => this.#onEvent!(event))
      return
    }
    const taker = this.#takers.shift()
    if (taker) {
      taker({ done: false, value: event })
      return
    }
    if (this.#waiting.size >= MAX_WAITING) this.#waiting = new Map([[this.path, { path: this.path }]])
    else this.#waiting.set(event.path.startsWith('@') ? `${event.path}\0${this.#waiting.size}` : event.path, event)
  }

  /** @internal No more events; what waits can still be taken. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#onEnd()
    for (const taker of this.#takers.splice(0)) taker({ done: true, value: undefined })
  }

  /** Takes the watch back. */
  async close(): Promise<void> {
    if (this.#ended) return
    this.end()
    await this.#unwatch()
  }

  [Symbol.asyncIterator](): AsyncIterator<WatchEvent> {
    return {
      next: () => {
        const first = this.#waiting.entries().next()
        if (!first.done) {
          this.#waiting.delete(first.value[0])
          return Promise.resolve({ done: false, value: first.value[1] })
        }
        if (this.#ended) return Promise.resolve({ done: true, value: undefined })
        return new Promise((resolve) => this.#takers.push(resolve))
      },
      return: async () => {
        await this.close()
        return { done: true, value: undefined }
      },
    }
  }
}
