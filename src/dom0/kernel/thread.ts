/** A thread: what ps and /proc/PID/stack show of it, and the generator that it runs. */

import type { Task } from './task.js'

/** R running or ready, S sleeping, D sleeping and not to be interrupted, X dead: the letters of ps. */
export type ThreadState = 'R' | 'S' | 'D' | 'X'

/** What a sleeping thread waits for. */
export interface Waiting {
  /** In words, for people. */
  readonly what: string
  /** Threads that this one waits for, if it waits for threads; used to find circles. */
  readonly on: (() => Iterable<Thread>) | undefined
}

/** What a thread asks of the kernel it belongs to. */
export interface ThreadOwner {
  /** Its threads are not run: the domain is paused. */
  readonly frozen: boolean
  /** Name for messages, such as `d0`. */
  readonly name: string
  exited(thread: Thread): void
}

/** What kernel and scheduler keep of a thread, and nobody else. */
export interface ThreadRecord {
  /** Frames, outermost first. */
  readonly frames: string[]
  state: ThreadState
  waiting: Waiting | undefined
  /** Set by kthread_stop, never cleared. */
  shouldStop: boolean
  switches: number
  /** It is on the list of ready threads. */
  ready: boolean
  /** Woken while it is frozen. */
  parked: boolean
  /** Null once it was killed. */
  body: Task<unknown> | undefined
}

/** The record behind a thread. */
export let recordOf: (thread: Thread) => ThreadRecord

/** One kernel thread, or one process of dom0's userland, as others see it. Made by `Kernel`. */
export class Thread {
  readonly pid: number
  readonly name: string
  readonly owner: ThreadOwner
  readonly #record: ThreadRecord

  static {
    recordOf = (thread) => thread.#record
  }

  /** @internal */
  constructor(pid: number, name: string, owner: ThreadOwner, frames: string[]) {
    this.pid = pid
    this.name = name
    this.owner = owner
    this.#record = {
      frames,
      state: 'R',
      waiting: undefined,
      shouldStop: false,
      switches: 0,
      ready: false,
      parked: false,
      body: undefined,
    }
  }

  get state(): ThreadState {
    return this.#record.state
  }

  /** What it sleeps for; undefined while it does not sleep. */
  get waiting(): Waiting | undefined {
    return this.#record.waiting
  }

  /** kthread_should_stop: true since kthread_stop. */
  get shouldStop(): boolean {
    return this.#record.shouldStop
  }

  /** Times that it got the processor. */
  get switches(): number {
    return this.#record.switches
  }

  /** The call stack as /proc/PID/stack prints it: innermost first. */
  get stack(): string[] {
    return [...this.#record.frames].reverse().map((frame) => `[<0>] ${frame}`)
  }

  toString(): string {
    return `${this.owner.name} ${this.name}[${this.pid}]`
  }
}

/** Threads that wait for one another in a circle: none of them would ever run again. */
export class DeadlockError extends Error {
  readonly threads: readonly Thread[]

  constructor(threads: readonly Thread[]) {
    const steps = threads.map((thread) => `${thread} (${thread.waiting?.what ?? 'about to wait'})`)
    super(`deadlock: ${steps.join(' waits for ')} waits for ${threads[0]}`)
    this.name = 'DeadlockError'
    this.threads = threads
  }
}

/** The circle that `thread` closes if it waits for `on`; undefined if there is none. */
export function findCircle(thread: Thread, on: Iterable<Thread>): Thread[] | undefined {
  const seen = new Set<Thread>()
  const walk = (next: Iterable<Thread>, trail: Thread[]): Thread[] | undefined => {
    for (const each of next) {
      if (each === thread) return trail
      if (seen.has(each)) continue
      seen.add(each)
      const further = each.waiting?.on?.()
      const found = further && walk(further, [...trail, each])
      if (found) return found
    }
    return undefined
  }
  return walk(on, [thread])
}
