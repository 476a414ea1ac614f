/** What the tests of pvcalls share: a host with guests that have sockets, and peers on the in-process network. */

import type { LocalSocket } from '../../src/dom0/backends/index.js'
import {
  Host,
  type HostOptions,
  LocalNetwork,
  type NetListener,
  type NetSocket,
  type Pvcallsfront,
  type PvcallsOptions,
} from '../../src/dom0/index.js'
import type { InetAddress } from '../../src/dom0/io/index.js'
import type { Task } from '../../src/dom0/kernel/index.js'
import { inside } from '../../src/domain/handles.js'

export const SERVER: InetAddress = { ip: '10.0.0.1', port: 80 }

/** Options of a lab. */
export interface LabOptions extends Omit<HostOptions, 'pvcalls'> {
  readonly pvcalls?: Omit<PvcallsOptions, 'network'>
  readonly bufferBytes?: number
  readonly guests?: number
}

/** A host whose guests, 1 to `guests`, have a pvcalls device that is connected. */
export class PvcallsLab {
  readonly host: Host
  readonly network: LocalNetwork

  constructor(options: LabOptions = {}) {
    const { pvcalls, bufferBytes, guests = 1, guest, ...rest } = options
    this.network = new LocalNetwork(bufferBytes === undefined ? {} : { bufferBytes })
    this.host = new Host({
      ...rest,
      guest: { frames: 256, maxEvtchnPort: Infinity, ...guest },
      pvcalls: { ...pvcalls, network: this.network },
    })
    for (let i = 1; i <= guests; i++) this.create(`guest${i}`)
  }

  /** Creates a guest with sockets; its front. */
  create(name: string): Pvcallsfront {
    const { host } = this
    const { ok, errors, domid } = host.complete('xl', host.toolstack.create({ name, pvcalls: true }))
    if (!ok) throw new Error(errors.map(({ line }) => line).join('\n'))
    this.guest(domid, function* (front) {
      yield* front.ready()
    })
    return this.front(domid)
  }

  front(domid = 1): Pvcallsfront {
    return this.host.guest(domid).pvcalls
  }

  /** Starts a program in a guest; what becomes of it. */
  spawn<T>(domid: number, program: (front: Pvcallsfront) => Task<T>): { done: boolean; result?: T; error?: unknown } {
    const job: { done: boolean; result?: T; error?: unknown } = { done: false }
    const { host } = this
    const guest = host.guest(domid)
    guest.kernel.process('program', function* () {
      try {
        // The device is found by a thread of the guest's, which may not have run yet.
        while (!guest.bus.frontends.length) yield* guest.kernel.sleep(1e6)
        job.result = yield* program(guest.pvcalls)
      } catch (error) {
        job.error = error
      }
      job.done = true
    })
    return job
  }

  /** Runs a program in a guest to its end. */
  guest<T>(domid: number, program: (front: Pvcallsfront) => Task<T>): T {
    const job = this.spawn(domid, program)
    this.host.scheduler.advance(60e9, () => job.done)
    if (!job.done) throw new Error(`a program of d${domid} has not ended:\n${this.stacks(domid)}`)
    if (job.error) throw job.error
    return job.result as T
  }

  stacks(domid: number): string {
    return this.host
      .guest(domid)
      .kernel.ps()
      .map(({ name, state, waits }) => `${name} ${state} ${waits}`)
      .join('\n')
  }

  /** Runs something in dom0 to its end. */
  dom0<T>(task: Task<T>): T {
    return this.host.complete('dom0', task)
  }

  run(): void {
    this.host.scheduler.run()
  }

  get policy() {
    return this.host.pvcalls.policy
  }

  /** Sockets of each worker, by CPU or in order. */
  get counts(): number[] {
    return this.policy.workers.map(({ size }) => size)
  }

  /** vCPU of dom0 to which the event channel of a socket of d1 is delivered. */
  vcpuOf(id: bigint): number {
    const { channels, dom0 } = this.host
    for (let port = 1; port < 8192; port++)
      if (channels.nameOf(port) === `pvcalls d1:${id}`) return inside(dom0).ports.notifyVcpu(port)
    throw new Error(`socket ${id} has no event channel`)
  }

  /** Listens on the network, outside the guests. */
  serve(address: InetAddress = SERVER, backlog = 100_000): NetListener {
    const listener = this.network.bind(address)
    if (typeof listener === 'number') throw new Error(`bind: ${listener}`)
    listener.listen(backlog, () => {})
    return listener
  }

  /** Connects from outside the guests. */
  connect(address: InetAddress): LocalSocket {
    let socket: NetSocket | number = 0
    this.network.connect(address, (result) => {
      socket = result
    })
    this.run()
    if (typeof socket === 'number') throw new Error(`connect: ${socket}`)
    return socket as LocalSocket
  }

  /** Names of dom0's threads that begin so. */
  threads(prefix: string): string[] {
    return this.host.kernel
      .ps()
      .map(({ name }) => name)
      .filter((name) => name.startsWith(prefix))
  }
}

/** Accepts a connection that must be there. */
export function accept(listener: NetListener): LocalSocket {
  const socket = listener.accept()
  if (!socket) throw new Error('no connection waits')
  return socket as LocalSocket
}

/** All that can be received now. */
export function drain(socket: NetSocket, max = 1 << 18): Uint8Array {
  const bytes = new Uint8Array(max)
  let at = 0
  for (let got = 1; got > 0 && at < max; ) {
    got = socket.receive(bytes.subarray(at))
    if (got > 0) at += got
  }
  return bytes.subarray(0, at)
}

/** Are these the same bytes? Quicker than a matcher, for many of them. */
export const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
export const bytesOf = (value: string): Uint8Array => new TextEncoder().encode(value)

/** A known stream of bytes: the `n`th of stream `seed`. */
export function pattern(seed: number, from: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) {
    const at = from + i
    bytes[i] = (at * 31 + (at >>> 8) * 17 + (at >>> 16) * 7 + seed * 101) & 0xff
  }
  return bytes
}
