/** dom0's kernel threads: states, stacks, waiting, stopping, locks, time; and the same run for the same seed. */

import { describe, expect, it } from 'vitest'
import { seeded } from '../../src/cli/random.js'
import { ManualClock } from '../../src/clock.js'
import { DeadlockError, Kernel, Scheduler, type Task, type Thread } from '../../src/dom0/kernel/index.js'

function make(options: ConstructorParameters<typeof Scheduler>[0] = {}) {
  const scheduler = new Scheduler(options)
  return { scheduler, kernel: new Kernel(scheduler, 'd0') }
}

describe('kernel threads', () => {
  it('XW-life-9: a blocked thread shows its state, what it waits for and its stack as /proc/PID/stack does', () => {
    const { scheduler, kernel } = make()
    const queue = kernel.waitQueue()
    function* inner(): Task {
      yield* kernel.call('inner', wait())
    }
    function* wait(): Task {
      yield* queue.until(() => false, { state: 'D', what: 'nothing' })
    }
    const thread = kernel.kthreadRun('sleeper', 'sleeper_thread', () => kernel.call('outer', inner()))
    scheduler.run()
    expect(kernel.ps()).toEqual([
      {
        pid: thread.pid,
        name: 'sleeper',
        state: 'D',
        waits: 'nothing',
        stack: ['[<0>] inner', '[<0>] outer', '[<0>] sleeper_thread', '[<0>] kthread', '[<0>] ret_from_fork'],
      },
    ])
    expect(kernel.procStack(thread.pid)).toBe(
      '[<0>] inner\n[<0>] outer\n[<0>] sleeper_thread\n[<0>] kthread\n[<0>] ret_from_fork\n',
    )
    expect(kernel.procStack(999)).toBeUndefined()
  })

  it('kthread_stop waits in D until the thread has ended, however long that takes', () => {
    const { scheduler, kernel } = make()
    const queue = kernel.waitQueue()
    let inflight = 1
    const worker = kernel.kthreadRun('worker', 'worker_thread', (thread) =>
      waitFor(() => thread.shouldStop && inflight === 0),
    )
    function* waitFor(holds: () => boolean): Task {
      yield* queue.until(holds, { state: 'S' })
    }
    const stopper = kernel.kthreadRun('stopper', 'stopper_thread', () => kernel.kthreadStop(worker))
    scheduler.run()
    expect(stopper.state).toBe('D')
    expect(stopper.stack[0]).toBe('[<0>] kthread_stop')
    inflight = 0
    queue.wakeAll()
    scheduler.run()
    expect([worker.state, stopper.state]).toEqual(['X', 'X'])
    expect(kernel.ps()).toEqual([])
  })

  it('XS-adv-374: kthread_stop of a thread that has ended by itself returns at once', () => {
    const { scheduler, kernel } = make()
    const worker = kernel.kthreadRun('worker', 'worker_thread', function* () {})
    scheduler.run()
    const stopper = kernel.kthreadRun('stopper', 'stopper_thread', () => kernel.kthreadStop(worker))
    scheduler.run()
    expect(stopper.state).toBe('X')
  })

  it('a mutex goes to whoever asked first, and only its owner gives it back', () => {
    const errors: unknown[] = []
    const { scheduler, kernel } = make({ onError: (error) => void errors.push(error) })
    const mutex = kernel.mutex('a_mutex')
    const order: number[] = []
    for (let i = 0; i < 5; i++)
      kernel.process(`p${i}`, function* () {
        yield* mutex.lock()
        yield* kernel.sleep(10)
        order.push(i)
        mutex.unlock()
      })
    scheduler.run()
    expect(kernel.threads.map(({ state }) => state)).toEqual(['S', 'D', 'D', 'D', 'D'])
    scheduler.advance(1000)
    expect(order).toEqual([0, 1, 2, 3, 4])
    kernel.process('thief', function* () {
      mutex.unlock()
      yield
    })
    scheduler.run()
    expect(String(errors[0])).toMatch('a_mutex is unlocked by who does not hold it')
  })

  it('XW-unreg-5: threads that wait for one another are told so instead of hanging', () => {
    const { scheduler, kernel } = make({ onOops: (_thread, error) => void errors.push(error) })
    const errors: unknown[] = []
    const [a, b] = [kernel.mutex('a'), kernel.mutex('b')]
    const take = function* (first: typeof a, second: typeof a): Task {
      yield* first.lock()
      yield* kernel.sleep(10)
      yield* second.lock()
    }
    kernel.process('one', () => take(a, b))
    kernel.process('two', () => take(b, a))
    scheduler.advance(100)
    expect(errors).toHaveLength(1)
    expect(errors[0]).toBeInstanceOf(DeadlockError)
    expect((errors[0] as Error).message).toMatch(/deadlock: d0 two\[4\] .*waits for d0 one\[3\] \(b\) waits for d0 two/)
  })

  it('a wait with a time-out ends when the simulated clock gets there, and not before', () => {
    const clock = new ManualClock()
    const { scheduler, kernel } = make({ clock })
    const queue = kernel.waitQueue()
    let answer: boolean | null = null
    kernel.process('p', function* () {
      answer = yield* queue.until(() => false, { timeoutNs: 1000 })
    })
    scheduler.advance(999)
    expect([answer, scheduler.nextTimerNs]).toEqual([null, 1000])
    scheduler.advance(1)
    expect([answer, clock.nowNs(), scheduler.nextTimerNs]).toEqual([false, 1000, undefined])
  })

  it('timers fire in order of time, equal ones in the order in which they were set; a cancelled one does not', () => {
    const { scheduler } = make()
    const random = seeded(7)
    const fired: number[] = []
    const expected: [number, number][] = []
    for (let i = 0; i < 500; i++) {
      const ns = random(50)
      const timer = scheduler.setTimer(ns, () => void fired.push(i))
      if (random(5) === 0) timer.cancel()
      else expected.push([ns, i])
    }
    scheduler.advance(100)
    expect(fired).toEqual(expected.sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, i]) => i))
  })

  it('nothing of a frozen kernel runs, and it goes on where it was', () => {
    const { scheduler, kernel } = make()
    const queue = kernel.waitQueue()
    let ready = false
    const thread = kernel.process('p', function* () {
      yield* queue.until(() => ready)
    })
    scheduler.run()
    kernel.freeze()
    ready = true
    queue.wakeAll()
    scheduler.run()
    expect(thread.state).toBe('D')
    kernel.thaw()
    scheduler.run()
    expect(thread.state).toBe('X')
  })

  it('XW-life-4: a worker does what a thread cannot do to itself', () => {
    const { scheduler, kernel } = make()
    let stopped = false
    const self: Thread = kernel.kthreadRun('self', 'self_thread', function* (thread) {
      kernel.scheduleWork(function* () {
        yield* kernel.kthreadStop(thread)
        stopped = true
      })
      yield* kernel.waitQueue().until(() => thread.shouldStop, { state: 'S' })
    })
    scheduler.run()
    expect([self.state, stopped]).toEqual(['X', true])
  })

  it('the same seed gives the same run; another seed another one', () => {
    const run = (seed: number): string => {
      const random = seeded(seed)
      const { scheduler, kernel } = make({ choose: random, preempt: () => random(2) === 0 })
      let trace = ''
      for (let i = 0; i < 6; i++)
        kernel.process(`p${i}`, function* () {
          for (let k = 0; k < 5; k++) {
            trace += i
            yield* scheduler.preemptionPoint()
          }
        })
      scheduler.run()
      return trace
    }
    expect(run(1)).toBe(run(1))
    expect(run(1)).not.toBe(run(2))
  })

  it('an embedder with a real clock is told when to call again', () => {
    let now = 5
    const { scheduler, kernel } = make({ clock: { nowNs: () => now, wallclockNs: () => BigInt(now) } })
    let woke = false
    kernel.process('p', function* () {
      yield* kernel.sleep(100)
      woke = true
    })
    scheduler.run()
    expect(scheduler.nextTimerNs).toBe(105)
    now = 105
    scheduler.run()
    expect(woke).toBe(true)
    expect(() => scheduler.advance(1)).toThrow('only a ManualClock')
  })
})
