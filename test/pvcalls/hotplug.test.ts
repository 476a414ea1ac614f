/** CPUs that go offline and come back while sockets are busy: no byte is lost, doubled or out of order. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { seeded } from '../../src/cli/random.js'
import type { BoundedPolicy } from '../../src/dom0/backends/index.js'
import type { PvSocket } from '../../src/dom0/frontends/index.js'
import { IO_POLICIES, type IoPolicyName } from '../../src/dom0/index.js'
import type { Task } from '../../src/dom0/kernel/index.js'
import { echo } from '../../src/scenarios/pvcalls_scenario.js'
import { runsOr } from '../settings.js'
import { accept, bytesOf, drain, PvcallsLab, pattern, SERVER, same, text } from './lab.js'

function connect(lab: PvcallsLab, count: number): PvSocket[] {
  return lab.guest(1, function* (front) {
    const sockets: PvSocket[] = []
    for (let i = 0; i < count; i++) sockets.push(yield* front.connect(SERVER, { ringOrder: 1 }))
    return sockets
  })
}

const offline = (lab: PvcallsLab, cpu: number): void => lab.dom0(lab.host.kernel.cpus.takeOffline(cpu))
const online = (lab: PvcallsLab, cpu: number): void => lab.dom0(lab.host.kernel.cpus.bringOnline(cpu))
const byCpu = (lab: PvcallsLab): Record<number, number> =>
  Object.fromEntries(lab.policy.workers.map(({ boundTo, size }) => [boundTo, size]))

describe('a CPU goes offline', () => {
  it('PV-8: its sockets go to the others, evenly, and its worker ends', () => {
    const lab = new PvcallsLab({ dom0Cpus: 4 })
    lab.serve()
    connect(lab, 12)
    expect(byCpu(lab)).toEqual({ 0: 3, 1: 3, 2: 3, 3: 3 })
    offline(lab, 1)
    expect(byCpu(lab)).toEqual({ 0: 4, 2: 4, 3: 4 })
    expect(lab.threads('pvcalls_io').sort()).toEqual(['pvcalls_io/0', 'pvcalls_io/2', 'pvcalls_io/3'])
    expect(lab.policy.stats.moves).toBe(3)
  })

  it('PV-8, PV-6: they go to a CPU without a worker first, if there is one', () => {
    const lab = new PvcallsLab({ dom0Cpus: 4, pvcalls: { maxIoworkers: 2 } })
    lab.serve()
    connect(lab, 6)
    offline(lab, 0)
    expect(byCpu(lab)).toEqual({ 1: 3, 2: 3 })
  })

  it('PV-acc-6: the last but one leaves all on one; the last one is refused', () => {
    const lab = new PvcallsLab({ dom0Cpus: 3 })
    const listener = lab.serve()
    const sockets = connect(lab, 7)
    const peers = sockets.map(() => accept(listener))
    offline(lab, 2)
    offline(lab, 0)
    expect(byCpu(lab)).toEqual({ 1: 7 })
    expect(() => offline(lab, 1)).toThrow('CPU 1 is the last one online')
    peers.forEach((peer, i) => void peer.send(bytesOf(`still ${i}`)))
    lab.run()
    sockets.forEach((socket, i) => void expect(text(lab.guest(1, () => socket.receive())!)).toBe(`still ${i}`))
  })

  it('PV-9: one that comes back is used by new sockets, and none is moved to it', () => {
    const lab = new PvcallsLab({ dom0Cpus: 2 })
    lab.serve()
    connect(lab, 4)
    offline(lab, 1)
    online(lab, 1)
    expect(byCpu(lab)).toEqual({ 0: 4 })
    connect(lab, 4)
    expect(byCpu(lab)).toEqual({ 0: 4, 1: 4 })
  })

  it('PV-8: the event channels of its sockets go with them, with what is pending', () => {
    const lab = new PvcallsLab({ dom0Cpus: 3 })
    const listener = lab.serve()
    const sockets = connect(lab, 3)
    const peers = sockets.map(() => accept(listener))
    expect(sockets.map(({ id }) => lab.vcpuOf(id))).toEqual([0, 1, 2])
    offline(lab, 1)
    offline(lab, 2)
    expect(sockets.map(({ id }) => lab.vcpuOf(id))).toEqual([0, 0, 0])
    sockets.forEach((socket, i) => {
      lab.guest(1, () => socket.send(bytesOf('x')))
      expect(text(drain(peers[i]!))).toBe('x')
    })
  })

  it('PV-acc-5, PV-8: a wake-up between leaving worker A and entering worker B is served by B', () => {
    let between = (): void => {}
    const lab = new PvcallsLab({
      dom0Cpus: 2,
      scheduler: {
        preempt: () => {
          between()
          return false
        },
      },
    })
    const listener = lab.serve()
    const [, socket] = connect(lab, 2)
    accept(listener)
    const peer = accept(listener)
    lab.run()
    const active = lab.policy.workers[1]!.sockets[0]!
    expect(active.id).toBe(socket!.id)
    let seen = 0
    between = () => {
      if (active.worker || seen++) return
      // In between: both directions have something new.
      peer.send(bytesOf('from the network'))
      socket!.trySend(bytesOf('from the guest'))
    }
    offline(lab, 1)
    between = () => {}
    expect(seen).toBe(1)
    expect(lab.policy.workers.map(({ boundTo, sockets }) => [boundTo, sockets.includes(active)])).toEqual([[0, true]])
    expect(text(drain(peer))).toBe('from the guest')
    expect(text(lab.guest(1, () => socket!.receive())!)).toBe('from the network')
  })

  it('PV-27: a release while its socket is between two workers takes it out of both', () => {
    const lab = new PvcallsLab({ dom0Cpus: 2, scheduler: { preempt: () => true } })
    lab.serve()
    const [first, second] = connect(lab, 2)
    const active = lab.policy.workers[1]!.sockets[0]!
    // The policy's own move, stopped where others may run.
    const move = (lab.policy as BoundedPolicy).cpuOffline(1)
    move.next()
    expect(active.worker).toBeUndefined()
    lab.guest(1, () => second!.close())
    lab.dom0(move)
    expect(byCpu(lab)).toEqual({ 0: 1 })
    expect([...lab.policy.workers[0]!.sockets].map(({ id }) => id)).toEqual([first!.id])
    expect(lab.policy.stats.moves).toBe(0)
  })
})

/** Changes of the long run; EVTCHN_RUNS=n for more. */
const CHANGES = runsOr(500)

