/**
 * The sockets of one guest, by the id that it chose, and its commands on them (PV-26, PV-43 to PV-48).
 *
 * As in Linux, SOCKET only says whether such a socket could exist; what a socket is comes with CONNECT, BIND or ACCEPT. So
 * an id that nobody announced may be connected, and one that never became anything has nothing to be released.
 *
 * Pages are mapped and the event channel is bound before the network is asked, where Linux does it after: a guest with
 * wrong references makes no connections. Whatever it sends, the answer is one of the protocol's errors.
 */

import {
  AF_INET,
  decodeAddress,
  IPPROTO_IP,
  PVCALLS,
  PVCALLS_ERRNO,
  type PvcallsRequest,
  SOCK_STREAM,
} from '../../io/pvcalls_protocol.js'
import type { Task } from '../../kernel/index.js'
import { ActiveSocket } from './active_socket.js'
import { MappedDataRing } from './mapping.js'
import type { NetSocket } from './network.js'
import type { PvcallsShared } from './options.js'
import { PassiveSocket, type WaitingCall } from './passive_socket.js'

const { EBADF, EEXIST, EFAULT, EINTR, EINVAL, EISCONN, ENFILE, ENOTSUP } = PVCALLS_ERRNO

/** Connections that wait to be accepted, whatever the guest asks for: each of them has buffers in domain 0. */
const MOST_WAITING = 4096

/** An active socket, its event channel, and its CONNECT while that is under way. */
interface ActiveEntry {
  readonly socket: ActiveSocket
  readonly port: number
  connecting: { readonly request: PvcallsRequest; giveUp: () => void } | undefined
}

/** The result of a command: now, or not yet. */
type Answer = number | undefined

/** All sockets of a guest. */
export class SocketTable {
  readonly #shared: PvcallsShared
  readonly #domid: number
  readonly #respond: (request: PvcallsRequest, ret: number) => void
  readonly #active = new Map<bigint, ActiveEntry>()
  readonly #passive = new Map<bigint, PassiveSocket>()
  /** Ports of sockets that an ACCEPT waits for, by socket. */
  readonly #accepting = new Map<ActiveSocket, number>()

  /** `respond` answers a command that was not answered at once. */
  constructor(shared: PvcallsShared, domid: number, respond: (request: PvcallsRequest, ret: number) => void) {
    this.#shared = shared
    this.#domid = domid
    this.#respond = respond
  }

  /** Sockets with a data ring, connected or about to be. */
  get active(): ActiveSocket[] {
    return [...this.#active.values()].map(({ socket }) => socket)
  }

  /** Sockets with an address. */
  get passive(): PassiveSocket[] {
    return [...this.#passive.values()]
  }

  /** Sockets of all kinds. */
  get size(): number {
    return this.#active.size + this.#passive.size + this.#accepting.size
  }

  /** Executes a command; undefined: it is answered later. Never throws, whatever the request says. */
  *execute(request: PvcallsRequest): Task<Answer> {
    switch (request.cmd) {
      case PVCALLS.SOCKET:
        return this.#socket(request)
      case PVCALLS.CONNECT:
        return this.#connect(request)
      case PVCALLS.RELEASE:
        return yield* this.#release(request.id)
      case PVCALLS.BIND:
        return this.#bind(request)
      case PVCALLS.LISTEN:
        return this.#listen(request)
      case PVCALLS.ACCEPT:
        return this.#accept(request)
      case PVCALLS.POLL:
        return this.#poll(request)
      default:
        return ENOTSUP
    }
  }

  #socket({ domain, type, protocol }: PvcallsRequest): Answer {
    const fits = domain === AF_INET && type === SOCK_STREAM && protocol === IPPROTO_IP
    return fits ? 0 : this.#shared.unsupported
  }

  // --- active sockets ------------------------------------------------------------------------------------------------

  #connect(request: PvcallsRequest): Answer {
    const { id } = request
    if (this.#active.has(id)) return EISCONN
    if (this.#passive.has(id) || this.#isAccepting(id)) return EINVAL
    const address = decodeAddress(request.addr, request.len)
    if (!address) return EINVAL
    const opened = this.#open(id, request.ref, request.evtchn)
    if (typeof opened === 'number') return opened
    const entry: ActiveEntry = { ...opened, connecting: { request, giveUp: () => {} } }
    this.#active.set(id, entry)
    const giveUp = this.#shared.network.connect(address, (result) => this.#connected(entry, result))
    if (entry.connecting) entry.connecting.giveUp = giveUp
    return undefined
  }

  #connected(entry: ActiveEntry, result: NetSocket | number): void {
    const { socket, port, connecting } = entry
    entry.connecting = undefined
    if (typeof result === 'number') {
      this.#active.delete(socket.id)
      this.#close(socket, port)
      this.#respond(connecting!.request, result)
      return
    }
    this.#start(socket, result)
    this.#respond(connecting!.request, 0)
  }

  /** It has a connection: from here on it has a worker as well (PV-3). */
  #start(socket: ActiveSocket, net: NetSocket): void {
    socket.attach(net)
    this.#shared.policy.add(socket)
  }

