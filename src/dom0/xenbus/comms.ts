/**
 * Bytes between the store's ring and the kernel: the thread `xenbus` (XW-base-1 to XW-base-3).
 *
 *     request ──▶ queue ──process_writes──▶ ring ──▶ daemon
 *     reply   ◀── by id  ┐
 *     event   ◀── token  ┴─process_msg───── ring ◀── daemon
 *
 * Both steps can stop at any byte and go on there. The response mutex is held from the first byte of a message to its
 * last, so whoever else takes it finds the ring on a packet boundary: that is how suspend waits for one. What is sent when
 * follows Linux since 4.11: see XS-ring-4.
 */

import {
  encodeText,
  HEADER_SIZE,
  PAYLOAD_MAX,
  REQUESTS,
  RESPONSES,
  RING_SIZE,
  Ring,
  type RingPeer,
  typeName,
  XenStoreError,
  XS,
  type XsErrorName,
} from '../../xenstore/index.js'
import type { Kernel, Mutex, Task, Thread, WaitQueue } from '../kernel/index.js'
import { bytesToText } from './store_tasks.js'

/** A request under way. */
export interface PendingRequest {
  readonly type: number
  readonly about: string
  reply: Uint8Array | null
  error: Error | null
}

/** Who gets watch events, in the thread `xenbus`. It must not sleep. */
export type WatchMessageSink = (path: string, token: string) => void

/** An incoming message, as far as it has come. */
interface Incoming {
  readonly header: Uint8Array
  headerBytes: number
  body: Uint8Array | null
  bodyBytes: number
}

const ERROR_NAME = /^[A-Z0-9]+$/

/** The kernel's end of the ring. */
export class XenbusComms {
  readonly responseMutex: Mutex
  readonly thread: Thread
  /** Messages that could not be understood and were dropped. */
  readonly badMessages: string[] = []
  readonly #kernel: Kernel
  readonly #events: WatchMessageSink
  readonly #wait: WaitQueue
  readonly #replied: WaitQueue
  readonly #pending = new Map<number, PendingRequest>()
  #peer: RingPeer
  #ring: Ring
  #output: Uint8Array[] = []
  #outputHead = 0
  #sent = 0
  #incoming: Incoming | null = null
  #lastId = 0

  constructor(kernel: Kernel, peer: RingPeer, events: WatchMessageSink) {
    this.#kernel = kernel
    this.#events = events
    this.#wait = kernel.waitQueue()
    this.#replied = kernel.waitQueue()
    this.responseMutex = kernel.mutex('xs_response_mutex')
    this.#peer = peer
    this.#ring = this.#attach(peer)
    this.thread = kernel.kthreadRun('xenbus', 'xenbus_thread', () => this.#loop())
  }

  #attach(peer: RingPeer): Ring {
    peer.channel.onEvent(() => this.#wait.wakeAll())
    this.#wait.wakeAll()
    return new Ring(peer.page)
  }

  /** After a suspend: what was in the old ring is gone (XW-base-10). Needs the response mutex. */
  reinitialise(peer: RingPeer | null): void {
    if (peer && peer !== this.#peer) this.#peer.channel.onEvent(() => {})
    this.#peer = peer ?? this.#peer
    this.#ring = this.#attach(this.#peer)
    this.#output = []
    this.#outputHead = 0
    this.#sent = 0
    this.#incoming = null
  }

  /** Requests that wait for their replies. */
  get pending(): number {
    return this.#pending.size
  }

  /** Sends a request and waits for the reply with its id. @throws XenStoreError with the daemon's answer. */
  *talk(type: number, body: string, tx: number): Task<Uint8Array> {
    if (body.length > PAYLOAD_MAX) throw new XenStoreError(typeName(type), body.slice(0, 40), 'E2BIG')
    const request: PendingRequest = { type, about: body.split('\0', 1)[0]!, reply: null, error: null }
    do this.#lastId = (this.#lastId + 1) >>> 0
    while (this.#pending.has(this.#lastId))
    const id = this.#lastId
    this.#pending.set(id, request)
    this.#output.push(encodeText(type, id, tx, body))
    this.#wait.wakeAll()
    const { frames } = this.#kernel.scheduler.running
    frames.push('read_reply')
    try {
      const options = { what: `the reply to ${typeName(type)} ${request.about}` }
      yield* this.#replied.until(() => request.reply !== null || request.error !== null, options)
    } finally {
      frames.pop()
      this.#pending.delete(id)
    }
    if (request.error) throw request.error
    return request.reply!
  }

  *#loop(): Task {
    for (;;) {
      yield* this.#wait.until(() => this.#readable || (this.#writable && this.#outputHead < this.#output.length), {
        state: 'S',
        what: 'the ring',
      })
      yield* this.#processMessage()
      this.#processWrites()
      yield* this.#kernel.scheduler.preemptionPoint()
    }
  }

