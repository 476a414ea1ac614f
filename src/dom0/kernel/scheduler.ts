/**
 * The scheduler: one processor for the threads of all kernels of a host, and their timers.
 *
 *     ready ──choose──▶ running ──yield──▶ S or D (on a wait queue) ──wake──▶ ready
 *                                └───────▶ R (gave way) ─────────────────────▶ ready
 *
 * It runs only in `run`, and looks at the clock that was passed in: the same clock, choices and calls give the
 * same run. With a clock that stands still `advance` moves it from timer to timer; with a real one the embedder calls
 * `run` again at `nextTimerNs`. Between two `yield`s nobody else runs: that is what a spin lock is here.
 */

import { Callouts, type OnError } from '../../callout.js'
import { options as checkOptions, func, having, integer, nested, type Table } from '../../check.js'
import { CheckedClock, type Clock, ManualClock } from '../../clock.js'
import { Queue } from '../../queue.js'
import { ambient, type TraceSink } from '../../trace/index.js'
import type { Task } from './task.js'
import { DeadlockError, findCircle, recordOf, type Thread, type ThreadState, type Waiting } from './thread.js'
import { type Timer, Timers } from './timers.js'

/** Options of a scheduler. */
export interface SchedulerOptions {
  /** Default: a ManualClock that stands still. */
  clock?: Clock
  /** Picks one of `n` ready threads, 0 the longest ready. Default: always 0. */
  choose?: (n: number) => number
  /** Asked at places where a thread could be interrupted: is it now? Default never. */
  preempt?: () => boolean
  /** A thread changed its state: for timelines. */
  onState?: (thread: Thread, state: ThreadState) => void
  /** A thread became ready: an embedder in real time calls `run` soon, and not from here. Often called for nothing. */
  onReady?: () => void
  /** Where threads' states are recorded: a Trace, or hooks that look on. Default: none. */
  trace?: TraceSink
  /** A thread ended with an error. Default: it is reported as any other. */
  onOops?: (thread: Thread, error: unknown) => void
  /** Gets what one of the user's functions threw. Default: it is thrown again outside of any call. */
  onError?: OnError
}

/** A check for each option. */
export const SCHEDULER_OPTIONS: Table<SchedulerOptions> = {
  clock: having('nowNs', 'wallclockNs'),
  choose: func,
  preempt: func,
  onState: func,
  onReady: func,
  trace: nested<TraceSink>({ record: func, upcall: func }),
  onOops: func,
  onError: func,
}

/** Steps after which a run that never becomes idle is given up. */
const MAX_STEPS = 200_000_000

/** The way out of a scheduler's threads to the user's functions, for the kernels on it. */
export let calloutsOf: (scheduler: Scheduler) => Callouts

/** Runs threads. */
export class Scheduler {
  readonly clock: Clock
  readonly #options: SchedulerOptions
  readonly #record: TraceSink['record'] | undefined
  readonly #callouts: Callouts
  readonly #time: Clock
  readonly #timers: Timers
  readonly #ready = new Queue<Thread>()
  #current: Thread | undefined
  #steps = 0

  static {
    calloutsOf = (scheduler) => scheduler.#callouts
  }

  /** @throws ParameterError for an option that is unknown or of the wrong type. */
  constructor(options: SchedulerOptions = {}) {
    this.#options = checkOptions('Scheduler', options, SCHEDULER_OPTIONS)
    this.clock = options.clock ?? new ManualClock()
    this.#callouts = new Callouts(options.onError)
    this.#time = new CheckedClock(this.clock, this.#callouts)
    this.#timers = new Timers(this.#callouts)
    const sink = options.trace ?? ambient().trace
    this.#record = sink?.record?.bind(sink)
  }

  /** The running thread; undefined in an interrupt or outside. */
  get current(): Thread | undefined {
    return this.#current
  }

  /** The running thread. @throws Error in an interrupt: nobody could sleep. */
  get running(): Thread {
    if (!this.#current) throw new Error('this must run in a thread')
    return this.#current
  }

  /** Threads that got the processor so far, counted each time. */
  get steps(): number {
    return this.#steps
  }

  // --- threads -------------------------------------------------------------------------------------------------------

  /** Makes a new thread ready. For `Kernel`. */
  start(thread: Thread, body: Task<unknown>): void {
    recordOf(thread).body = body
    this.#tell(thread, 'R')
    this.#enqueue(thread)
  }

  #enqueue(thread: Thread): void {
    recordOf(thread).ready = true
    this.#ready.push(thread)
    const { onReady } = this.#options
    if (onReady) this.#callouts.run('onReady', undefined, onReady)
  }

  /** Wakes a sleeping thread; it looks at its condition again. Harmless for any other. */
  wake(thread: Thread): void {
    const record = recordOf(thread)
    if (record.state !== 'S' && record.state !== 'D') return
    if (record.ready || record.parked) return
    if (thread.owner.frozen) record.parked = true
    else this.#enqueue(thread)
  }

  /** A kernel is no longer frozen: those of its threads that were woken meanwhile are ready. */
  thaw(threads: Iterable<Thread>): void {
    for (const thread of threads) {
      const record = recordOf(thread)
      if (!record.parked) continue
      record.parked = false
      this.#enqueue(thread)
    }
  }

