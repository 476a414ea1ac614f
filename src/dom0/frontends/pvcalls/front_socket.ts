/** Sockets as a guest's program has them: connected ones, and ones that listen. All calls are for the guest's threads. */

import { known } from '../../../check.js'
import { type InetAddress, PVCALLS_ERRNO } from '../../io/index.js'
import type { Task } from '../../kernel/index.js'
import { PvcallsError } from './errors.js'
import type { SocketEnd } from './socket_end.js'

const { ENOTCONN } = PVCALLS_ERRNO

/** What sockets ask of their device. */
export interface SocketCalls {
  /** Commands can be given. */
  readonly connected: boolean
  accept(id: bigint, ringOrder?: number): Task<PvSocket>
  /** Waits for a connection, and leaves it where it is. */
  poll(id: bigint): Task
  release(id: bigint, end: SocketEnd | undefined): Task
}

/** A connected socket. */
export class PvSocket {
  readonly id: bigint
  /** Data ring and event channel; for who looks closer. */
  readonly end: SocketEnd
  readonly #front: SocketCalls
  #closed = false

  /** Made by `Pvcallsfront.connect` and `PvListener.accept`. */
  constructor(front: SocketCalls, id: bigint, end: SocketEnd) {
    this.#front = front
    this.id = id
    this.end = end
  }

  /** Closed here, or the backend is gone. */
  get closed(): boolean {
    return this.#closed || !this.#front.connected
  }

  /** Puts as many bytes into the ring as there is room for; how many. @throws PvcallsError */
  trySend(bytes: Uint8Array): number {
    const put = this.closed ? ENOTCONN : this.end.ring.write(bytes)
    if (put < 0) throw new PvcallsError('send', put)
    if (put) this.end.notify()
    return put
  }

  /**
   * Sends bytes; returns when all are in the ring. @throws PvcallsError if the connection has failed, EINVAL if the backend's
   * index cannot be (PV-57).
   */
  *send(bytes: Uint8Array): Task {
    for (let at = this.trySend(bytes); at < bytes.length; at += this.trySend(bytes.subarray(at))) {
      const { ring, changed } = this.end
      // More than the ring has room for cannot be: the next try says so.
      yield* changed.until(() => this.closed || ring.outError !== 0 || ring.unsent !== ring.out.size, {
        state: 'S',
        what: 'room in a data ring',
      })
    }
  }

  /**
   * Takes bytes that are there: how many; 0 if there are none now; -ENOTCONN at the orderly end, another negative error
   * if the connection has failed; either comes after the last byte.
   */
  tryReceive(into: Uint8Array): number {
    if (this.closed) return ENOTCONN
    const got = this.end.ring.read(into)
    // The backend waits for room if the ring was full; it is always told, as the protocol has it.
    if (got > 0) this.end.notify()
    return got
  }

  /**
   * Waits for bytes and takes them: how many, at least 1; 0 at the orderly end.
   * @throws RangeError if there is no room for one, PvcallsError
   */
  *receiveInto(into: Uint8Array): Task<number> {
    if (!into.length) throw new RangeError('receive: there is no room for a byte')
    for (;;) {
      const got = this.tryReceive(into)
      if (got > 0) return got
      if (got === ENOTCONN) return 0
      if (got < 0) throw new PvcallsError('receive', got)
      const { ring, changed } = this.end
      yield* changed.until(() => this.closed || ring.readable > 0 || ring.inError !== 0, {
        state: 'S',
        what: 'data in a data ring',
      })
    }
  }

  /** Waits for bytes: a piece of at most `max`; undefined at the orderly end. @throws RangeError, PvcallsError as above */
  *receive(max = 65536): Task<Uint8Array | undefined> {
    const piece = new Uint8Array(Math.min(max, this.end.ring.in.size))
    const got = yield* this.receiveInto(piece)
    return got ? piece.subarray(0, got) : undefined
  }

  /** Everything up to the orderly end. @throws PvcallsError */
  *receiveAll(): Task<Uint8Array> {
    const pieces: Uint8Array[] = []
    for (let piece = yield* this.receive(); piece; piece = yield* this.receive()) pieces.push(piece)
    const all = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0))
    let at = 0
    for (const piece of pieces) {
      all.set(piece, at)
      at += piece.length
    }
    return all
  }

  /**
   * Closes: waits until the backend has taken what was sent, for RELEASE would drop it, then releases. Harmless a second
   * time.
   */
  *close(): Task {
    if (this.#closed) return
    const { ring, changed } = this.end
    yield* changed.until(() => this.closed || ring.unsent === 0 || ring.unsent > ring.out.size || ring.outError !== 0, {
      state: 'S',
      what: 'sent data to leave',
    })
    if (this.#closed) return
    this.#closed = true
    yield* this.#front.release(this.id, this.end)
  }
}

/** A socket that listens. */
export class PvListener {
  readonly id: bigint
  readonly address: InetAddress
  readonly #front: SocketCalls

  /** Made by `Pvcallsfront.listen`. */
  constructor(front: SocketCalls, id: bigint, address: InetAddress) {
    this.#front = front
    this.id = id
    this.address = address
  }

  /** Waits for its turn and for a connection. @throws ParameterError for an invalid ring order or option; PvcallsError EBADF if it is closed, EAGAIN if 1,024 wait already. */
  *accept(options: { ringOrder?: number } = {}): Task<PvSocket> {
    const { ringOrder } = known('accept', options, ['ringOrder'])
    return yield* this.#front.accept(this.id, ringOrder)
  }

  /** Waits until a connection waits. @throws PvcallsError as `accept`. */
  *poll(): Task {
    yield* this.#front.poll(this.id)
  }

  /** Closes it. */
  *close(): Task {
    yield* this.#front.release(this.id, undefined)
  }
}
