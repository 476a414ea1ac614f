/**
 * An ioworker: a kernel thread with a list of sockets, served in the order of their wake-ups, one turn each (PV-11,
 * PV-12). A socket that has more to do goes to the end of the list.
 *
 * Bound, it runs on one CPU. Unbound, it is put on some CPU each time it is woken, by its `place`.
 */

import type { Kernel, Task, Thread, WaitQueue } from '../../kernel/index.js'
import { type ActiveSocket, type SocketWorker, serviceOf } from './active_socket.js'
import type { IoStats } from './stats.js'

/** Where a worker runs: a CPU, or what chooses one at each wake-up; it is given the CPU of the last time, or -1. */
export type WorkerCpu = number | ((last: number) => number)

/** One worker. */
export class IoWorker implements SocketWorker {
  readonly name: string
  readonly #sockets = new Set<ActiveSocket>()
  /** The CPU that it is bound to; undefined if it is not. */
  readonly boundTo: number | undefined
  readonly thread: Thread
  readonly #place: (last: number) => number
  readonly #kernel: Kernel
  readonly #wait: WaitQueue
  readonly #stats: IoStats
  readonly #list: ActiveSocket[] = []
  #cpu = -1
  #awake = false

  constructor(kernel: Kernel, name: string, cpu: WorkerCpu, stats: IoStats) {
    this.#kernel = kernel
    this.#stats = stats
    this.name = name
    this.boundTo = typeof cpu === 'number' ? cpu : undefined
    this.#place = typeof cpu === 'number' ? () => cpu : cpu
    this.#wait = kernel.waitQueue()
    this.thread = kernel.kthreadRun(name, 'pvcalls_back_ioworker', (thread) => this.#run(thread))
  }

  /** Its sockets, in the order in which they came. */
  get sockets(): readonly ActiveSocket[] {
    return [...this.#sockets]
  }

  /** How many sockets it has. */
  get size(): number {
    return this.#sockets.size
  }

  /** CPU that it runs on, or ran on last; -1 before its first turn. */
  get cpu(): number {
    return this.#cpu
  }

  /** Takes a socket; what it was woken for meanwhile is done here (PV-acc-5). */
  add(socket: ActiveSocket): void {
    this.#sockets.add(socket)
    serviceOf(socket).worker = this
    // What was signalled on the old CPU is raised again on this one: no notification is lost on the way.
    if (this.boundTo !== undefined) socket.deliverTo(this.boundTo)
    if (socket.io > 0) this.enqueue(socket)
  }

  /** Lets go of a socket. No turn is under way: a turn does not sleep. */
  remove(socket: ActiveSocket): void {
    this.#sockets.delete(socket)
    const service = serviceOf(socket)
    if (service.queued) this.#list.splice(this.#list.indexOf(socket), 1)
    service.queued = false
    service.worker = undefined
  }

  enqueue(socket: ActiveSocket): void {
    const service = serviceOf(socket)
    if (service.queued) return
    service.queued = true
    this.#list.push(socket)
    if (this.#awake) return
    this.#awake = true
    this.#stats.workerWakeups++
    this.#enter(this.#place(this.#cpu))
    this.#wait.wakeAll()
  }

  /** Its CPU went offline: an unbound worker that runs goes elsewhere. */
  leaveCpu(cpu: number): void {
    if (this.#cpu !== cpu || !this.#awake) return
    this.#kernel.cpus.leave(cpu)
    this.#enter(this.#place(-1))
  }

  #enter(cpu: number): void {
    this.#cpu = cpu
    this.#kernel.cpus.enter(cpu)
  }

  #sleep(): void {
    if (!this.#awake) return
    this.#awake = false
    this.#kernel.cpus.leave(this.#cpu)
  }

  *#run(thread: Thread): Task {
    while (!thread.shouldStop) {
      if (!this.#list.length) {
        this.#sleep()
        yield* this.#wait.until(() => this.#list.length > 0 || thread.shouldStop, { state: 'S', what: 'sockets' })
        continue
      }
      const socket = this.#list.shift()!
      serviceOf(socket).queued = false
      // Counted where they are handled, so that one that comes during a turn, or during a move, counts once.
      this.#stats.wakeups += socket.io
      // What wakes it meanwhile puts it at the end of the list.
      this.#stats.turn(socket, socket.turn(), this.#cpu)
      yield
    }
    this.#sleep()
  }

  /** Ends the thread and waits for that. Its sockets have another worker, or none, by now. */
  stop(): Task {
    return this.#kernel.kthreadStop(this.thread)
  }

  /** Ends it without waiting. */
  retire(): void {
    this.#kernel.kthreadAskToStop(this.thread)
  }
}
