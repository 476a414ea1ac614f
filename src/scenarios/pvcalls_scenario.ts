/**
 * The debate of May 2017 on one host: a guest opens many sockets to an echo server, bytes flow both ways while CPUs of
 * domain 0 go offline and come back, sockets are closed unevenly and others are opened, all are closed. Run under one
 * policy and then the other, it tells what each of them costs.
 *
 *     1  connect          how are sockets spread over workers?
 *     2  traffic, CPUs go offline and come back     is every byte in order, and on which CPU was it copied?
 *     3  the sockets of every other worker close    uneven on purpose; under per-socket every other socket
 *     4  as many connect again                      is the spread even?
 *     5  all close                                  what is left?
 */

import {
  type IoCounters,
  type IoPolicyName,
  LocalNetwork,
  type NetSocket,
  type Placement,
} from '../dom0/backends/index.js'
import type { Pvcallsfront, PvSocket } from '../dom0/frontends/index.js'
import { Host } from '../dom0/host/host.js'
import type { Task } from '../dom0/kernel/index.js'

/** Options of a run. */
export interface PvcallsScenarioOptions {
  readonly policy: IoPolicyName
  /** CPUs of domain 0. */
  readonly cpus: number
  readonly sockets: number
  /** Bytes that each socket sends, and gets back. */
  readonly bytes: number
  readonly maxIoworkers?: number
  /** Order of the data rings. Default 1. */
  readonly ringOrder?: number
  readonly placement?: Placement
  /** Times that a CPU goes offline or comes back during the traffic. Default 0. */
  readonly flips?: number
  /** Gives whole numbers below `n`: the order in which ready threads run, and all else that is random. */
  readonly random: (n: number) => number
}

/** How many sockets workers have. */
export interface Spread {
  readonly workers: number
  readonly min: number
  readonly max: number
}

/** What happened. */
export interface PvcallsScenarioResult {
  readonly policy: IoPolicyName
  readonly cpus: number
  readonly sockets: number
  readonly bytes: number
  readonly workersAtStart: number
  readonly afterConnect: Spread
  /** The counters when the traffic ended. */
  readonly traffic: IoCounters
  /** Of the copies of the traffic but each socket's first: the part on the CPU of the same socket's copy before. */
  readonly ownCpuShare: number
  /** Times that a CPU went offline or came back, before the traffic ended. */
  readonly flips: number
  readonly afterUnevenClose: Spread
  readonly afterReconnect: Spread
  readonly workersAtEnd: number
  /** Workers that were made in all. */
  readonly workersMade: number
  /** What does not add up; empty if all is well. */
  readonly problems: readonly string[]
}

const SERVER = { ip: '10.0.0.1', port: 7 }
/** A prime number of bytes: no ring's size is a multiple of the pattern's. */
const PATTERN = 65521
/** Frames that a guest's kernel takes for itself, amply. */
const KERNEL_FRAMES = 256

/** Frames that a guest needs for so many sockets. */
export const framesFor = (sockets: number, ringOrder: number): number => KERNEL_FRAMES + sockets * (1 + 2 ** ringOrder)

/** Sends back what it gets. */
export function echo(socket: NetSocket): void {
  const piece = new Uint8Array(16384)
  let from = 0
  let to = 0
  const pump = () => {
    for (;;) {
      if (from === to) {
        const got = socket.receive(piece)
        if (got === 0) return socket.close()
        if (got < 0) return
        from = 0
        to = got
      }
      const sent = socket.send(piece.subarray(from, to))
      if (sent <= 0) return
      from += sent
    }
  }
  let busy = false
  // A send may wake the other end, which may wake this one again: one at a time.
  const run = () => {
    if (busy) return
    busy = true
    pump()
    busy = false
  }
  socket.onReadable = run
  socket.onWritable = run
  run()
}

/** Tells the story. */
export class PvcallsScenario {
  readonly host: Host
  readonly #options: PvcallsScenarioOptions
  readonly #ringOrder: number
  readonly #problems: string[] = []
  readonly #pattern = new Uint8Array(2 * PATTERN)
  readonly #sockets: PvSocket[] = []
  #flips = 0

