/**
 * A hostile guest, a network that comes and goes, and CPUs that do, in random order under random scheduling: every command
 * is answered, nothing throws, and nothing of the guest is left, whether it releases its sockets or dies with them.
 */

import { describe, expect, it } from 'vitest'
import { seeded } from '../../src/cli/random.js'
import { IO_POLICIES } from '../../src/dom0/backends/index.js'
import { encodeAddress, INDEX_WORD, PVCALLS } from '../../src/dom0/io/index.js'
import type { Task } from '../../src/dom0/kernel/index.js'
import { runsOr } from '../settings.js'
import { type LabOptions, PvcallsLab } from './lab.js'

const SEEDS = runsOr(25)
const STEPS = 150
const IP = '10.0.0.1'
/** The port of the network's own server; the guest's are those above. */
const OUTSIDE = 79
const ID_COUNT = 6
const WORDS = Object.values(INDEX_WORD)

class RandomLab extends PvcallsLab {
  readonly #random: (n: number) => number
  readonly #server = this.serve({ ip: IP, port: OUTSIDE }, 3)
  readonly #jobs: { done: boolean; error?: unknown }[] = []
  readonly #ends = Array.from({ length: 5 }, () => this.front().newEnd('hostile', 1))

  constructor(random: (n: number) => number, pvcalls: NonNullable<LabOptions['pvcalls']>) {
    const scheduler = { choose: random, preempt: () => random(4) === 0 }
    super({ dom0Cpus: 4, bufferBytes: 300, scheduler, pvcalls })
    this.#random = random
  }

  step(): void {
    const n = this.#random
    const end = this.#ends[n(5)]!
    const kinds = [
      () => this.#command(),
      () => this.#command(),
      () => this.#command(),
      () => end.notify(),
      () => void end.ring.write(new Uint8Array(n(3000))),
      () => {
        end.ring.index.publish(WORDS[n(WORDS.length)]!, n(2) ? n(5000) : n(2 ** 32))
        end.ring.index.publish(INDEX_WORD.ring_order, 1)
      },
      () => this.#peerAccepts(),
      () => this.#peerConnects(),
      () => void this.host.start('hotplug', this.#flip(n(4))),
    ]
    kinds[n(kinds.length)]!()
    if (n(3) === 0) this.run()
  }

  #command(): void {
    const n = this.#random
    const { ring, port } = this.#ends[n(5)]!
    const fields = {
      id: BigInt(n(ID_COUNT)),
      id_new: BigInt(n(ID_COUNT)),
      addr: encodeAddress({ ip: IP, port: OUTSIDE + n(4) }),
      len: 16,
      backlog: n(3),
      ref: ring.indexPage.gref,
      evtchn: port,
    }
    const cmd = n(7)
    this.#jobs.push(this.spawn(1, (front) => front.command(cmd, fields)))
  }

  #peerAccepts(): void {
    const socket = this.#server.accept()
    if (!socket) return
    socket.send(new Uint8Array(200))
    if (this.#random(2)) socket.close()
  }

  #peerConnects(): void {
    this.network.connect({ ip: IP, port: OUTSIDE + 1 + this.#random(3) }, (socket) => {
      if (typeof socket === 'number') return
      socket.send(new Uint8Array(250))
      if (this.#random(2)) socket.close()
    })
  }

  *#flip(cpu: number): Task {
    const { cpus } = this.host.kernel
    // CPU 0 stays, so that there is always one.
    if (!cpus.isOnline(cpu)) yield* cpus.bringOnline(cpu)
    else if (cpu > 0) yield* cpus.takeOffline(cpu)
  }

  /** The guest releases all ids; how many of its commands were not answered, and what is left of them. */
  release(): unknown {
    // Twice: an accept may give an id that was released already, until its listener is.
    for (let i = 0; i < 2 * ID_COUNT; i++)
      this.guest(1, (front) => front.command(PVCALLS.RELEASE, { id: BigInt(i % ID_COUNT) }))
    this.run()
    const { connections } = this.host.pvcalls
    const unanswered = this.#jobs.filter(({ done, error }) => !done || error).length
    return { unanswered, sockets: connections[0]?.sockets.size, pages: this.host.grants.mapped(1) }
  }

  /** The guest dies; what is left of it. */
  destroy(): unknown {
    const { host } = this
    host.complete('xl', host.toolstack.destroy(1))
    host.pass(1)
    const { cpus } = host.kernel
    return {
      connections: host.pvcalls.connections.length,
      workers: this.policy.workers.length,
      threads: this.threads('pvcalls'),
      load: [0, 1, 2, 3].map((cpu) => cpus.load(cpu)),
      bound: this.network.bound,
      waiting: this.network.waiting,
      zombies: host.domains.zombies,
    }
  }
}

describe.each(IO_POLICIES)('anything in any order, %s', (policy) => {
  it('PV-26, PV-27, PV-49, PV-acc-15: is answered, and nothing is left', () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const lab = new RandomLab(seeded(seed), { policy, idleNs: seed % 4 ? 0 : 1e6, maxIoworkers: 1 + (seed % 5) })
      for (let i = 0; i < STEPS; i++) lab.step()
      // Every third guest dies with all that it has.
      if (seed % 3) expect(lab.release(), `seed ${seed}`).toEqual({ unanswered: 0, sockets: 0, pages: 1 })
      expect(lab.destroy(), `seed ${seed}`).toEqual({
        connections: 0,
        workers: 0,
        threads: [],
        load: [0, 0, 0, 0],
        bound: [`${IP}:${OUTSIDE}`],
        waiting: 0,
        zombies: [],
      })
    }
  }, 600_000)
})
