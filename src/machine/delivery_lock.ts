/**
 * The writer's side of the delivery lock (assembly/host/lock.ts has the readers'): the hypervisor's thread shuts senders on
 * other threads out while it changes what they read.
 *
 *     exclude   W := 1, then wait until each thread's mark is 0         admit   W := 0, wake all who wait for it
 *
 * Without threads there is nobody to shut out, and both are a test of a number. A thread that was terminated inside keeps
 * its mark: `exclude` gives up after a second, with W taken back and nothing changed, and names the thread.
 */

import { Errno, XenError } from '../errno.js'
import { DELIVERY_LOCK, THREAD, THREAD_SHIFT } from './host_layout.js'
import type { PrivateMemory } from './private_memory.js'

/** Looks at a mark before sleeping on it: a sender is inside for less than a microsecond, if it has its processor. */
const LOOKS = 200
/** How long a thread may stay inside. */
const PATIENCE_MS = 1000

const W = DELIVERY_LOCK >> 2
const markOf = (thread: number): number => ((thread << THREAD_SHIFT) + THREAD.MARK) >> 2

/** The writer's side. One thread has it. */
export class DeliveryLock {
  readonly #memory: PrivateMemory
  readonly #threads = new Map<number, string>()
  #depth = 0

  constructor(memory: PrivateMemory) {
    this.#memory = memory
  }

  /** May other threads send at present? */
  get hasReaders(): boolean {
    return this.#threads.size > 0
  }

  /** A thread that may send from here on. `name` is what errors call it. */
  add(thread: number, name: string): void {
    this.#threads.set(thread, name)
  }

  /** A thread that sends no more. Its mark is taken back, for it may have been terminated inside. */
  remove(thread: number): void {
    this.#threads.delete(thread)
    const { words } = this.#memory
    Atomics.store(words, markOf(thread), 0)
    Atomics.notify(words, markOf(thread))
  }

  /**
   * Shuts senders out until `admit`. May be nested.
   * @throws XenError EAGAIN if a thread does not leave within a second; nobody is shut out then.
   */
  exclude(): void {
    if (this.#threads.size === 0) return
    if (this.#depth++) return
    const { words } = this.#memory
    Atomics.store(words, W, 1)
    for (const [thread, name] of this.#threads) {
      if (leaves(words, markOf(thread))) continue
      this.admit()
      throw new XenError(
        'delivery lock',
        Errno.EAGAIN,
        `${name} has been inside for a second; if its worker is gone, detach it with { terminated: true }`,
      )
    }
  }

  /** Lets senders in again. */
  admit(): void {
    if (this.#depth === 0 || --this.#depth) return
    const { words } = this.#memory
    Atomics.store(words, W, 0)
    Atomics.notify(words, W)
  }

  /** Runs `body` with senders shut out. @throws as exclude, and what `body` throws. */
  write<T>(body: () => T): T {
    this.exclude()
    try {
      return body()
    } finally {
      this.admit()
    }
  }
}

/** Waits until a mark is 0; false: it did not come to that. */
function leaves(words: Int32Array, mark: number): boolean {
  for (let i = 0; i < LOOKS; i++) if (Atomics.load(words, mark) === 0) return true
  while (Atomics.load(words, mark) !== 0)
    // A thread that goes in again while this sleeps has left in between, and waits for W now.
    if (Atomics.wait(words, mark, 1, PATIENCE_MS) === 'timed-out') return Atomics.load(words, mark) === 0
  return true
}