  constructor(options: PvcallsScenarioOptions) {
    this.#options = options
    const { policy, cpus, sockets, maxIoworkers, placement, random, ringOrder = 1 } = options
    this.#ringOrder = ringOrder
    for (let i = 0; i < this.#pattern.length; i++) this.#pattern[i] = Math.imul(i % PATTERN, 0x9e3779b1) >>> 11
    const network = new LocalNetwork()
    this.host = new Host({
      dom0Cpus: cpus,
      guest: { frames: framesFor(sockets, ringOrder), levels: 3, maxEvtchnPort: Infinity },
      scheduler: { choose: random, preempt: () => random(4) === 0 },
      pvcalls: {
        network,
        policy,
        maxSockets: sockets + 1,
        choose: random,
        ...(maxIoworkers !== undefined && { maxIoworkers }),
        ...(placement && { placement }),
      },
    })
    const listener = network.bind(SERVER)
    if (typeof listener === 'number') throw new Error('the server has no address')
    listener.listen(sockets, () => {})
    listener.onConnection = () => {
      for (let socket = listener.accept(); socket; socket = listener.accept()) echo(socket)
    }
  }

  run(): PvcallsScenarioResult {
    const { host } = this
    const { policy, cpus, sockets, bytes, flips = 0 } = this.#options
    const io = host.pvcalls.policy
    const workersAtStart = io.workers.length
    const { ok, errors } = host.complete('xl', host.toolstack.create({ name: 'guest', pvcalls: true }))
    if (!ok) throw new Error(errors.map(({ line }) => line).join('\n'))
    host.pass(1)
    this.#guest((front) => this.#connect(front, sockets))
    const afterConnect = this.#spread()
    this.#traffic(flips)
    const traffic = { ...io.stats }
    const uneven = this.#unevenly()
    this.#guest(() => this.#close(uneven))
    const afterUnevenClose = this.#spread()
    this.#guest((front) => this.#connect(front, uneven.length))
    const afterReconnect = this.#spread()
    this.#guest(() => this.#close([...this.#sockets]))
    const expected = sockets * bytes
    for (const moved of [traffic.bytesIn, traffic.bytesOut])
      if (moved !== expected) this.#problems.push(`${moved} bytes moved instead of ${expected}`)
    if (host.pvcalls.connection(1)?.sockets.size) this.#problems.push('sockets are left')
    const { copiesOnOwnCpu, copiesElsewhere } = traffic
    return {
      policy,
      cpus,
      sockets,
      bytes,
      workersAtStart,
      afterConnect,
      traffic,
      ownCpuShare: copiesOnOwnCpu / Math.max(1, copiesOnOwnCpu + copiesElsewhere),
      flips: this.#flips,
      afterUnevenClose,
      afterReconnect,
      workersAtEnd: io.workers.length,
      workersMade: io.stats.workersMade,
      problems: this.#problems,
    }
  }

  /** Runs programs in the guest at the same time, to their ends. */
  #guest(...programs: ((front: Pvcallsfront) => Task)[]): void {
    const { kernel, pvcalls } = this.host.guest(1)
    const threads = programs.map((program) => kernel.process('program', () => program(pvcalls)))
    this.host.scheduler.run()
    const left = threads.filter(({ state }) => state !== 'X')
    if (left.length) throw new Error(`${left.length} programs wait for ${left[0]!.waiting?.what}`)
  }

  *#connect(front: Pvcallsfront, count: number): Task {
    yield* front.ready()
    for (let i = 0; i < count; i++) this.#sockets.push(yield* front.connect(SERVER, { ringOrder: this.#ringOrder }))
  }

  *#close(which: readonly PvSocket[]): Task {
    for (const socket of which) {
      this.#sockets.splice(this.#sockets.indexOf(socket), 1)
      yield* socket.close()
    }
  }

  #spread(): Spread {
    const counts = this.host.pvcalls.policy.workers.map(({ size }) => size)
    return {
      workers: counts.length,
      min: Math.min(...counts, counts.length ? counts[0]! : 0),
      max: Math.max(0, ...counts),
    }
  }

  /** All sockets send and check what comes back, while CPUs come and go. */
  #traffic(flips: number): void {
    const { host } = this
    const programs = this.#sockets.flatMap((socket, i) => [() => this.#send(socket, i), () => this.#check(socket, i)])
    let left = programs.length
    const counted = programs.map(
      (program) =>
        function* (): Task {
          yield* program()
          left--
        },
    )
    host.kernel.kthreadRun('hotplug', 'hotplug', () => this.#hotplug(flips, () => left > 0))
    this.#guest(...counted)
  }

  /** Some CPU goes offline, or comes back if it is; and so on, as long as there is traffic. */
  *#hotplug(flips: number, goesOn: () => boolean): Task {
    const { cpus } = this.host.kernel
    const { random } = this.#options
    for (; this.#flips < flips && goesOn(); this.#flips++) {
      const cpu = random(cpus.count)
      if (!cpus.isOnline(cpu)) yield* cpus.bringOnline(cpu)
      else if (cpus.onlineCount > 1) yield* cpus.takeOffline(cpu)
      for (let i = random(8); i-- > 0; ) yield
    }
    for (let cpu = 0; cpu < cpus.count; cpu++) yield* cpus.bringOnline(cpu)
  }

  /** Where stream `i` begins in the pattern. */
  #offset(i: number): number {
    return (i * 7919) % PATTERN
  }

  *#send(socket: PvSocket, i: number): Task {
    const { bytes } = this.#options
    const pattern = this.#pattern
    for (let at = 0; at < bytes; ) {
      const from = (at + this.#offset(i)) % PATTERN
      const length = Math.min(bytes - at, PATTERN)
      yield* socket.send(pattern.subarray(from, from + length))
      at += length
    }
  }

  *#check(socket: PvSocket, i: number): Task {
    const { bytes } = this.#options
    const pattern = this.#pattern
    const piece = new Uint8Array(socket.end.ring.in.size)
    for (let at = 0; at < bytes; ) {
      const got = yield* socket.receiveInto(piece)
      if (!got) {
        this.#problems.push(`stream ${i} ends after ${at} bytes`)
        return
      }
      let from = (at + this.#offset(i)) % PATTERN
      for (let k = 0; k < got; k++) {
        if (piece[k] !== pattern[from]) {
          this.#problems.push(`stream ${i}: byte ${at + k} is ${piece[k]} instead of ${pattern[from]}`)
          return
        }
        if (++from === PATTERN) from = 0
      }
      at += got
    }
  }

  /** The sockets of every other worker; of workers that have one each, every other of them. */
  #unevenly(): PvSocket[] {
    const ids = new Set(
      this.host.pvcalls.policy.workers.flatMap(({ sockets }, i) => (i % 2 ? [...sockets].map(({ id }) => id) : [])),
    )
    return this.#sockets.filter(({ id }) => ids.has(id))
  }
}