  get #readable(): boolean {
    return this.#ring.get('rsp_prod') !== this.#ring.get('rsp_cons')
  }

  get #writable(): boolean {
    return (this.#ring.get('req_prod') - this.#ring.get('req_cons')) >>> 0 < RING_SIZE
  }

  /** One message, or as much of it as is there (XW-base-3). */
  *#processMessage(): Task {
    if (!this.#readable) return
    if (!this.#incoming) {
      yield* this.responseMutex.lock()
      // A suspend may have held it, and the ring may be another one now.
      if (!this.#readable) {
        this.responseMutex.unlock()
        return
      }
      this.#incoming = { header: new Uint8Array(HEADER_SIZE), headerBytes: 0, body: null, bodyBytes: 0 }
    }
    const { header } = this.#incoming
    if (!this.#receive(this.#incoming)) return
    const { body } = this.#incoming
    this.#incoming = null
    if (body) this.#dispatch(header, body)
    this.responseMutex.unlock()
  }

  /** True if the message is whole, or cannot become so: then its body is null. */
  #receive(message: Incoming): boolean {
    while (message.headerBytes < HEADER_SIZE) {
      const part = this.#take(HEADER_SIZE - message.headerBytes)
      if (!part.length) return false
      message.header.set(part, message.headerBytes)
      message.headerBytes += part.length
    }
    const length = u32(message.header, 12)
    if (length > PAYLOAD_MAX) {
      this.badMessages.push(`a message of ${length} bytes (EINVAL)`)
      return true
    }
    message.body ??= new Uint8Array(length)
    while (message.bodyBytes < length) {
      const part = this.#take(length - message.bodyBytes)
      if (!part.length) return false
      message.body.set(part, message.bodyBytes)
      message.bodyBytes += part.length
    }
    return true
  }

  #take(max: number): Uint8Array {
    const full = (this.#ring.get('rsp_prod') - this.#ring.get('rsp_cons')) >>> 0 >= RING_SIZE
    const bytes = this.#ring.read(RESPONSES, max)
    if (typeof bytes === 'number') throw new Error('the store ring is corrupt')
    // The daemon waits for room only if there was none.
    if (full && bytes.length) this.#peer.channel.notify()
    return bytes
  }

  #dispatch(header: Uint8Array, body: Uint8Array): void {
    const type = u32(header, 0)
    if (type === XS.WATCH_EVENT) {
      const strings = bytesToText(body).split('\0')
      // Exactly two strings, each with its nul (XW-base-5).
      if (strings.length === 3 && strings[2] === '') this.#events(strings[0]!, strings[1]!)
      else this.badMessages.push(`a watch event of ${strings.length - 1} strings (EINVAL)`)
      return
    }
    const id = u32(header, 4)
    const request = this.#pending.get(id)
    if (!request) {
      this.badMessages.push(`a reply to request ${id}, which nobody made (ENOENT)`)
      return
    }
    if (type === request.type) request.reply = body
    else request.error = new XenStoreError(typeName(request.type), request.about, errorOf(body))
    this.#replied.wakeAll()
  }

  /** As much as the ring takes; the rest goes on from there. */
  #processWrites(): void {
    const before = this.#ring.get('req_prod')
    for (;;) {
      const written = this.#ring.write(REQUESTS, (to, at, max) => this.#fill(to, at, max))
      if (written < 0) throw new Error('the store ring is corrupt')
      if (!written) break
    }
    const after = this.#ring.get('req_prod')
    // Only if the daemon had read all that was there before, or it is still at it (XS-ring-4).
    if (after !== before && (after - this.#ring.get('req_cons')) >>> 0 <= (after - before) >>> 0)
      this.#peer.channel.notify()
  }

  #fill(to: Uint8Array, at: number, max: number): number {
    let done = 0
    while (done < max && this.#outputHead < this.#output.length) {
      const first = this.#output[this.#outputHead]!
      const run = Math.min(max - done, first.length - this.#sent)
      to.set(first.subarray(this.#sent, this.#sent + run), at + done)
      done += run
      this.#sent += run
      if (this.#sent < first.length) break
      this.#sent = 0
      if (++this.#outputHead === this.#output.length) {
        this.#output = []
        this.#outputHead = 0
      }
    }
    return done
  }
}

function u32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
}

function errorOf(body: Uint8Array): XsErrorName {
  const text = bytesToText(body).replace(/\0$/, '')
  return ERROR_NAME.test(text) ? (text as XsErrorName) : 'EINVAL'
}
