/**
 * Calling a user's function: handlers, upcalls, policies, clocks, page tables, notifiers, watch callbacks. Such a function
 * runs inside the machinery, in the middle of a call that somebody else made. What it throws is caught here, reported
 * once, and replaced by a value with which the machinery continues:
 *
 *     machinery → Callouts.run(where, otherwise, function) → result, or `otherwise`
 *                              └ threw → onError(error, where); without onError: thrown again in a microtask
 *
 * So a fault stays with the user whose function it is in, and is never swallowed: without a hook of the embedder's the
 * platform reports it as an uncaught error, as `reportError` does. An asynchronous function rejects a promise of its own,
 * which the platform reports.
 */

/** Gets what a user's function threw. `where` says which function it was, such as `onUpcall of d1v0`. */
export type OnError = (error: unknown, where: string) => void

/** Throws an error outside of any call, so that the platform reports it. */
function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error
  })
}

/** The way out to user's functions, with the hook of one host, store or guest. */
export class Callouts {
  readonly #onError: OnError | undefined

  constructor(onError?: OnError) {
    this.#onError = onError
  }

  /** The result of a user's function, or `otherwise` if it throws. */
  run<T>(where: string, otherwise: T, body: () => T): T {
    try {
      return body()
    } catch (error) {
      this.report(error, where)
      return otherwise
    }
  }

  /** Reports what a user's function threw. Never throws: a hook that fails has its own error reported by the platform. */
  report(error: unknown, where: string): void {
    if (!this.#onError) throwLater(error)
    else
      try {
        this.#onError(error, where)
      } catch (second) {
        throwLater(second)
      }
  }
}