/** One random run: streams in both directions on all sockets while CPUs change, sockets close and connect. */
class Traffic {
  readonly lab: PvcallsLab
  readonly #random: (n: number) => number
  readonly #sockets: PvSocket[]
  /** Per socket: bytes sent, and bytes that came back in order. */
  readonly #sent: number[]
  readonly #checked: number[]
  /** What it will have been in all, as soon as that is known. */
  readonly #total: number[]

  constructor(policy: IoPolicyName, seed: number, cpus = 4, sockets = 8) {
    this.#random = seeded(seed)
    this.lab = new PvcallsLab({
      dom0Cpus: cpus,
      bufferBytes: 3001,
      scheduler: { choose: this.#random, preempt: () => this.#random(2) === 0 },
      pvcalls: { policy, choose: this.#random },
    })
    const listener = this.lab.serve()
    listener.onConnection = () => echo(accept(listener))
    this.#sockets = connect(this.lab, sockets)
    this.#sent = Array(sockets).fill(0)
    this.#checked = Array(sockets).fill(0)
    this.#total = Array(sockets).fill(Number.POSITIVE_INFINITY)
  }

  *#sender(i: number, over: () => boolean): Task {
    for (let last = false; !last; ) {
      last = over()
      const length = 1 + this.#random(6000)
      const from = this.#sent[i]!
      if (last) this.#total[i] = from + length
      yield* this.#sockets[i]!.send(pattern(i, from, length))
      this.#sent[i] = from + length
      for (let n = this.#random(4); n-- > 0; ) yield
    }
  }

  *#receiver(i: number): Task {
    while (this.#checked[i]! < this.#total[i]!) {
      const got = (yield* this.#sockets[i]!.receive(1 + this.#random(4096)))!
      const at = this.#checked[i]!
      expect(same(got, pattern(i, at, got.length)), `stream ${i} at ${at}`).toBe(true)
      this.#checked[i] = at + got.length
    }
  }

  /** `steps` changes of CPUs; after each, some threads run. */
  run(steps: number): void {
    const { lab } = this
    const { scheduler, kernel } = lab.host
    let over = false
    const jobs = this.#sockets.flatMap((_, i) => [
      lab.spawn(1, () => this.#sender(i, () => over)),
      lab.spawn(1, () => this.#receiver(i)),
    ])
    for (let i = 0; i < steps; i++) {
      const cpu = this.#random(kernel.cpus.count)
      if (!kernel.cpus.isOnline(cpu)) this.#complete(kernel.cpus.bringOnline(cpu))
      else if (kernel.cpus.onlineCount > 1) {
        const before = byCpu(lab)
        this.#complete(kernel.cpus.takeOffline(cpu))
        this.#balanced(cpu, before)
      }
      for (let n = this.#random(40); n-- > 0; ) scheduler.step()
    }
    over = true
    scheduler.run()
    expect(jobs.map(({ error }) => error).filter(Boolean)).toEqual([])
    expect(jobs.every(({ done }) => done)).toBe(true)
    expect(this.#checked).toEqual(this.#sent)
    expect(Math.min(...this.#sent)).toBeGreaterThan(1000)
  }

  /** Runs to the end of a task, but not longer: traffic is under way before and after it. */
  #complete(task: Task): void {
    const { scheduler, kernel } = this.lab.host
    const thread = kernel.process('hotplug', () => task)
    while (thread.state !== 'X') expect(scheduler.step()).toBe(true)
  }

  /** Who got sockets has no more than one above the least: they are balanced as far as the moved ones can do it (PV-8). */
  #balanced(cpu: number, before: Record<number, number>): void {
    if (this.lab.policy.name !== 'bounded') return
    const after = byCpu(this.lab)
    expect(after[cpu]).toBeUndefined()
    expect(Object.values(after).reduce((sum, n) => sum + n, 0)).toBe(this.#sockets.length)
    const least = Math.min(...Object.values(after))
    for (const [each, n] of Object.entries(after))
      if (n > (before[Number(each)] ?? 0)) expect(n).toBeLessThanOrEqual(least + 1)
  }
}

describe.each(IO_POLICIES)('CPUs offline and online at random during traffic, %s', (policy) => {
  it('PV-acc-4, PV-8: every stream arrives complete and in order, whatever the seed', () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => new Traffic(policy, seed).run(60)),
      { numRuns: 5 },
    )
  })

  it('PV-acc-4: and during 10,000 steps of threads and more', () => {
    const traffic = new Traffic(policy, 1)
    const before = traffic.lab.host.scheduler.steps
    traffic.run(CHANGES)
    expect(traffic.lab.host.scheduler.steps - before).toBeGreaterThan(10_000)
  }, 600_000)
})
