/**
 * Bytes between the store's ring and the kernel: the thread `xenbus` (XW-base-1 to XW-base-3).
 *
 *     request ──▶ queue ──process_writes──▶ ring ──▶ daemon
 *     reply   ◀── by id  ┐
 *     event   ◀── token  ┴─process_msg───── ring ◀── daemon
 *
 * Both steps can stop at any byte and continue there. The response mutex is held from the first byte of a message to its
 * last, so whoever else takes it finds the ring on a packet boundary: that is how suspend waits for one. What is sent when
 * follows Linux since 4.11: see XS-ring-4.
 *
 * A ring whose indexes cannot be is not used any more: every request under way, and every new one, ends with EIO until a
 * resume brings another ring. (Linux leaves them waiting.)
 */

import {
  PacketReader,
  REQUESTS,
  RESPONSES,
  RING_SIZE,
  Ring,
  type RingPeer,
  typeName,
  XenStoreError,
} from '../../xenstore/index.js'
import { AwaitedOutcome, ByteQueue, Exchange, sealedPeer, toLatin1 } from '../../xenstore/parts.js'
import { calloutsOf, type Kernel, type Mutex, type Task, type Thread, type WaitQueue } from '../kernel/index.js'

/** Who gets watch events, in the thread `xenbus`. It must not sleep. */
export type WatchMessageSink = (path: string, token: string) => void

/** The kernel's end of the ring. */
export class XenbusComms {
  readonly responseMutex: Mutex
  readonly thread: Thread
  readonly #badMessages: string[] = []
  readonly #kernel: Kernel
  readonly #wait: WaitQueue
  readonly #replied: WaitQueue
  readonly #exchange: Exchange
  readonly #output = new ByteQueue()
  readonly #input = new PacketReader()
  #given: RingPeer
  #peer: RingPeer
  #ring: Ring
  /** A message has begun to arrive: its first byte was read under the response mutex, which is still held. */
  #receiving = false
  /** The ring's indexes cannot be. */
  #broken = false

  constructor(kernel: Kernel, peer: RingPeer, events: WatchMessageSink) {
    this.#kernel = kernel
    this.#exchange = new Exchange({ event: events, bad: (problem) => this.#badMessages.push(problem) })
    this.#wait = kernel.waitQueue()
    this.#replied = kernel.waitQueue()
    this.responseMutex = kernel.mutex('xs_response_mutex')
    this.#given = peer
    this.#peer = this.#sealed(peer)
    this.#ring = this.#attach(this.#peer)
    this.thread = kernel.kthreadRun('xenbus', 'xenbus_thread', () => this.#loop())
  }

  #sealed(peer: RingPeer): RingPeer {
    return sealedPeer(peer, calloutsOf(this.#kernel.scheduler), `the store ring of ${this.#kernel.name}`)
  }

  #attach(peer: RingPeer): Ring {
    peer.channel.onEvent(() => this.#wait.wakeAll())
    this.#wait.wakeAll()
    return new Ring(peer.page)
  }

  /** After a suspend: what was in the old ring is gone (XW-base-10). Needs the response mutex. */
  reinitialise(peer: RingPeer | undefined): void {
    if (peer && peer !== this.#given) {
      this.#peer.channel.onEvent(() => {})
      this.#given = peer
      this.#peer = this.#sealed(peer)
    }
    this.#broken = false
    this.#ring = this.#attach(this.#peer)
    this.#output.clear()
    this.#input.reset()
    this.#receiving = false
  }

  /** Messages that could not be understood and were dropped. */
  get badMessages(): readonly string[] {
    return [...this.#badMessages]
  }

  /** Requests that wait for their replies. */
  get pending(): number {
    return this.#exchange.pending
  }

  /** Sends a request and waits for the reply with its id. @throws XenStoreError with the daemon's answer. */
  *talk(type: number, body: string, tx: number): Task<Uint8Array> {
    const about = body.slice(0, 200).split('\0', 1)[0]!
    const outcome = new AwaitedOutcome(() => this.#replied.wakeAll())
    if (this.#broken) throw new XenStoreError(typeName(type), about, 'EIO')
    const { id, packet } = this.#exchange.request(type, tx, toLatin1(body), about, outcome)
    this.#output.push({ bytes: packet })
    this.#wait.wakeAll()
    try {
      const options = { what: `the reply to ${typeName(type)} ${about}` }
      yield* this.#kernel.call(
        'read_reply',
        this.#replied.until(() => outcome.here, options),
      )
    } finally {
      this.#exchange.forget(id)
    }
    return outcome.take()
  }

  *#loop(): Task {
    for (;;) {
      yield* this.#wait.until(() => !this.#broken && (this.#readable || (this.#writable && this.#output.bytes > 0)), {
        state: 'S',
        what: 'the ring',
      })
      yield* this.#processMessage()
      if (!this.#broken) this.#processWrites()
      yield* this.#kernel.scheduler.preemptionPoint()
    }
  }

  get #readable(): boolean {
    return this.#ring.get('rsp_prod') !== this.#ring.get('rsp_cons')
  }

  /** There is room, or the indexes cannot be, which is found out by writing. */
  get #writable(): boolean {
    return (this.#ring.get('req_prod') - this.#ring.get('req_cons')) >>> 0 !== RING_SIZE
  }

  /** One message, or as much of it as is there (XW-base-3). */
  *#processMessage(): Task {
    if (!this.#readable) return
    if (!this.#receiving) {
      yield* this.responseMutex.lock()
      // A suspend may have held it, and the ring may be another one now.
      if (!this.#readable) {
        this.responseMutex.unlock()
        return
      }
      this.#receiving = true
    }
    if (!this.#receive()) return
    this.#receiving = false
    this.responseMutex.unlock()
  }

  /** Reads up to the end of one message and hands it over; false if more bytes must come. */
  #receive(): boolean {
    for (;;) {
      const packet = this.#input.next()
      if (packet) {
        this.#exchange.accept(packet)
        return true
      }
      if (this.#input.tooLong) {
        this.#badMessages.push(`a message of ${this.#input.announced} bytes (EINVAL)`)
        this.#input.reset()
        return true
      }
      const part = this.#take(this.#input.wanted)
      if (!part) return true
      if (!part.length) return false
      this.#input.push(part)
    }
  }

  #break(): void {
    this.#broken = true
    this.#badMessages.push('the indexes of the store ring cannot be (EIO)')
    this.#output.clear()
    this.#input.reset()
    this.#exchange.end()
  }

  /** Undefined if the ring is broken. */
  #take(max: number): Uint8Array | undefined {
    const full = (this.#ring.get('rsp_prod') - this.#ring.get('rsp_cons')) >>> 0 >= RING_SIZE
    const bytes = this.#ring.read(RESPONSES, max)
    if (typeof bytes === 'number') {
      this.#break()
      return undefined
    }
    // The daemon waits for room only if there was none.
    if (full && bytes.length) this.#peer.channel.notify()
    return bytes
  }

  /** Writes as much as the ring takes; the rest follows later. */
  #processWrites(): void {
    const before = this.#ring.get('req_prod')
    for (;;) {
      const written = this.#ring.write(REQUESTS, (to, at, max) => this.#output.copy(to, at, max))
      if (written < 0) {
        this.#break()
        return
      }
      if (!written) break
    }
    const after = this.#ring.get('req_prod')
    // Only if the daemon had read all that was there before, or it is still at it (XS-ring-4).
    if (after !== before && (after - this.#ring.get('req_cons')) >>> 0 <= (after - before) >>> 0)
      this.#peer.channel.notify()
  }
}
