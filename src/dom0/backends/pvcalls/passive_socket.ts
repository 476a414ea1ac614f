/**
 * A bound socket of a guest, and what waits for its connections (PV-26): at most one accept or poll.
 *
 *     BIND ─▶ bound ── LISTEN ─▶ listening ─┬─ ACCEPT waits ── a connection comes ─▶ answered
 *                                           └─ POLL waits   ── a connection comes ─▶ answered, the connection stays
 */

import type { PvcallsRequest } from '../../io/pvcalls_protocol.js'
import type { ActiveSocket } from './active_socket.js'
import type { NetListener, NetSocket } from './network.js'

/** An accept, with the socket that it is to become; or a poll, without. */
export interface WaitingCall {
  readonly request: PvcallsRequest
  readonly socket: ActiveSocket | undefined
}

/** A bound socket. */
export class PassiveSocket {
  readonly id: bigint
  readonly net: NetListener
  listening = false
  /** A LISTEN that the network has not answered. */
  pendingListen: PvcallsRequest | undefined
  waiting: WaitingCall | undefined
  readonly #answer: (call: WaitingCall, net: NetSocket | undefined) => void

  /** `answer` is called when a waiting call can be answered: an accept with its connection, a poll with undefined. */
  constructor(id: bigint, net: NetListener, answer: (call: WaitingCall, net: NetSocket | undefined) => void) {
    this.id = id
    this.net = net
    this.#answer = answer
    net.onConnection = () => this.#serve()
  }

  /** A call waits for a connection from now on, and may have one at once. */
  wait(call: WaitingCall): void {
    this.waiting = call
    this.#serve()
  }

  #serve(): void {
    const call = this.waiting
    if (!call || !this.net.pending) return
    // Before the connection is taken: the room that this makes may let another one in, which calls this again.
    this.waiting = undefined
    const net = call.socket ? this.net.accept() : undefined
    if (call.socket && !net) this.waiting = call
    else this.#answer(call, net)
  }
}
