/**
 * Xen's event lock, a reader-writer lock of each domain (EC-lock-1): W for allocation, binds, close, bind_vcpu, reset
 * bookkeeping, registration; R for status and the dump. Order: event lock(s), two domains by ascending id, then
 * channel locks.
 *
 * Only the hypervisor's thread takes it, so it is never contended: taking one that is held is a path that would deadlock in
 * Xen, and is reported as the bug it is. In the place of channel locks (EC-lock-2) there is the delivery lock, one for the
 * host (machine/delivery_lock.ts).
 *
 * Operations that guests repeat take and release the lock themselves: a body that captures variables would be garbage.
 */

/** A reader-writer lock that must not be taken recursively. */
export class EventLock {
  #readers = 0
  #writer = false

  /** True while anyone holds it, reading or writing. */
  get held(): boolean {
    return this.#readers !== 0 || this.#writer
  }

  acquireRead(): void {
    if (this.#writer) throw new Error('event_lock: taken for reading while held for writing')
    this.#readers++
  }

  releaseRead(): void {
    if (!this.#readers) throw new Error('event_lock: released for reading but not held')
    this.#readers--
  }

  acquireWrite(): void {
    if (this.held) throw new Error('event_lock: taken for writing while held')
    this.#writer = true
  }

  releaseWrite(): void {
    if (!this.#writer) throw new Error('event_lock: released for writing but not held')
    this.#writer = false
  }

  /** Runs `body` with the lock held for writing. */
  write<T>(body: () => T): T {
    this.acquireWrite()
    try {
      return body()
    } finally {
      this.releaseWrite()
    }
  }

  /** Runs `body` with the lock held for reading. */
  read<T>(body: () => T): T {
    this.acquireRead()
    try {
      return body()
    } finally {
      this.releaseRead()
    }
  }
}
