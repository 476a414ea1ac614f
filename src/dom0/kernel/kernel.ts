/**
 * The threads of a domain's kernel: the process table, named call stacks, kthread_run and kthread_stop, sleep,
 * and a worker for what a thread cannot do to itself. dom0 and each guest have one; all run on one scheduler.
 */

import { Cpus } from './cpus.js'
import { Mutex, RwSemaphore } from './locks.js'
import { calloutsOf, type Scheduler } from './scheduler.js'
import type { Task } from './task.js'
import { recordOf, Thread, type ThreadOwner } from './thread.js'
import { WaitQueue } from './wait_queue.js'

/** A line of the process list. */
export interface ProcessRecord {
  readonly pid: number
  readonly name: string
  readonly state: Thread['state']
  readonly stack: readonly string[]
  /** What it waits for, in words; empty if it does not. */
  readonly waits: string
}

/** pid of kthreadd: kernel threads are its children, so theirs are greater. */
const KTHREADD = 2

/** One kernel. */
export class Kernel implements ThreadOwner {
  readonly name: string
  readonly scheduler: Scheduler
  readonly cpus: Cpus
  readonly #threads = new Map<number, Thread>()
  readonly #exits: WaitQueue
  readonly #work: (() => Task)[] = []
  readonly #workQueue: WaitQueue
  #lastPid = KTHREADD
  #frozen = false
  #worker: Thread | undefined

  /** `name` is for messages: `d0`. `cpus`: how many it has. Default 1. */
  constructor(scheduler: Scheduler, name: string, cpus = 1) {
    this.scheduler = scheduler
    this.cpus = new Cpus(scheduler, cpus)
    this.name = name
    this.#exits = new WaitQueue(scheduler)
    this.#workQueue = new WaitQueue(scheduler)
  }

  // --- threads -------------------------------------------------------------------------------------------------------

  /** Makes and wakes a kernel thread; `fn` is the name of its function, the frame above `kthread`. */
  kthreadRun(name: string, fn: string, body: (thread: Thread) => Task): Thread {
    return this.#run(name, ['ret_from_fork', 'kthread', fn], body)
  }

  /** Starts a process of the userland. */
  process(name: string, body: (thread: Thread) => Task): Thread {
    return this.#run(name, ['entry_SYSCALL_64_after_hwframe', 'do_syscall_64'], body)
  }

  #run(name: string, frames: string[], body: (thread: Thread) => Task): Thread {
    const thread = new Thread(++this.#lastPid, name, this, frames)
    this.#threads.set(thread.pid, thread)
    this.scheduler.start(thread, body(thread))
    return thread
  }

  exited(thread: Thread): void {
    this.#threads.delete(thread.pid)
    this.#exits.wakeAll()
  }

  /** Asks a kernel thread to stop and does not wait: it sees `shouldStop` when it looks next. */
  kthreadAskToStop(thread: Thread): void {
    recordOf(thread).shouldStop = true
    this.scheduler.wake(thread)
  }

  /** Asks a kernel thread to stop and waits until it has ended, in D. Safe for one that ended by itself (XS-adv-374). */
  kthreadStop(thread: Thread): Task {
    return this.call('kthread_stop', this.#stop(thread))
  }

  *#stop(thread: Thread): Task {
    this.kthreadAskToStop(thread)
    yield* this.join(thread, 'D')
  }

  /** Waits until a thread has ended. */
  *join(thread: Thread, state: 'S' | 'D' = 'S'): Task {
    yield* this.#exits.until(() => thread.state === 'X', {
      state,
      what: `the end of ${thread.name}`,
      on: () => [thread],
    })
  }

  /** Runs a kernel function under its name, which stands in the call stack of the running thread meanwhile. */
  *call<T>(frame: string, body: Task<T>): Task<T> {
    const { frames } = recordOf(this.scheduler.running)
    frames.push(frame)
    try {
      return yield* body
    } finally {
      frames.pop()
    }
  }

  /** Sleeps for a time, in S. */
  *sleep(ns: number): Task {
    yield* this.waitQueue().until(() => false, { state: 'S', what: 'time to pass', timeoutNs: ns })
  }

  waitQueue(): WaitQueue {
    return new WaitQueue(this.scheduler)
  }
  mutex(name: string): Mutex {
    return new Mutex(this.scheduler, name)
  }
  rwSemaphore(name: string): RwSemaphore {
    return new RwSemaphore(this.scheduler, name)
  }

  /** Has a worker run something when it gets to it: what the running thread cannot do or wait for itself. */
  scheduleWork(body: () => Task): void {
    this.#work.push(body)
    this.#worker ??= this.kthreadRun('kworker/0:1', 'worker_thread', () => this.#workLoop())
    this.#workQueue.wakeAll()
  }

  *#workLoop(): Task {
    for (;;) {
      yield* this.#workQueue.until(() => this.#work.length > 0, { state: 'S', what: 'work' })
      const body = this.#work.shift()!
      try {
        yield* body()
      } catch (error) {
        // The worker stays for others.
        calloutsOf(this.scheduler).report(error, `work of ${this.name}`)
      }
    }
  }

  // --- the whole domain ----------------------------------------------------------------------------------------------

  /** The domain is paused: nothing of it runs. */
  get frozen(): boolean {
    return this.#frozen
  }

  freeze(): void {
    this.#frozen = true
  }

  thaw(): void {
    this.#frozen = false
    this.scheduler.thaw(this.#threads.values())
  }

  /** The domain is gone, with all its threads. */
  destroy(): void {
    for (const thread of [...this.#threads.values()]) this.scheduler.kill(thread)
  }

  // --- /proc ---------------------------------------------------------------------------------------------------------

  /** Living threads, by pid. */
  get threads(): Thread[] {
    return [...this.#threads.values()]
  }

  /** The first living thread of a name. */
  find(name: string): Thread | undefined {
    return this.threads.find((thread) => thread.name === name)
  }

  /** The process list. */
  ps(): ProcessRecord[] {
    return this.threads.map(({ pid, name, state, stack, waiting }) => ({
      pid,
      name,
      state,
      stack,
      waits: waiting?.what ?? '',
    }))
  }

  /** /proc/PID/stack; undefined if there is no such process. */
  procStack(pid: number): string | undefined {
    const thread = this.#threads.get(pid)
    return thread ? `${thread.stack.join('\n')}\n` : undefined
  }
}
