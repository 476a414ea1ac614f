/**
 * An active socket of a guest: what its worker does for it (PV-21 to PV-25, PV-53 to PV-55).
 *
 *     network ── receive ──▶ in array  ── in_prod ──▶ frontend      read step
 *     network ◀── send ──── out array ◀── out_prod ── frontend      write step
 *
 * Wake-ups come from the socket and from the data ring's event channel; they take note in `read` and `write`, count in
 * `io`, and the worker takes a turn. Two differences from the merged Linux driver: a turn handles all wake-ups that came
 * before it, not one of them; and a send that was cut short waits for the network's word that there is room again instead
 * of trying in a circle (PV-28).
 *
 * The backend's own indexes, in_prod and out_cons, are kept here and only written to the page: a guest that writes them
 * confuses itself. The guest's are read once in a step, and a distance beyond the array is an error, never a length.
 */

import { INDEX_WORD, queuedBytes } from '../../io/pvcalls_data_ring.js'
import { PVCALLS_ERRNO } from '../../io/pvcalls_protocol.js'
import type { MappedDataRing } from './mapping.js'
import type { NetSocket } from './network.js'

const { EAGAIN, EINVAL, ENOTCONN } = PVCALLS_ERRNO

/** Who serves a socket. */
export interface SocketWorker {
  /** The socket has something to do. */
  enqueue(socket: ActiveSocket): void
}

/** The event channel of a socket's data ring, dom0's end. */
export interface SocketChannel {
  /** Tells the frontend. */
  notify(): void
  /** Has the frontend's notifications delivered to a CPU from now on. */
  deliverTo(cpu: number): void
}

/** What a turn of a socket's worker came to. */
export interface Turn {
  readonly bytesIn: number
  readonly bytesOut: number
}

/** What workers keep of a socket, and nobody else. */
export interface ServiceRecord {
  /** Undefined while it moves from one worker to another, and at the end. */
  worker: SocketWorker | undefined
  /** On its worker's list. */
  queued: boolean
  /** CPU of its last copy; -1 before the first. */
  lastCpu: number
}

/** The record behind a socket. */
export let serviceOf: (socket: ActiveSocket) => ServiceRecord

/** A socket with a data ring. */
export class ActiveSocket {
  readonly id: bigint
  /** `d1:5`, for people. */
  readonly name: string
  /** @internal */
  readonly ring: MappedDataRing
  readonly #service: ServiceRecord = { worker: undefined, queued: false, lastCpu: -1 }
  #read = true
  #write = true
  #io = 1
  #released = false
  readonly #channel: SocketChannel
  #net: NetSocket | undefined
  #inProd: number
  #outCons: number
  #inFailed = false
  #outFailed = false

  static {
    serviceOf = (socket) => socket.#service
  }

  /** @internal */
  constructor(id: bigint, name: string, ring: MappedDataRing, channel: SocketChannel) {
    this.id = id
    this.name = name
    this.ring = ring
    this.#channel = channel
    this.#inProd = ring.index.index(INDEX_WORD.in_prod)
    this.#outCons = ring.index.index(INDEX_WORD.out_cons)
  }

  /** Something may be there to receive. */
  get read(): boolean {
    return this.#read
  }

  /** Something may be in the out array. */
  get write(): boolean {
    return this.#write
  }

  /** Wake-ups since the last turn; it begins with one (PV-21). */
  get io(): number {
    return this.#io
  }

  /** It is being released: no turn does anything any more. */
  get released(): boolean {
    return this.#released
  }

  /** Who serves it; undefined while it moves from one worker to another. */
  get worker(): SocketWorker | undefined {
    return this.#service.worker
  }

  /** CPU of its last copy; -1 before the first. */
  get lastCpu(): number {
    return this.#service.lastCpu
  }

  /** @internal It is connected from now on. */
  attach(net: NetSocket): void {
    this.#net = net
    net.onReadable = () => this.wakeRead()
    net.onWritable = () => this.wakeWrite()
  }

  /** Its worker is on this CPU: there its notifications should come as well (PV-4). */
  deliverTo(cpu: number): void {
    this.#channel.deliverTo(cpu)
  }

  // --- wake-ups (PV-23) ----------------------------------------------------------------------------------------------

  /** The network has something: data, the end, an error. */
  wakeRead(): void {
    this.#read = true
    this.#wake()
  }

  /** The frontend notified, or the network can take more. Room in the in array is announced the same way. */
  wakeWrite(): void {
    this.#write = true
    this.#wake()
  }

