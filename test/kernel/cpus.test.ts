/** CPUs of a kernel: which are online, who is told, and that the last one stays. */

import { describe, expect, it } from 'vitest'
import { Cpus, done, Kernel, Scheduler, type Task } from '../../src/dom0/kernel/index.js'

function make(cpus: number) {
  const scheduler = new Scheduler()
  const kernel = new Kernel(scheduler, 'd0', cpus)
  return {
    cpus: kernel.cpus,
    kernel,
    scheduler,
    complete(task: Task) {
      let failure: { error: unknown } | undefined
      kernel.process('process', function* () {
        try {
          yield* task
        } catch (error) {
          failure = { error }
        }
      })
      scheduler.run()
      if (failure) throw (failure as { error: unknown }).error
    },
  }
}

describe('CPUs', () => {
  it('are all online at first, and one unless told otherwise', () => {
    expect(make(3).cpus.online).toEqual([0, 1, 2])
    expect(new Kernel(new Scheduler(), 'd1').cpus.count).toBe(1)
  })

  it('a kernel without CPUs is refused with what is allowed', () => {
    for (const count of [0, -1, 1.5])
      expect(() => new Cpus(new Scheduler(), count)).toThrow(`Cpus: count is ${count}; allowed: an integer from 1`)
  })

  it('go offline and come back, each change told once, to all, when it is in force', () => {
    const { cpus, complete } = make(4)
    const told: string[] = []
    const subscriber = (name: string) => ({
      cpuOffline(cpu: number): Task {
        told.push(`${name}: ${cpu} offline, ${cpus.online} left`)
        return done(undefined)
      },
      cpuOnline(cpu: number): Task {
        told.push(`${name}: ${cpu} online, ${cpus.onlineCount} in all`)
        return done(undefined)
      },
    })
    cpus.subscribe(subscriber('a'))
    cpus.subscribe(subscriber('b'))
    complete(cpus.takeOffline(2))
    complete(cpus.takeOffline(2))
    complete(cpus.bringOnline(2))
    complete(cpus.bringOnline(2))
    expect(told).toEqual([
      'a: 2 offline, 0,1,3 left',
      'b: 2 offline, 0,1,3 left',
      'a: 2 online, 4 in all',
      'b: 2 online, 4 in all',
    ])
  })

  it('PV-acc-6: the last one online stays so', () => {
    const { cpus, complete } = make(2)
    complete(cpus.takeOffline(0))
    expect(() => complete(cpus.takeOffline(1))).toThrow('CPU 1 is the last one online and stays so (EBUSY)')
    expect(cpus.online).toEqual([1])
    complete(cpus.bringOnline(0))
    expect(cpus.online).toEqual([0, 1])
  })

  it('change one at a time: the next waits until all that was on the one before has moved', () => {
    const { cpus, kernel, scheduler } = make(3)
    const moved = kernel.waitQueue()
    let open = false
    const order: string[] = []
    cpus.subscribe({
      *cpuOffline(cpu) {
        order.push(`${cpu} begins`)
        yield* moved.until(() => open)
        order.push(`${cpu} is empty`)
      },
      *cpuOnline() {},
    })
    kernel.process('a', () => cpus.takeOffline(0))
    kernel.process('b', () => cpus.takeOffline(1))
    scheduler.run()
    expect(order).toEqual(['0 begins'])
    open = true
    moved.wakeAll()
    scheduler.run()
    expect(order).toEqual(['0 begins', '0 is empty', '1 begins', '1 is empty'])
  })

  it('a number that is no CPU is refused', () => {
    const { cpus, complete } = make(2)
    expect(() => complete(cpus.takeOffline(2))).toThrow('takeOffline: cpu is 2; allowed: an integer from 0 to 1')
    expect(() => complete(cpus.bringOnline(-1))).toThrow('bringOnline: cpu is -1')
  })
})
