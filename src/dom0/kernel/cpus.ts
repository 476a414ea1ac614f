/**
 * The CPUs of a domain as its kernel has them: its vCPUs (PV-10), which of them are online, and how many threads want to
 * run on each. The scheduler runs one thread at a time whatever their number; which CPU a thread is on is book-keeping,
 * for those that bind threads to CPUs or care where memory was touched last.
 *
 *     takeOffline(c):  lock ─ c is offline ─ subscribers move what they had there, one after another ─ unlock
 */

import { integer } from '../../check.js'
import { Mutex } from './locks.js'
import { calloutsOf, type Scheduler } from './scheduler.js'
import type { Task } from './task.js'

/** Somebody who has things on CPUs. */
export interface CpuSubscriber {
  /** A CPU is offline from now on: whatever is on it has to go elsewhere. May sleep. */
  cpuOffline(cpu: number): Task
  /** A CPU is online. May sleep. */
  cpuOnline(cpu: number): Task
}

/** As many as Linux can be built for. */
const MOST_CPUS = 8192

/** All CPUs of a kernel. */
export class Cpus {
  /** Online or not, numbered from 0. */
  readonly count: number
  readonly #online: boolean[]
  readonly #load: number[]
  readonly #subscribers: CpuSubscriber[] = []
  readonly #lock: Mutex
  readonly #scheduler: Scheduler
  #onlineCount: number

  /** @throws ParameterError if `count` is not a whole number of at least 1. */
  constructor(scheduler: Scheduler, count = 1) {
    integer('Cpus', 'count', count, 1, MOST_CPUS)
    this.count = count
    this.#scheduler = scheduler
    this.#online = Array(count).fill(true)
    this.#load = Array(count).fill(0)
    this.#onlineCount = count
    this.#lock = new Mutex(scheduler, 'cpu_hotplug_lock')
  }

  /** Number of CPUs that are online. */
  get onlineCount(): number {
    return this.#onlineCount
  }

  /** CPUs that are online, ascending. */
  get online(): number[] {
    return Array.from({ length: this.count }, (_, cpu) => cpu).filter((cpu) => this.#online[cpu])
  }

  isOnline(cpu: number): boolean {
    return this.#online[cpu] === true
  }

  subscribe(subscriber: CpuSubscriber): void {
    this.#subscribers.push(subscriber)
  }

  // --- load ----------------------------------------------------------------------------------------------------------

  /** Threads that run or wait to run on a CPU, as far as they told. */
  load(cpu: number): number {
    return this.#load[cpu] ?? 0
  }

  /** A thread wants to run on a CPU. */
  enter(cpu: number): void {
    this.#load[cpu]!++
  }

  /** It sleeps again. */
  leave(cpu: number): void {
    this.#load[cpu]!--
  }

  // --- hotplug -------------------------------------------------------------------------------------------------------

  /**
   * `echo 0 > /sys/devices/system/cpu/cpuN/online`. Returns when all that was on it has moved. Harmless if it is offline.
   * @throws Error for the last one that is online, or a number that is no CPU.
   */
  *takeOffline(cpu: number): Task {
    this.#check('takeOffline', cpu)
    yield* this.#lock.lock()
    try {
      if (!this.#online[cpu]) return
      if (this.#onlineCount === 1) throw new Error(`CPU ${cpu} is the last one online and stays so (EBUSY)`)
      this.#online[cpu] = false
      this.#onlineCount--
      yield* this.#tell('cpuOffline', cpu)
    } finally {
      this.#lock.unlock()
    }
  }

  /** Brings a CPU back. Harmless if it is online. @throws Error for a number that is no CPU. */
  *bringOnline(cpu: number): Task {
    this.#check('bringOnline', cpu)
    yield* this.#lock.lock()
    try {
      if (this.#online[cpu]) return
      this.#online[cpu] = true
      this.#onlineCount++
      yield* this.#tell('cpuOnline', cpu)
    } finally {
      this.#lock.unlock()
    }
  }

  /** A subscriber that fails is reported; the others are told all the same. */
  *#tell(what: keyof CpuSubscriber, cpu: number): Task {
    for (const subscriber of this.#subscribers)
      try {
        yield* subscriber[what](cpu)
      } catch (error) {
        calloutsOf(this.#scheduler).report(error, `${what} for CPU ${cpu}`)
      }
  }

  #check(call: string, cpu: number): void {
    integer(call, 'cpu', cpu, 0, this.count - 1)
  }
}