  #wake(): void {
    if (this.#released) return
    this.#io++
    // Between two workers the count is all that is needed: who takes the socket over looks at it (PV-8).
    this.#service.worker?.enqueue(this)
  }

  // --- a turn (PV-22, PV-12) -----------------------------------------------------------------------------------------

  /** At most one read and one write step. Runs to its end without sleeping: nobody sees a socket in the middle of it. */
  turn(): Turn {
    // Before the steps: what arrives while they run counts as new.
    this.#io = 0
    if (this.#released || !this.#net) return NOTHING
    const bytesIn = this.#read ? this.#readStep(this.#net) : 0
    const bytesOut = this.#write ? this.#writeStep(this.#net) : 0
    return { bytesIn, bytesOut }
  }

  /** Network to in array (PV-24). */
  #readStep(net: NetSocket): number {
    const { index, in: array } = this.ring
    if (this.#inFailed || index.error(INDEX_WORD.in_error)) {
      this.#read = false
      return 0
    }
    // No byte is written before the frontend is known to have read the old one: the load of in_cons acquires, so the writes
    // behind it stay behind it. That is all that the full barrier of PV-54 is needed for here.
    const used = queuedBytes(this.#inProd, index.index(INDEX_WORD.in_cons))
    if (used > array.size) return this.#failIn(EINVAL)
    // Full: `read` stays, and the frontend notifies when it has taken something.
    if (used === array.size) return 0
    this.#read = false
    let got = 0
    let last = 0
    for (const segment of array.segments(this.#inProd, array.size - used)) {
      let filled = 0
      while (filled < segment.length) {
        last = net.receive(segment.subarray(filled))
        if (last <= 0) break
        filled += last
      }
      got += filled
      if (last <= 0) break
    }
    if (got) {
      this.#inProd = (this.#inProd + got) >>> 0
      // After the bytes: who sees the index sees them (the write barrier of PV-54).
      index.publish(INDEX_WORD.in_prod, this.#inProd)
    }
    // After the index: who sees the end sees all that came before it (PV-acc-13).
    if (last <= 0 && last !== EAGAIN) this.#failIn(last || ENOTCONN)
    else {
      // Filled to the brim: there may be more, for when the frontend has taken some.
      if (last > 0) this.#read = true
      if (got) this.#channel.notify()
    }
    return got
  }

  #failIn(error: number): 0 {
    this.#inFailed = true
    this.#read = false
    this.ring.index.publish(INDEX_WORD.in_error, error)
    this.#channel.notify()
    return 0
  }

  /** Out array to network (PV-25). */
  #writeStep(net: NetSocket): number {
    const { index, out: array } = this.ring
    // Before the look at out_prod: a notification that comes after it is a new one.
    this.#write = false
    if (this.#outFailed || index.error(INDEX_WORD.out_error)) return 0
    // No byte is read from the array before the index says that it is there: the load of out_prod acquires (PV-54).
    const queued = queuedBytes(index.index(INDEX_WORD.out_prod), this.#outCons)
    if (queued === 0) return 0
    if (queued > array.size) return this.#failOut(EINVAL)
    let sent = 0
    let last = 0
    for (const segment of array.segments(this.#outCons, queued)) {
      last = net.send(segment)
      if (last > 0) sent += last
      if (last < segment.length) break
    }
    if (sent) {
      this.#outCons = (this.#outCons + sent) >>> 0
      // From here on the frontend may overwrite them: the store releases, so they were read before it (PV-54).
      index.publish(INDEX_WORD.out_cons, this.#outCons)
    }
    if (last < 0 && last !== EAGAIN) this.#failOut(last)
    else {
      // The frontend may have gone on meanwhile without a notification of its own (PV-25).
      if (sent === queued && index.index(INDEX_WORD.out_prod) !== this.#outCons) this.wakeWrite()
      if (sent) this.#channel.notify()
    }
    return sent
  }

  #failOut(error: number): 0 {
    this.#outFailed = true
    this.ring.index.publish(INDEX_WORD.out_error, error)
    this.#channel.notify()
    return 0
  }

  // --- release (PV-27) -----------------------------------------------------------------------------------------------

  /** @internal First half: no wake-up counts any more. Then the worker lets go, then `dispose`. */
  release(): void {
    this.#released = true
    if (this.#net) {
      this.#net.onReadable = undefined
      this.#net.onWritable = undefined
    }
  }

  /** @internal Last half, when no worker has it: unmaps, and closes the network's end. */
  dispose(): void {
    this.ring.unmap()
    this.#net?.close()
  }
}

const NOTHING: Turn = { bytesIn: 0, bytesOut: 0 }
