/**
 * pvcallsfront: socket calls of a guest, executed by domain 0 (PV-40 to PV-48).
 *
 *     thread ─ command ─▶ command ring ─▶ backend        the thread sleeps until the response with its req_id comes
 *     thread ─ send, receive ─▶ data ring ◀─▶ backend    without commands
 */

import { integer, known } from '../../../check.js'
import {
  AF_INET,
  CommandFrontRing,
  decodeResponse,
  encodeAddress,
  encodeRequest,
  type InetAddress,
  IPPROTO_IP,
  PVCALLS,
  PVCALLS_ERRNO,
  PVCALLS_VERSION,
  type PvcallsFields,
  SOCK_STREAM,
} from '../../io/index.js'
import type { Task, WaitQueue } from '../../kernel/index.js'
import { XenbusState } from '../../xenbus/index.js'
import type { Frontend, FrontendBus, GrantedPage } from '../frontend_bus.js'
import { PvcallsError } from './errors.js'
import { PvListener, PvSocket, type SocketCalls } from './front_socket.js'
import { SocketEnd } from './socket_end.js'
import { Turns } from './turns.js'

const { Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState
const ADDRESS_LEN = 16
const DEFAULT_ORDER = 4
const BACKLOG = 128
const U32_MAX = 0xffff_ffff

/** What connecting needs while it lasts. */
interface Link {
  readonly page: GrantedPage
  readonly ring: CommandFrontRing
  readonly port: number
  /** Its response index cannot be: nothing in the ring is believed any more. */
  broken: boolean
}

/** A command that was given. */
interface Call {
  ret: number | undefined
  readonly answered: WaitQueue
}

/** A guest's pvcalls device. */
export class Pvcallsfront implements Frontend, SocketCalls {
  readonly nodename: string
  readonly backend: string
  readonly #bus: FrontendBus
  readonly #changed: WaitQueue
  /** Commands without a response, by req_id. */
  readonly #calls = new Map<number, Call>()
  readonly #ends = new Set<SocketEnd>()
  readonly #turns: Turns
  #link: Link | undefined
  #lastReqId = 0
  #maxPageOrder = 0
  #lastId = 0n

  constructor(bus: FrontendBus, nodename: string, backend: string) {
    this.#bus = bus
    this.nodename = nodename
    this.backend = backend
    this.#changed = bus.host.kernel.waitQueue()
    this.#turns = new Turns(bus.host.kernel, () => this.connected)
  }

  get state(): number {
    return this.#bus.stateOf(this)
  }

  /** Greatest order of a data ring that the backend takes. */
  get maxPageOrder(): number {
    return this.#maxPageOrder
  }

  // --- the device ----------------------------------------------------------------------------------------------------

  *backendChanged(state: number): Task {
    if (state === InitWait && this.state === Initialising) yield* this.#offer()
    if (state === Connected && this.state === Initialised) yield* this.#bus.switchState(this, Connected)
    if (state === Closing || (state === Closed && this.state === Closing)) {
      this.#dismantle()
      yield* this.#bus.switchState(this, Closed)
    }
    this.#changed.wakeAll()
  }

  /** Commands can be given. */
  get connected(): boolean {
    return this.state === Connected && this.#link !== undefined && !this.#link.broken
  }

  /** Waits until they can. */
  *ready(): Task {
    yield* this.#changed.until(() => this.connected, { state: 'S', what: 'the pvcalls backend' })
  }

  *#offer(): Task {
    const { host } = this.#bus
    const { nodename, backend } = this
    const versions = yield* host.xenbus.readIfExists(`${backend}/versions`)
    const calls = yield* host.xenbus.readIfExists(`${backend}/function-calls`)
    this.#maxPageOrder = Number(yield* host.xenbus.readIfExists(`${backend}/max-page-order`))
    // A backend that speaks another version, or executes nothing, is not for this frontend.
    if (!versions?.split(',').includes(PVCALLS_VERSION) || calls !== '1' || !(this.maxPageOrder >= 1)) {
      yield* this.#bus.switchState(this, Closed)
      return
    }
    const page = host.grantPage()
    const ring = new CommandFrontRing(page.bytes)
    const link: Link = { page, ring, port: host.allocUnbound(0, nodename, () => this.#responses(link)), broken: false }
    this.#link = link
    yield* host.xenbus.transaction(function* (tx) {
      yield* host.xenbus.write(`${nodename}/version`, PVCALLS_VERSION, tx)
      yield* host.xenbus.write(`${nodename}/port`, link.port, tx)
      yield* host.xenbus.write(`${nodename}/ring-ref`, page.gref, tx)
    })
    yield* this.#bus.switchState(this, Initialised)
  }

  /** The backend has let go of all pages and ports. */
  #dismantle(): void {
    const link = this.#link
    this.#link = undefined
    if (!link) return
    for (const end of [...this.#ends]) this.#freeEnd(end)
    this.#bus.host.close(link.port)
    this.#bus.host.endGrants([link.page])
    this.#wakeAll()
  }

  /** Whoever waits for the backend looks again. */
  #wakeAll(): void {
    this.#changed.wakeAll()
    this.#turns.wake()
    for (const { answered } of this.#calls.values()) answered.wakeAll()
    for (const { changed } of this.#ends) changed.wakeAll()
  }

  #freeEnd(end: SocketEnd): void {
    // A backend that cannot be talked to may have its pages still: they come back with the device.
    if (this.#link?.broken) return
    this.#ends.delete(end)
    end.free()
  }

  // --- commands ------------------------------------------------------------------------------------------------------

  #responses(link: Link): void {
    for (let bytes = link.ring.pull(); bytes; bytes = link.ring.pull()) {
      if (bytes === 'broken') {
        link.broken = true
        this.#wakeAll()
        return
      }
      const { req_id, ret } = decodeResponse(bytes)
      const call = this.#calls.get(req_id)
      if (!call) continue
      call.ret = ret
      call.answered.wakeAll()
    }
    this.#changed.wakeAll()
  }

  /**
   * Gives a command, any command, and waits for its response: 0 or a negative error; -ENOTCONN if the backend is gone
   * before it answers.
   */
  *command(cmd: number, fields: PvcallsFields): Task<number> {
    yield* this.#changed.until(() => !this.connected || !this.#link!.ring.full, { state: 'S', what: 'a free slot' })
    if (!this.connected) return PVCALLS_ERRNO.ENOTCONN
    const link = this.#link!
    this.#lastReqId = (this.#lastReqId + 1) >>> 0
    const reqId = this.#lastReqId
    const call: Call = { ret: undefined, answered: this.#bus.host.kernel.waitQueue() }
    this.#calls.set(reqId, call)
    if (link.ring.push(encodeRequest(reqId, cmd, fields))) this.#bus.host.send(link.port)
    yield* call.answered.until(() => call.ret !== undefined || this.#link !== link || link.broken, {
      state: 'S',
      what: `the response to command ${cmd}`,
    })
    this.#calls.delete(reqId)
    return call.ret ?? PVCALLS_ERRNO.ENOTCONN
  }

  /** The same; throws PvcallsError with the command's name unless the answer is 0. */
  *must(name: string, cmd: number, fields: PvcallsFields): Task {
    const ret = yield* this.command(cmd, fields)
    if (ret < 0) throw new PvcallsError(name, ret)
  }

  #newId(): bigint {
    return ++this.#lastId
  }

  /** The order of a socket's data ring. @throws ParameterError for one that the backend does not take. */
  #order(call: string, ringOrder = Math.min(DEFAULT_ORDER, this.maxPageOrder)): number {
    return integer(call, 'ringOrder', ringOrder, 1, this.maxPageOrder)
  }

  /**
   * A data ring and event channel for a socket, for who gives commands himself: an order that the backend does not take
   * is its to refuse. @throws ParameterError, Error, XenError as `SocketEnd`.
   */
  newEnd(name: string, ringOrder: number): SocketEnd {
    const end = new SocketEnd(this.#bus.host, name, ringOrder)
    this.#ends.add(end)
    return end
  }

  *#socket(): Task<bigint> {
    const id = this.#newId()
    yield* this.must('SOCKET', PVCALLS.SOCKET, { id, domain: AF_INET, type: SOCK_STREAM, protocol: IPPROTO_IP })
    return id
  }

  // --- sockets -------------------------------------------------------------------------------------------------------

  /**
   * Connects. `ringOrder`: the data ring has 2^ringOrder pages, half for each direction; default 4.
   * @throws ParameterError for an invalid address, order or option; PvcallsError with what the backend answered; XenError ENOSPC if the guest has no port left (PV-acc-14).
   */
  *connect(address: InetAddress, options: { ringOrder?: number } = {}): Task<PvSocket> {
    const addr = encodeAddress(address, 'connect')
    const { ringOrder } = known('connect', options, ['ringOrder'])
    const order = this.#order('connect', ringOrder)
    const id = yield* this.#socket()
    const end = this.newEnd(`socket ${id}`, order)
    const fields = {
      id,
      addr,
      len: ADDRESS_LEN,
      ref: end.ring.indexPage.gref,
      evtchn: end.port,
    }
    try {
      yield* this.must('CONNECT', PVCALLS.CONNECT, fields)
    } catch (error) {
      this.#freeEnd(end)
      throw error
    }
    return new PvSocket(this, id, end)
  }

  /** Binds a socket and listens. @throws ParameterError for an invalid address or option; PvcallsError */
  *listen(address: InetAddress, options: { backlog?: number } = {}): Task<PvListener> {
    const addr = encodeAddress(address, 'listen')
    const { backlog = BACKLOG } = known('listen', options, ['backlog'])
    integer('listen', 'backlog', backlog, 0, U32_MAX)
    const id = yield* this.#socket()
    yield* this.must('BIND', PVCALLS.BIND, { id, addr, len: ADDRESS_LEN })
    try {
      yield* this.must('LISTEN', PVCALLS.LISTEN, { id, backlog })
    } catch (error) {
      yield* this.release(id, undefined)
      throw error
    }
    return new PvListener(this, id, address)
  }

  poll(id: bigint): Task {
    return this.#turns.take('POLL', id, () => this.must('POLL', PVCALLS.POLL, { id }))
  }

  accept(id: bigint, ringOrder?: number): Task<PvSocket> {
    return this.#turns.take('ACCEPT', id, () => this.#accept(id, ringOrder))
  }

  *#accept(id: bigint, ringOrder?: number): Task<PvSocket> {
    const idNew = this.#newId()
    const end = this.newEnd(`socket ${idNew}`, this.#order('accept', ringOrder))
    const fields = { id, id_new: idNew, ref: end.ring.indexPage.gref, evtchn: end.port }
    try {
      yield* this.must('ACCEPT', PVCALLS.ACCEPT, fields)
    } catch (error) {
      this.#freeEnd(end)
      throw error
    }
    return new PvSocket(this, idNew, end)
  }

  /** Releases a socket, and takes its pages and port back when the backend has answered. */
  *release(id: bigint, end: SocketEnd | undefined): Task {
    this.#turns.close(id)
    yield* this.command(PVCALLS.RELEASE, { id })
    if (end) this.#freeEnd(end)
  }
}
