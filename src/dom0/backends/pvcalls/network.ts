/**
 * What a backend needs of a network, and no more: streams that never block, and listening sockets. The real one, TCP on
 * loopback, is an adapter outside the library; `LocalNetwork` is one inside a process.
 *
 * All calls return at once. A callback is an interrupt: it takes note and wakes somebody.
 */

import type { InetAddress } from '../../io/pvcalls_protocol.js'

/** One end of a connected stream. */
export interface NetSocket {
  /**
   * Takes received bytes without blocking, as many as there are room for and waiting: more than 0; 0 at the orderly end of
   * the stream; -EAGAIN if nothing waits; another negative error, from then on always. Errors come after the data before.
   */
  receive(into: Uint8Array): number
  /** Takes bytes to be sent, as many as it can: how many; -EAGAIN for none; another negative error. It copies them. */
  send(from: Uint8Array): number
  /** `receive` may have something new: bytes, the end, an error. */
  onReadable: (() => void) | undefined
  /** After a `send` that took less than all: it can take more, or has failed. */
  onWritable: (() => void) | undefined
  /** What was sent still arrives; nothing is received any more. No callback follows. */
  close(): void
}

/** A socket that has an address. */
export interface NetListener {
  /**
   * Begins to accept connections, up to `backlog` of them waiting. `done` is called once with 0 or a negative error, maybe
   * at once; not any more after `close`.
   */
  listen(backlog: number, done: (ret: number) => void): void
  /** Takes a connection that waits; undefined if there is none. */
  accept(): NetSocket | undefined
  /** A connection waits? */
  readonly pending: boolean
  /** A connection came. */
  onConnection: (() => void) | undefined
  /** Connections that wait are refused. */
  close(): void
}

/** A network. */
export interface Network {
  /**
   * Connects. `done` is called once with a socket or a negative error, maybe at once. Returns what gives up, after which it
   * is not called any more.
   */
  connect(address: InetAddress, done: (result: NetSocket | number) => void): () => void
  /** A socket with an address, or a negative error. */
  bind(address: InetAddress): NetListener | number
}