  /** Maps the ring and binds the event channel of a socket to be; or an error. Nothing is left behind by a failure. */
  #open(id: bigint, ref: number, evtchn: number): { socket: ActiveSocket; port: number } | number {
    const { host, maxPageOrder, maxSockets } = this.#shared
    if (this.size >= maxSockets) return ENFILE
    const ring = MappedDataRing.map(host.grants, this.#domid, ref, maxPageOrder)
    if (!ring) return EFAULT
    let port = 0
    const name = `d${this.#domid}:${id}`
    const { channels } = host
    const socket = new ActiveSocket(id, name, ring, {
      notify: () => channels.send(port),
      deliverTo: (cpu) => channels.moveToVcpu(port, cpu),
    })
    try {
      const handler = () => socket.wakeWrite()
      port = channels.bindInterdomain(this.#domid, evtchn, { name: `pvcalls ${name}`, handler })
    } catch {
      // Not a port of the guest's that waits for domain 0: free, bound already, or another's (EC-inter-*).
      ring.unmap()
      return EFAULT
    }
    return { socket, port }
  }

  /** The opposite of `#open`, for a socket that no worker has. */
  #close(socket: ActiveSocket, port: number): void {
    socket.release()
    this.#shared.host.channels.close(port)
    socket.dispose()
  }

  *#release(id: bigint): Task<Answer> {
    const entry = this.#active.get(id)
    if (entry) yield* this.#releaseActive(entry)
    const passive = this.#passive.get(id)
    if (passive) this.#releasePassive(passive)
    return 0
  }

  /** PV-27. A connect that is still under way ends with EBADF. */
  *#releaseActive(entry: ActiveEntry): Task {
    const { socket, port, connecting } = entry
    this.#active.delete(socket.id)
    if (connecting) {
      entry.connecting = undefined
      connecting.giveUp()
      this.#respond(connecting.request, EBADF)
    }
    // In this order: no more wake-ups; the worker lets go; the port, so that nothing is signalled after the answer; pages.
    socket.release()
    yield* this.#shared.policy.remove(socket)
    this.#close(socket, port)
  }

  // --- passive sockets -----------------------------------------------------------------------------------------------

  #bind(request: PvcallsRequest): Answer {
    const { id } = request
    if (this.#active.has(id) || this.#passive.has(id) || this.#isAccepting(id)) return EINVAL
    if (this.size >= this.#shared.maxSockets) return ENFILE
    const address = decodeAddress(request.addr, request.len)
    if (!address) return EINVAL
    const net = this.#shared.network.bind(address)
    if (typeof net === 'number') return net
    this.#passive.set(id, new PassiveSocket(id, net, (call, accepted) => this.#arrived(call, accepted)))
    return 0
  }

  #listen(request: PvcallsRequest): Answer {
    const passive = this.#passive.get(request.id)
    if (!passive || passive.pendingListen) return EINVAL
    passive.pendingListen = request
    passive.net.listen(Math.min(request.backlog, MOST_WAITING), (ret) => {
      passive.pendingListen = undefined
      if (ret === 0) passive.listening = true
      this.#respond(request, ret)
    })
    return undefined
  }

  #accept(request: PvcallsRequest): Answer {
    const passive = this.#passive.get(request.id)
    if (!passive?.listening) return EINVAL
    if (passive.waiting) return EINTR
    const { id_new } = request
    if (this.#active.has(id_new) || this.#passive.has(id_new) || this.#isAccepting(id_new)) return EEXIST
    const opened = this.#open(id_new, request.ref, request.evtchn)
    if (typeof opened === 'number') return opened
    this.#accepting.set(opened.socket, opened.port)
    passive.wait({ request, socket: opened.socket })
    return undefined
  }

  /** Is it the id of a socket that an ACCEPT waits for? */
  #isAccepting(id: bigint): boolean {
    for (const { id: other } of this.#accepting.keys()) if (other === id) return true
    return false
  }

  #poll(request: PvcallsRequest): Answer {
    const passive = this.#passive.get(request.id)
    if (!passive?.listening) return EINVAL
    if (passive.waiting) return EINTR
    passive.wait({ request, socket: undefined })
    return undefined
  }

  /** A waiting call has what it waited for. */
  #arrived({ request, socket }: WaitingCall, net: NetSocket | undefined): void {
    if (socket && net) {
      const port = this.#accepting.get(socket)!
      this.#accepting.delete(socket)
      this.#active.set(socket.id, { socket, port, connecting: undefined })
      this.#start(socket, net)
    }
    this.#respond(request, 0)
  }

  /** Calls that wait on it end with EBADF: every request is answered. */
  #releasePassive(passive: PassiveSocket): void {
    this.#passive.delete(passive.id)
    const { waiting, pendingListen } = passive
    passive.waiting = undefined
    passive.net.close()
    if (waiting?.socket) {
      this.#close(waiting.socket, this.#accepting.get(waiting.socket)!)
      this.#accepting.delete(waiting.socket)
    }
    if (waiting) this.#respond(waiting.request, EBADF)
    if (pendingListen) this.#respond(pendingListen, EBADF)
  }

  /** All sockets go. */
  *releaseAll(): Task {
    for (const passive of this.passive) this.#releasePassive(passive)
    for (const entry of [...this.#active.values()]) yield* this.#releaseActive(entry)
  }
}