  /**
   * Puts the running thread to sleep until it is woken. Wake-ups may come for nothing: callers look again.
   * @throws DeadlockError if the threads it waits for wait for it.
   */
  *sleep(state: 'S' | 'D', waiting: Waiting): Task {
    const thread = this.running
    const circle = waiting.on && findCircle(thread, waiting.on())
    if (circle) throw new DeadlockError(circle)
    const record = recordOf(thread)
    record.waiting = waiting
    this.#setState(thread, state)
    yield
    record.waiting = undefined
    this.#setState(thread, 'R')
  }

  /** A place where the running thread may be interrupted by others that are ready. */
  *preemptionPoint(): Task {
    if (this.#callouts.run('preempt', false, () => this.#options.preempt?.() ?? false)) yield
  }

  #setState(thread: Thread, state: ThreadState): void {
    recordOf(thread).state = state
    this.#tell(thread, state)
  }

  #tell(thread: Thread, state: ThreadState): void {
    const { onState } = this.#options
    if (onState) this.#callouts.run(`onState for ${thread}`, undefined, () => onState(thread, state))
    const record = this.#record
    if (!record) return
    const { pid, name, owner, waiting } = thread
    const what = state !== 'R' && waiting && { what: waiting.what }
    const domid = Number(owner.name.slice(1)) || 0
    const event = { kind: 'thread', timeNs: this.nowNs, domid, pid, name, state, ...what } as const
    this.#callouts.run('trace.record', undefined, () => record(event))
  }

  /** Ends a thread where it is; nothing of it runs any more, not even its clean-up: its domain is gone. */
  kill(thread: Thread): void {
    if (thread.state === 'X') return
    recordOf(thread).body = undefined
    this.#end(thread)
  }

  #end(thread: Thread): void {
    const record = recordOf(thread)
    record.frames.length = 0
    record.waiting = undefined
    this.#setState(thread, 'X')
    thread.owner.exited(thread)
  }

  // --- running -------------------------------------------------------------------------------------------------------

  /** Is a thread ready? */
  get busy(): boolean {
    return this.#ready.length > 0
  }

  /** Fires the timers that are due and runs threads until none is ready. Returns how many steps that took. */
  run(): number {
    if (this.#current) throw new Error('the scheduler runs already')
    const before = this.#steps
    this.#timers.run(this.nowNs)
    while (this.busy) {
      this.#step(this.#take())
      if (this.#steps - before > MAX_STEPS) throw new Error(`threads were still busy after ${MAX_STEPS} steps`)
    }
    return this.#steps - before
  }

  /** Runs one ready thread up to its next yield; false if none is ready. */
  step(): boolean {
    if (this.#current) throw new Error('the scheduler runs already')
    this.#timers.run(this.nowNs)
    if (!this.busy) return false
    this.#step(this.#take())
    return true
  }

  #take(): Thread {
    const choose = this.#options.choose
    const count = this.#ready.length
    // Threads that were ready longer keep their order.
    return choose && count > 1 ? this.#ready.takeAt(this.#chosen(choose, count))! : this.#ready.shift()!
  }

  #chosen(choose: (n: number) => number, count: number): number {
    return this.#callouts.run('choose', 0, () => integer('Scheduler', 'choose()', choose(count), 0, count - 1))
  }

  #step(thread: Thread): void {
    this.#steps++
    const record = recordOf(thread)
    record.ready = false
    const { body } = record
    if (!body) return
    if (thread.owner.frozen) {
      record.parked = true
      return
    }
    record.switches++
    this.#current = thread
    try {
      if (body.next().done) this.#end(thread)
      else if (thread.state === 'R') this.#enqueue(thread)
    } catch (error) {
      this.#end(thread)
      const { onOops } = this.#options
      if (onOops) this.#callouts.run(`onOops for ${thread}`, undefined, () => onOops(thread, error))
      else this.#callouts.report(error, `thread ${thread}`)
    } finally {
      this.#current = undefined
    }
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  /** Now, in ns. */
  get nowNs(): number {
    return this.#time.nowNs()
  }

  /** Calls `fire` at a time. `cancel` of the timer takes it back. */
  setTimer(ns: number, fire: () => void): Timer {
    return this.#timers.set(ns, fire)
  }

  /** When `run` has something to do next; undefined if nothing waits for time. */
  get nextTimerNs(): number | undefined {
    return this.#timers.nextNs
  }

  /**
   * Simulated time: runs, moves the clock to the next timer, and so on, for `ns`, or until `until` holds. False if the
   * time was over first. Needs a ManualClock.
   */
  advance(ns: number, until: () => boolean = () => false): boolean {
    const { clock } = this
    if (!(clock instanceof ManualClock)) throw new Error('only a ManualClock can be advanced')
    const end = clock.nowNs() + ns
    this.run()
    while (!until()) {
      const next = this.nextTimerNs
      if (next === undefined || next > end) {
        clock.advance(end - clock.nowNs())
        return until()
      }
      clock.advance(Math.max(0, next - clock.nowNs()))
      this.run()
    }
    return true
  }
}
