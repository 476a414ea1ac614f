/**
 * Policy `per-socket`: a worker for each socket, made at connect or accept, bound to nothing (PV-20), ended at release
 * (PV-28: the first merged version forgot that).
 *
 * Where a worker runs that is bound to nothing is the kernel's scheduler's choice at each wake-up, and the hypervisor's
 * after it. Two simple models stand for it, and bound it from both sides:
 *
 *     spread   on a CPU with the fewest threads that want to run, whichever: a busy host with a balancing scheduler
 *     last     where it ran before, unless another CPU has fewer such threads: the best that it can hope for
 */

import { integer } from '../../../check.js'
import { type CpuSubscriber, type Cpus, calloutsOf, type Kernel, type Task } from '../../kernel/index.js'
import type { ActiveSocket } from './active_socket.js'
import { IoWorker } from './io_worker.js'
import type { IoPolicy, IoPolicyContext } from './policy.js'
import { type IoCounters, IoStats } from './stats.js'

/** Picks the online CPU with the fewest threads; `last` wins a tie if it is given. */
function leastLoaded(cpus: Cpus, last: number, choose: (n: number) => number): number {
  let best: number[] = []
  let least = Number.POSITIVE_INFINITY
  for (let cpu = 0; cpu < cpus.count; cpu++) {
    if (!cpus.isOnline(cpu) || cpus.load(cpu) > least) continue
    if (cpus.load(cpu) < least) best = []
    least = cpus.load(cpu)
    best.push(cpu)
  }
  return best.includes(last) ? last : best[choose(best.length)]!
}

/** The policy. */
export class PerSocketPolicy implements IoPolicy, CpuSubscriber {
  readonly name = 'per-socket'
  readonly #stats = new IoStats()
  readonly #kernel: Kernel
  readonly #place: (last: number) => number
  readonly #workers = new Map<ActiveSocket, IoWorker>()

  constructor({ kernel, options }: IoPolicyContext) {
    const { placement = 'spread', choose } = options
    this.#kernel = kernel
    let next = 0
    const inTurn = (n: number): number => next++ % n
    const callouts = calloutsOf(kernel.scheduler)
    const chosen =
      choose && ((n: number) => callouts.run('choose', 0, () => integer('pvcalls', 'choose()', choose(n), 0, n - 1)))
    this.#place = (last) => leastLoaded(kernel.cpus, placement === 'last' ? last : -1, chosen ?? inTurn)
    kernel.cpus.subscribe(this)
  }

  get stats(): IoCounters {
    return this.#stats.counters
  }

  get workers(): IoWorker[] {
    return [...this.#workers.values()]
  }

  add(socket: ActiveSocket): void {
    const worker = new IoWorker(this.#kernel, `pvcalls_io ${socket.name}`, this.#place, this.#stats)
    this.#workers.set(socket, worker)
    this.#stats.made(this.#workers.size)
    worker.add(socket)
  }

  *remove(socket: ActiveSocket): Task {
    const worker = this.#workers.get(socket)
    if (!worker) return
    this.#workers.delete(socket)
    worker.remove(socket)
    yield* worker.stop()
  }

  // biome-ignore lint/correctness/useYield: nothing to wait for
  *cpuOffline(cpu: number): Task {
    for (const worker of this.#workers.values()) worker.leaveCpu(cpu)
  }

  *cpuOnline(): Task {}
}
