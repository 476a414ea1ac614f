/** Kernel threads: a scheduler, clocks passed in, wait queues, locks, and a process list with call stacks. */

export { type CpuSubscriber, Cpus } from './cpus.js'
export { Kernel, type ProcessRecord } from './kernel.js'
export { Mutex, RwSemaphore } from './locks.js'
export { calloutsOf, SCHEDULER_OPTIONS, Scheduler, type SchedulerOptions } from './scheduler.js'
export { done, type Task } from './task.js'
export { DeadlockError, Thread, type ThreadOwner, type ThreadState, type Waiting } from './thread.js'
export { Timer } from './timers.js'
export { type WaitOptions, WaitQueue } from './wait_queue.js'
