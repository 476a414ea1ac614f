/** Every schedule of a small case, and many of a larger one: the order per domain is that of arrival (XW-acc-21). */

import { describe, expect, it } from 'vitest'
import { seeded } from '../../src/cli/random.js'
import { InvariantChecker } from './checker.js'
import { ALL, MULTITHREADED } from './lab.js'
import { SmallLab } from './small_lab.js'

/** Goes through all sequences of choices: `run` is called once for each. Answers how many there were. */
function everySchedule(run: (choose: (n: number) => number) => void, most: number): number {
  const path: { taken: number; of: number }[] = []
  for (let count = 1; ; count++) {
    let at = 0
    run((n) => {
      if (at === path.length) path.push({ taken: 0, of: n })
      const choice = path[at++]!
      expect(choice.of).toBe(n)
      return choice.taken
    })
    while (path.length && path.at(-1)!.taken + 1 >= path.at(-1)!.of) path.pop()
    if (!path.length || count === most) return count
    path.at(-1)!.taken++
  }
}

/** A thread made while events are under way, events of two domains, the thread ended, an unregistration. */
function small(design: (typeof ALL)[number], choose: (n: number) => number): void {
  const checker = new InvariantChecker()
  let on = false
  const lab = new SmallLab(design, {
    observer: checker.observer,
    scheduler: { choose: (n) => (on ? choose(n) : 0), preempt: () => on && choose(2) === 1 },
  })
  const shared = lab.sharedWatch(() => lab.host.scheduler.preemptionPoint())
  lab.register(shared)
  on = true
  lab.host.write('/shared/1/a')
  lab.host.scheduler.step()
  lab.host.write('/shared/1/b')
  lab.up(1)
  lab.host.write('/shared/1/c')
  lab.host.scheduler.step()
  lab.host.start(lab.host.xenbus.unregister(shared))
  lab.host.run()
  lab.down(1)
  on = false
  lab.host.run()
  expect(checker.violations).toEqual([])
  expect([checker.open, checker.threads, shared.nrPending]).toEqual([0, 0, 0])
  expect(lab.host.xenbus.reports).toEqual([])
}

const MOST = 400

describe('schedules', () => {
  it.each(ALL)('XW-acc-21: %s: schedules of a small case, one after the other, all keep the order', (design) => {
    const count = everySchedule((choose) => small(design, choose), MOST)
    expect(count).toBeGreaterThan(100)
  })

  it.each(MULTITHREADED)('XW-acc-21: %s: random streams of 8 domains on 4 workers keep the order of each', (design) => {
    for (let seed = 1; seed <= 10; seed++) {
      const random = seeded(seed)
      const checker = new InvariantChecker()
      const lab = new SmallLab(design, {
        observer: checker.observer,
        // Among the four that were ready longest: four processors.
        scheduler: { choose: (n) => random(Math.min(n, 4)), preempt: () => random(2) === 0 },
      })
      const shared = lab.sharedWatch(() => lab.host.scheduler.preemptionPoint())
      lab.register(shared)
      for (let domid = 1; domid <= 8; domid++) lab.up(domid)
      for (let i = 0; i < 400; i++) {
        lab.host.write(`/shared/${1 + random(8)}/${i}`)
        for (let steps = random(6); steps-- > 0; ) lab.host.scheduler.step()
      }
      lab.host.run()
      expect(checker.violations, `seed ${seed}`).toEqual([])
      expect(lab.ran).toHaveLength(400)
      for (let domid = 1; domid <= 8; domid++) {
        const own = lab.ran.filter((run) => run.includes(`/shared/${domid}/`))
        const numbers = own.map((run) => Number(run.split('/').at(-1)))
        expect(numbers, `seed ${seed}, domain ${domid}`).toEqual([...numbers].sort((a, b) => a - b))
        expect(own.every((run) => run.startsWith(`xen-mtwatch-${domid} `))).toBe(true)
      }
    }
  })
})
