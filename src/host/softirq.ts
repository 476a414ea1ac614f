/**
 * Softirqs as Xen has them: numbered, raised by setting a bit, run where it is safe (xen/include/xen/softirq.h,
 * xen/common/softirq.c). `process_pending_softirqs` is what long loops call between two pieces of work: it runs all but
 * the schedule softirqs, which would leave the loop.
 *
 * The mask of pending softirqs is a BitSet; handlers run in ascending order of their numbers, and a softirq that is raised while
 * others run is served before the call returns.
 */

import BitSet from 'bitset'
import { Callouts } from '../callout.js'
import { integer, ParameterError } from '../check.js'

/** Xen's common softirqs; the architecture's follow. */
export const SOFTIRQ = Object.freeze({
  TIMER: 0,
  RCU: 1,
  SCHED_SLAVE: 2,
  SCHEDULE: 3,
  NEW_TLBFLUSH_CLOCK_PERIOD: 4,
  TASKLET: 5,
  TIME_CALIBRATE: 6,
  VCPU_KICK: 7,
  MACHINE_CHECK: 8,
  PCI_SERR: 9,
  HVM_DPCI: 10,
} as const)

/** Number of softirqs. */
export const NR_SOFTIRQS = 11

/** Softirqs served since the last reset of the statistics, and how long the slowest waited from its raise. */
export interface SoftirqStats {
  readonly served: number
  readonly longestDelayNs: number
}

/** The softirqs of one processor of the host. */
export class Softirqs {
  readonly #handlers: (() => void)[] = []
  readonly #pending = new BitSet()
  readonly #raisedAtNs: number[] = []
  readonly #nowNs: () => number
  readonly #callouts: Callouts
  #served = 0
  #longestDelayNs = 0

  /** @internal */
  constructor(nowNs: () => number, callouts = new Callouts()) {
    this.#nowNs = nowNs
    this.#callouts = callouts
  }

  /** Installs the handler of a softirq (open_softirq). */
  open(nr: number, handler: () => void): void {
    if (typeof handler !== 'function') throw new ParameterError('Softirqs.open', 'handler', handler, 'a function')
    this.#handlers[integer('Softirqs.open', 'nr', nr, 0, NR_SOFTIRQS - 1)] = handler
  }

  /** Marks a softirq pending (raise_softirq). */
  raise(nr: number): void {
    integer('Softirqs.raise', 'nr', nr, 0, NR_SOFTIRQS - 1)
    if (this.#pending.get(nr)) return
    this.#pending.set(nr, 1)
    this.#raisedAtNs[nr] = this.#nowNs()
  }

  /** What was served since the last `resetStats`, or since the start. */
  get stats(): SoftirqStats {
    return Object.freeze({ served: this.#served, longestDelayNs: this.#longestDelayNs })
  }

  /** Statistics begin again at 0. */
  resetStats(): void {
    this.#served = 0
    this.#longestDelayNs = 0
  }

  /** True if any is pending (softirq_pending). */
  get pending(): boolean {
    return !this.#pending.isEmpty()
  }

  /** Runs what is pending, except the schedule softirqs. */
  processPending(): void {
    this.#run((1 << SOFTIRQ.SCHEDULE) | (1 << SOFTIRQ.SCHED_SLAVE))
  }

  /** Runs everything that is pending (do_softirq). */
  run(): void {
    this.#run(0)
  }

  #run(ignore: number): void {
    for (;;) {
      const due = this.#pending.toArray().find((nr) => !(ignore & (1 << nr)))
      if (due === undefined) return
      this.#pending.set(due, 0)
      this.#served++
      this.#longestDelayNs = Math.max(this.#longestDelayNs, this.#nowNs() - this.#raisedAtNs[due]!)
      this.#callouts.run(`handler of softirq ${due}`, undefined, () => this.#handlers[due]?.())
    }
  }
}
