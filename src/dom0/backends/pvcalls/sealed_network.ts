/**
 * A network of the embedder's as the backend calls it, in the midst of a worker's turn or of a command. What the network
 * throws is reported, and for the guest the call has failed as calls of a network do:
 *
 *     receive, send   ECONNRESET: the socket's own direction ends        connect   ENETUNREACH
 *     listen, bind    EADDRNOTAVAIL                                      accept    nobody is there
 *
 * So is a count of bytes that cannot be: it would be a length in the guest's ring.
 */

import type { Callouts } from '../../../callout.js'
import { integer } from '../../../check.js'
import { PVCALLS_ERRNO } from '../../io/pvcalls_protocol.js'
import type { NetListener, NetSocket, Network } from './network.js'

const { EADDRNOTAVAIL, ECONNRESET, ENETUNREACH } = PVCALLS_ERRNO
const MOST_NEGATIVE = -4095

class SealedSocket implements NetSocket {
  readonly #net: NetSocket
  readonly #callouts: Callouts

  constructor(net: NetSocket, callouts: Callouts) {
    this.#net = net
    this.#callouts = callouts
  }

  receive(into: Uint8Array): number {
    return this.#callouts.run('receive of a socket', ECONNRESET, () =>
      integer('NetSocket', 'receive()', this.#net.receive(into), MOST_NEGATIVE, into.length),
    )
  }
  send(from: Uint8Array): number {
    return this.#callouts.run('send of a socket', ECONNRESET, () =>
      integer('NetSocket', 'send()', this.#net.send(from), MOST_NEGATIVE, from.length),
    )
  }
  get onReadable(): (() => void) | undefined {
    return this.#net.onReadable
  }
  set onReadable(callback: (() => void) | undefined) {
    this.#net.onReadable = callback
  }
  get onWritable(): (() => void) | undefined {
    return this.#net.onWritable
  }
  set onWritable(callback: (() => void) | undefined) {
    this.#net.onWritable = callback
  }
  close(): void {
    this.#callouts.run('close of a socket', undefined, () => this.#net.close())
  }
}

class SealedListener implements NetListener {
  readonly #net: NetListener
  readonly #callouts: Callouts

  constructor(net: NetListener, callouts: Callouts) {
    this.#net = net
    this.#callouts = callouts
  }

  listen(backlog: number, done: (ret: number) => void): void {
    const tell = once(done)
    const failed = this.#callouts.run('listen of a socket', true, () => {
      this.#net.listen(backlog, tell)
      return false
    })
    if (failed) tell(EADDRNOTAVAIL)
  }
  accept(): NetSocket | undefined {
    const net = this.#callouts.run('accept of a socket', undefined, () => this.#net.accept())
    return net && new SealedSocket(net, this.#callouts)
  }
  get pending(): boolean {
    return this.#callouts.run('pending of a socket', false, () => this.#net.pending)
  }
  get onConnection(): (() => void) | undefined {
    return this.#net.onConnection
  }
  set onConnection(callback: (() => void) | undefined) {
    this.#net.onConnection = callback
  }
  close(): void {
    this.#callouts.run('close of a listener', undefined, () => this.#net.close())
  }
}

/** `call`, once and no more: a network that calls back and throws afterwards has called back. */
function once<T>(call: (value: T) => void): (value: T) => void {
  let called = false
  return (value) => {
    if (called) return
    called = true
    call(value)
  }
}

/** The network, as the backend calls it. */
export function sealedNetwork(network: Network, callouts: Callouts): Network {
  return {
    connect(address, done) {
      const tell = once((result: NetSocket | number) =>
        done(typeof result === 'number' ? result : new SealedSocket(result, callouts)),
      )
      const giveUp = callouts.run('connect of the network', undefined, () => network.connect(address, tell))
      if (!giveUp) tell(ENETUNREACH)
      return () => callouts.run('giving up a connect', undefined, () => giveUp?.())
    },
    bind(address) {
      const net = callouts.run('bind of the network', EADDRNOTAVAIL, () => network.bind(address))
      if (typeof net === 'number') return net
      return new SealedListener(net, callouts)
    },
  }
}
