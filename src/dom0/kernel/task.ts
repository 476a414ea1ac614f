/**
 * Kernel code as the scheduler runs it: a generator. `yield` gives the processor away, `yield*` calls another kernel
 * function; a blocked thread is a generator that nobody resumes, never a blocked JavaScript thread.
 */

/** A kernel function that may sleep, and its result. */
export type Task<T = void> = Generator<void, T, void>

/** A kernel function that never sleeps, where one that may is expected. */
// biome-ignore lint/correctness/useYield: that is its point
export function* done<T>(value: T): Task<T> {
  return value
}
