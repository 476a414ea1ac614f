/**
 * Policy `bounded`: what the review of May 2017 came to (PV-1 to PV-9). Workers are made by connects that need them, at
 * most MAX_IOWORKERS and never more than CPUs are online; each is bound to a CPU; a socket stays with its worker.
 *
 *     connect ─▶ fewer workers than allowed, and all of them have sockets?   yes: a new one, on the lowest free CPU
 *                                                                            no: the one with the fewest sockets
 *
 * A CPU that goes offline takes its worker with it; the sockets go to others one by one, each by the same choice. Nothing
 * else is moved, so evenness comes back through new connects, not by force.
 */

import type { CpuSubscriber, Kernel, Task } from '../../kernel/index.js'
import type { ActiveSocket } from './active_socket.js'
import { IoWorker } from './io_worker.js'
import { type IoPolicy, type IoPolicyContext, MAX_IOWORKERS } from './policy.js'
import { type IoCounters, IoStats } from './stats.js'

/** The policy. */
export class BoundedPolicy implements IoPolicy, CpuSubscriber {
  readonly name = 'bounded'
  readonly #stats = new IoStats()
  /** Most workers, whatever the number of CPUs. */
  readonly maxIoworkers: number
  readonly #kernel: Kernel
  readonly #idleNs: number
  /** By CPU: there is at most one for each. */
  readonly #workers = new Map<number, IoWorker>()
  /** When a worker lost its last socket, in ns. */
  readonly #idleSince = new WeakMap<IoWorker, number>()

  constructor({ kernel, options }: IoPolicyContext) {
    const { maxIoworkers = MAX_IOWORKERS, idleNs = 0 } = options
    this.maxIoworkers = maxIoworkers
    this.#idleNs = idleNs
    this.#kernel = kernel
    kernel.cpus.subscribe(this)
  }

  get stats(): IoCounters {
    return this.#stats.counters
  }

  /** Living workers, by CPU. */
  get workers(): IoWorker[] {
    return [...this.#workers.values()].sort((a, b) => a.boundTo! - b.boundTo!)
  }

  /** How many there may be now (PV-1). */
  get limit(): number {
    return Math.min(this.maxIoworkers, this.#kernel.cpus.onlineCount)
  }

  add(socket: ActiveSocket): void {
    this.#choose().add(socket)
  }

  /** PV-6. */
  #choose(): IoWorker {
    let best: IoWorker | undefined
    for (const worker of this.#workers.values()) {
      const order = best ? worker.size - best.size || worker.boundTo! - best.boundTo! : -1
      if (order < 0) best = worker
    }
    if (best && (best.size === 0 || this.#workers.size >= this.limit)) return best
    return this.#make()
  }

  #make(): IoWorker {
    const { cpus } = this.#kernel
    let cpu = 0
    while (!cpus.isOnline(cpu) || this.#workers.has(cpu)) cpu++
    const worker = new IoWorker(this.#kernel, `pvcalls_io/${cpu}`, cpu, this.#stats)
    this.#workers.set(cpu, worker)
    this.#stats.made(this.#workers.size)
    return worker
  }

  *remove(socket: ActiveSocket): Task {
    const worker = this.#workerOf(socket)
    if (!worker) return
    worker.remove(socket)
    if (worker.size || this.#workers.get(worker.boundTo!) !== worker) return
    if (this.#idleNs === 0) {
      this.#workers.delete(worker.boundTo!)
      yield* worker.stop()
      return
    }
    const { scheduler } = this.#kernel
    const since = scheduler.nowNs
    this.#idleSince.set(worker, since)
    scheduler.setTimer(since + this.#idleNs, () => this.#expire(worker, since))
  }

  /** The idle time is over, unless the worker was used meanwhile: then a later timer is its own. */
  #expire(worker: IoWorker, since: number): void {
    const used = worker.size > 0 || this.#idleSince.get(worker) !== since
    if (used || this.#workers.get(worker.boundTo!) !== worker) return
    this.#workers.delete(worker.boundTo!)
    worker.retire()
  }

  #workerOf(socket: ActiveSocket): IoWorker | undefined {
    return socket.worker instanceof IoWorker ? socket.worker : undefined
  }

  // --- CPUs come and go (PV-8, PV-9) ---------------------------------------------------------------------------------

  *cpuOffline(cpu: number): Task {
    const old = this.#workers.get(cpu)
    if (!old) return
    // No new socket goes there from here on.
    this.#workers.delete(cpu)
    const { scheduler } = this.#kernel
    for (const socket of old.sockets) {
      // Released while another one was moved.
      if (socket.worker !== old) continue
      old.remove(socket)
      // Others may run here: wake-ups are counted in the socket meanwhile, and it may be released.
      yield* scheduler.preemptionPoint()
      if (socket.released) continue
      this.#choose().add(socket)
      this.#stats.moves++
    }
    yield* old.stop()
  }

  /** New sockets may use it, by `choose`; none is moved. */
  *cpuOnline(): Task {}
}
