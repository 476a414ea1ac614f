/**
 * A process's handle to the store, over a socket: one request at a time or several, replies by id, and its watches.
 * libxenstore to the toolstack's libxl.
 */

import type { Callouts } from '../../callout.js'
import { type ClientTransport, PacketReader, typeName, XenStoreError } from '../../xenstore/index.js'
import { AwaitedOutcome, Exchange, toLatin1 } from '../../xenstore/parts.js'
import { calloutsOf, type Kernel, type Task, type WaitQueue } from '../kernel/index.js'
import { StoreTasks } from '../xenbus/index.js'

/** A connection of a process. */
export class XsHandle extends StoreTasks {
  readonly #transport: ClientTransport
  readonly #reader = new PacketReader()
  readonly #wait: WaitQueue
  readonly #watches = new Map<string, (path: string) => void>()
  readonly #exchange = new Exchange({ event: (path, token) => this.#event(path, token) })
  readonly #callouts: Callouts
  #lastToken = 0
  #ended = false

  constructor(kernel: Kernel, transport: ClientTransport) {
    super()
    this.#callouts = calloutsOf(kernel.scheduler)
    this.#transport = transport
    this.#wait = kernel.waitQueue()
    transport.listen(
      (bytes) => this.#receive(bytes),
      () => this.#end(),
    )
  }

  *request(type: number, body: string, tx = 0): Task<Uint8Array> {
    const outcome = new AwaitedOutcome(() => this.#wait.wakeAll())
    const about = body.slice(0, 200).split('\0', 1)[0]!
    if (this.#ended) throw new XenStoreError(typeName(type), about, 'EIO')
    this.#transport.send(this.#exchange.request(type, tx, toLatin1(body), about, outcome).packet)
    const waiting = { state: 'S' as const, what: 'the store' }
    yield* this.#wait.until(() => outcome.here, waiting)
    return outcome.take()
  }

  /** Watches a path: `onEvent` is called with each event's path. Returns what ends it. */
  *watch(path: string, onEvent: (path: string) => void): Task<() => Task> {
    const token = `x${++this.#lastToken}`
    this.#watches.set(token, onEvent)
    yield* this.watchPath(path, token)
    const end = () => {
      this.#watches.delete(token)
      return this.unwatchPath(path, token)
    }
    return end
  }

  #event(path: string, token: string): void {
    const onEvent = this.#watches.get(token)
    if (onEvent) this.#callouts.run(`onEvent for ${path}`, undefined, () => onEvent(path))
  }

  /** Ends the connection: requests under way and later ones fail with EIO. */
  close(): void {
    this.#transport.close()
    this.#end()
  }

  #end(): void {
    this.#ended = true
    this.#exchange.end()
  }

  #receive(bytes: Uint8Array): void {
    this.#reader.push(bytes)
    for (let packet = this.#reader.next(); packet; packet = this.#reader.next()) this.#exchange.accept(packet)
    this.#reader.detach()
  }
}
