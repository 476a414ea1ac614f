/**
 * One connected frontend: its command ring, the thread that executes commands in order, and its sockets.
 *
 *     event ─▶ thread: request ─▶ SocketTable ─┬─ an answer at once, or after the worker let go (RELEASE)
 *                                              └─ later, from an interrupt: CONNECT, ACCEPT, POLL, LISTEN
 */

import { CommandBackRing } from '../../io/pvcalls_command_ring.js'
import { decodeRequest, encodeResponse, type PvcallsRequest } from '../../io/pvcalls_protocol.js'
import type { Task, Thread, WaitQueue } from '../../kernel/index.js'
import type { MappedPage } from '../grants.js'
import type { PvcallsShared } from './options.js'
import { SocketTable } from './socket_table.js'

/** A connected frontend. */
export class PvcallsConnection {
  readonly domid: number
  /** @internal */
  readonly sockets: SocketTable
  /** dom0's end of the command ring's event channel. */
  readonly port: number
  readonly #shared: PvcallsShared
  readonly #page: MappedPage
  readonly #ring: CommandBackRing
  readonly #wait: WaitQueue
  readonly #thread: Thread
  readonly #onBroken: () => void
  #event = true
  #closed = false
  #gone = false

  /**
   * Binds `remotePort` and begins to execute. `onBroken`: the ring makes no sense, and nothing more is executed.
   * @throws XenError if the port is not one that dom0 may bind.
   */
  constructor(shared: PvcallsShared, domid: number, page: MappedPage, remotePort: number, onBroken: () => void) {
    const { channels, bus } = shared.host
    const { kernel } = bus
    this.#shared = shared
    this.domid = domid
    this.#page = page
    this.#onBroken = onBroken
    this.#ring = new CommandBackRing(page.bytes)
    this.#wait = kernel.waitQueue()
    this.sockets = new SocketTable(shared, domid, (request, ret) => this.#respond(request, ret))
    this.port = channels.bindInterdomain(domid, remotePort, {
      name: `pvcalls-backend d${domid}`,
      handler: () => {
        this.#event = true
        this.#wait.wakeAll()
      },
    })
    this.#thread = kernel.kthreadRun(`pvcalls d${domid}`, 'pvcalls_back_event', (thread) => this.#run(thread))
  }

  *#run(thread: Thread): Task {
    while (!thread.shouldStop) {
      yield* this.#wait.until(() => this.#event || thread.shouldStop, { state: 'S', what: 'commands' })
      this.#event = false
      for (let slot = this.#ring.pull(); slot && !thread.shouldStop; slot = this.#ring.pull()) {
        if (slot === 'broken') {
          this.#onBroken()
          return
        }
        const request = decodeRequest(slot)
        const ret = yield* this.sockets.execute(request)
        if (ret !== undefined) this.#respond(request, ret)
        yield
      }
    }
  }

  #respond({ req_id, cmd, id }: PvcallsRequest, ret: number): void {
    // Nobody reads it any more.
    if (this.#closed) return
    if (this.#ring.push(encodeResponse({ req_id, cmd, ret, id }))) this.#shared.host.channels.send(this.port)
  }

  /**
   * Lets go of everything: sockets, workers, rings, ports, pages (PV-40, PV-acc-15). Returns when all is gone, also if
   * another thread began with it.
   */
  *close(): Task {
    const { channels, grants, bus } = this.#shared.host
    if (this.#closed) {
      yield* this.#wait.until(() => this.#gone, { what: 'a connection to be gone' })
      return
    }
    this.#closed = true
    yield* bus.kernel.kthreadStop(this.#thread)
    yield* this.sockets.releaseAll()
    channels.close(this.port)
    grants.unmap(this.#page)
    this.#gone = true
    this.#wait.wakeAll()
  }
}
