/**
 * dom0's kernel and a store, and nothing else: no hypervisor, no backends, no toolstack. For tests and measurements of
 * xenbus and its deliveries: whoever embeds it plays all the others.
 *
 *     xenbus ──ring page──▶ xenstored ◀── write, rm, introduce … (at once, as another process would)
 */

import { encodeText, InProcessTransport, PacketReader, type RingPeer, XenStored, XS } from '../../xenstore/index.js'
import { Kernel, Scheduler, type SchedulerOptions, type Task } from '../kernel/index.js'
import { type DeliveryObserver, type Design, Xenbus } from '../xenbus/index.js'

/** Options. */
export interface StoreHostOptions {
  readonly xenMtwatch?: boolean
  readonly design?: Design
  readonly observer?: DeliveryObserver
  readonly scheduler?: SchedulerOptions
}

/** Both ends of a ring page in plain memory; a notification runs the other end's callback. */
export function memoryRing(): { server: RingPeer; client: RingPeer } {
  const bytes = new Uint8Array(4096)
  const callbacks = { server: () => {}, client: () => {} }
  const end = (own: 'server' | 'client', other: 'server' | 'client'): RingPeer => ({
    page: () => bytes,
    channel: {
      notify: () => callbacks[other](),
      onEvent: (callback) => {
        callbacks[own] = callback
      },
    },
    close: () => {},
  })
  return { server: end('server', 'client'), client: end('client', 'server') }
}

const DOM0_PORT = 1

/** A kernel with a store. */
export class StoreHost {
  readonly scheduler: Scheduler
  readonly kernel: Kernel
  readonly store: XenStored
  readonly xenbus: Xenbus
  /** Guests that were shut down. */
  readonly shutdown = new Set<number>()
  readonly #transport: InProcessTransport
  readonly #reader = new PacketReader()
  #ring = memoryRing()
  #answer = ''

  constructor(options: StoreHostOptions = {}) {
    this.scheduler = new Scheduler(options.scheduler)
    this.kernel = new Kernel(this.scheduler, 'd0')
    const { scheduler } = this
    const onError = options.scheduler?.onError
    this.store = new XenStored({
      ...(onError && { onError }),
      host: {
        state: (domid) => ({ shutdown: this.shutdown.has(domid), dying: false }),
        connect: (domid) => (domid === 0 ? this.#ring.server : memoryRing().server),
      },
      later: (step) =>
        void this.kernel.process('xenstored', function* () {
          yield* scheduler.preemptionPoint()
          step()
        }),
    })
    this.#transport = new InProcessTransport(this.store)
    this.#transport.listen(
      (bytes) => this.#receive(bytes),
      () => {},
    )
    this.store.introduce(0, 0, DOM0_PORT)
    const { xenMtwatch, design, observer } = options
    this.xenbus = new Xenbus({ xenMtwatch, design, observer, kernel: this.kernel, peer: this.#ring.client })
  }

  /** Puts a fresh ring in the place of the old one, as on another host; the kernel's end of it. */
  newRing(): RingPeer {
    this.#ring = memoryRing()
    this.store.introduce(0, 0, DOM0_PORT)
    return this.#ring.client
  }

  #receive(bytes: Uint8Array): void {
    this.#reader.push(bytes)
    for (let packet = this.#reader.next(); packet; packet = this.#reader.next())
      this.#answer = packet.type === XS.ERROR ? String.fromCharCode(...packet.body).slice(0, -1) : 'OK'
    this.#reader.detach()
  }

  #request(type: number, body: string): void {
    this.#answer = ''
    this.#transport.send(encodeText(type, 0, 0, body))
    if (this.#answer !== 'OK') throw new Error(`the store answered ${this.#answer || 'nothing'} to ${body}`)
  }

  /** Writes a node, from outside. Nobody has run yet when it returns. */
  write(path: string, value: string | number = ''): void {
    this.#request(XS.WRITE, `${path}\0${value}`)
  }

  rm(path: string): void {
    this.#request(XS.RM, `${path}\0`)
  }

  introduce(domid: number): void {
    this.#request(XS.INTRODUCE, `${[domid, 1, DOM0_PORT].join('\0')}\0`)
  }

  release(domid: number): void {
    this.#request(XS.RELEASE, `${domid}\0`)
  }

  /** Starts a process. */
  start(task: Task, name = 'process'): void {
    this.kernel.process(name, () => task)
  }

  /** Runs something in a process to its end. */
  complete<T>(task: Task<T>): T {
    let end: { value: T } | { error: unknown } | undefined
    this.kernel.process('process', function* () {
      try {
        end = { value: yield* task }
      } catch (error) {
        end = { error }
      }
    })
    this.scheduler.run()
    if (!end) throw new Error('the process has not ended')
    const ended = end as { value: T } | { error: unknown }
    if ('error' in ended) throw ended.error
    return ended.value
  }

  /** Runs whatever is ready. */
  run(): void {
    this.scheduler.run()
  }
}
