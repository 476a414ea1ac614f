/**
 * Accepts and polls of one listener, one at the backend at a time: it takes no second one (PV-26). The others wait for their
 * turn in the guest, first come, first served, as in Linux' pvcalls-front, and hold neither pages nor ports meanwhile. Only
 * so many wait: who would be one more is refused (PV-56).
 */

import { PVCALLS_ERRNO } from '../../io/index.js'
import type { Kernel, Task } from '../../kernel/index.js'
import { PvcallsError } from './errors.js'

/** Accepts and polls of one listener that may wait for their turn. */
const MOST_TURNS = 1024

interface Line {
  /** The first is at the backend. */
  readonly tickets: object[]
  closed: boolean
}

/** The lines of all listeners of a device. */
export class Turns {
  readonly #lines = new Map<bigint, Line>()
  readonly #moved
  readonly #connected: () => boolean

  /** `connected`: is there a backend? */
  constructor(kernel: Kernel, connected: () => boolean) {
    this.#moved = kernel.waitQueue()
    this.#connected = connected
  }

  /** Runs `body` when it is its turn. @throws PvcallsError EAGAIN if too many wait, EBADF if the listener was closed, ENOTCONN */
  *take<T>(name: string, id: bigint, body: () => Task<T>): Task<T> {
    const line = this.#lines.get(id) ?? { tickets: [], closed: false }
    if (line.tickets.length > MOST_TURNS) throw new PvcallsError(name, PVCALLS_ERRNO.EAGAIN)
    this.#lines.set(id, line)
    const ticket = {}
    line.tickets.push(ticket)
    try {
      const mine = () => line.tickets[0] === ticket
      yield* this.#moved.until(() => mine() || line.closed || !this.#connected(), {
        state: 'S',
        what: `a turn to ${name}`,
      })
      if (line.closed) throw new PvcallsError(name, PVCALLS_ERRNO.EBADF)
      if (!mine()) throw new PvcallsError(name, PVCALLS_ERRNO.ENOTCONN)
      return yield* body()
    } finally {
      line.tickets.splice(line.tickets.indexOf(ticket), 1)
      if (!line.tickets.length) this.#lines.delete(id)
      this.#moved.wakeAll()
    }
  }

  /** The listener is being closed: whoever waits for a turn gets EBADF. */
  close(id: bigint): void {
    const line = this.#lines.get(id)
    if (!line) return
    line.closed = true
    this.#moved.wakeAll()
  }

  /** The backend is gone, or cannot be talked to: who waits looks again. */
  wake(): void {
    this.#moved.wakeAll()
  }
}
