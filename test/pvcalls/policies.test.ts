/** Which worker serves which socket: the two policies, their limits and their spread. */

import { afterEach, describe, expect, it, vi } from 'vitest'
import { ActiveSocket, type Turn } from '../../src/dom0/backends/index.js'
import type { PvSocket } from '../../src/dom0/frontends/index.js'
import type { Task } from '../../src/dom0/kernel/index.js'
import { accept, bytesOf, drain, PvcallsLab, SERVER, text } from './lab.js'

/** Connects sockets. */
function connect(lab: PvcallsLab, count: number, domid = 1): PvSocket[] {
  return lab.guest(domid, function* (front) {
    const sockets: PvSocket[] = []
    for (let i = 0; i < count; i++) sockets.push(yield* front.connect(SERVER, { ringOrder: 1 }))
    return sockets
  })
}

function close(lab: PvcallsLab, sockets: readonly PvSocket[], domid = 1): void {
  lab.guest(domid, function* (): Task {
    for (const socket of sockets) yield* socket.close()
  })
}

/** Ids of the sockets of each worker. */
const idsOf = (lab: PvcallsLab): bigint[][] => lab.policy.workers.map(({ sockets }) => [...sockets].map(({ id }) => id))

describe('policy bounded', () => {
  it('PV-acc-1, PV-1, PV-2, PV-3: 640 CPUs and no socket: no worker; 1,000 sockets: 64 workers of 15 or 16', () => {
    const lab = new PvcallsLab({ dom0Cpus: 640, guest: { frames: 4096 } })
    lab.serve()
    expect(lab.policy.name).toBe('bounded')
    expect([lab.counts, lab.threads('pvcalls_io')]).toEqual([[], []])
    connect(lab, 1000)
    expect(lab.counts).toHaveLength(64)
    expect([Math.min(...lab.counts), Math.max(...lab.counts)]).toEqual([15, 16])
    expect(lab.threads('pvcalls_io')).toHaveLength(64)
  })

  it('PV-acc-2, PV-4, PV-10: 4 CPUs and 10 sockets: 3, 3, 2, 2, each socket on one worker and each worker on one CPU', () => {
    const lab = new PvcallsLab({ dom0Cpus: 4 })
    lab.serve()
    const sockets = connect(lab, 10)
    expect(lab.counts).toEqual([3, 3, 2, 2])
    expect(lab.policy.workers.map(({ boundTo }) => boundTo)).toEqual([0, 1, 2, 3])
    expect(
      idsOf(lab)
        .flat()
        .sort((a, b) => Number(a - b)),
    ).toEqual(sockets.map(({ id }) => id))
  })

  it('PV-3, PV-6: a worker comes with the connect that needs it, and not before', () => {
    const lab = new PvcallsLab({ dom0Cpus: 3 })
    lab.serve()
    const seen = [1, 2, 3, 4, 5].map(() => {
      connect(lab, 1)
      return [...lab.counts]
    })
    expect(seen).toEqual([[1], [1, 1], [1, 1, 1], [2, 1, 1], [2, 2, 1]])
  })

  it('PV-5: counts differ by at most 1 all the way through a series of connects', () => {
    const lab = new PvcallsLab({ dom0Cpus: 7, guest: { frames: 2048 } })
    lab.serve()
    for (let i = 0; i < 100; i++) {
      connect(lab, 1)
      expect(Math.max(...lab.counts) - Math.min(...lab.counts), lab.counts.join(' ')).toBeLessThanOrEqual(1)
    }
  })

  it('PV-acc-3, PV-1: MAX_IOWORKERS = 2 on 8 CPUs: never more than 2', () => {
    const lab = new PvcallsLab({ dom0Cpus: 8, pvcalls: { maxIoworkers: 2 } })
    lab.serve()
    connect(lab, 9)
    expect(lab.counts).toEqual([5, 4])
    expect(lab.policy.stats.workersPeak).toBe(2)
  })

  it.each([0, -1, 1.5, Number.NaN])('PV-acc-3, PV-1: MAX_IOWORKERS = %d: start-up is refused', (maxIoworkers) => {
    expect(() => new PvcallsLab({ pvcalls: { maxIoworkers } })).toThrow(
      `Host: pvcalls.maxIoworkers is ${maxIoworkers}; allowed: an integer from 1 to`,
    )
  })

  it('PV-1: never more workers than CPUs are online', () => {
    const lab = new PvcallsLab({ dom0Cpus: 4 })
    lab.serve()
    lab.dom0(lab.host.kernel.cpus.takeOffline(0))
    lab.dom0(lab.host.kernel.cpus.takeOffline(2))
    connect(lab, 5)
    expect(lab.policy.workers.map(({ boundTo, size }) => [boundTo, size])).toEqual([
      [1, 3],
      [3, 2],
    ])
  })

  it('PV-4, PV-10: a socket’s event channel is delivered to the vCPU of its worker', () => {
    const lab = new PvcallsLab({ dom0Cpus: 3 })
    const listener = lab.serve()
    const sockets = connect(lab, 6)
    expect(sockets.map(({ id }) => lab.vcpuOf(id))).toEqual([0, 1, 2, 0, 1, 2])
    for (const socket of sockets) {
      lab.guest(1, () => socket.send(bytesOf(`socket ${socket.id}`)))
      expect(text(drain(accept(listener)))).toBe(`socket ${socket.id}`)
    }
  })

  it('PV-6: after closing unevenly new connects bring the even spread back; nothing is moved for it', () => {
    const lab = new PvcallsLab({ dom0Cpus: 4 })
    lab.serve()
    const sockets = connect(lab, 40)
    const [first, second] = idsOf(lab)
    const byId = (ids: readonly bigint[]) => sockets.filter(({ id }) => ids.includes(id))
    close(lab, byId([...first!, ...second!.slice(0, 7)]))
    expect(lab.policy.workers.map(({ boundTo, size }) => [boundTo, size])).toEqual([
      [1, 3],
      [2, 10],
      [3, 10],
    ])
    expect(lab.policy.stats.moves).toBe(0)
    connect(lab, 17)
    expect(lab.counts).toEqual([10, 10, 10, 10])
  })

  it('PV-7: a worker ends with its last socket, and after all no thread is left', () => {
    const lab = new PvcallsLab({ dom0Cpus: 3 })
    lab.serve()
    const sockets = connect(lab, 6)
    close(lab, sockets)
    expect([lab.counts, lab.threads('pvcalls_io')]).toEqual([[], []])
  })

  it('PV-7: with an idle time it stays so long, and is used again', () => {
    const lab = new PvcallsLab({ pvcalls: { idleNs: 1e9 } })
    lab.serve()
    close(lab, connect(lab, 1))
    lab.host.pass(0.9)
    expect(lab.counts).toEqual([0])
    const again = connect(lab, 1)
    expect(lab.policy.stats.workersMade).toBe(1)
    lab.host.pass(5)
    expect(lab.counts, 'a socket keeps it').toEqual([1])
    close(lab, again)
    lab.host.pass(1.1)
    expect([lab.counts, lab.threads('pvcalls_io')]).toEqual([[], []])
  })

  it('PV-7: a worker that was used meanwhile has its whole idle time again', () => {
    const lab = new PvcallsLab({ pvcalls: { idleNs: 1e9 } })
    lab.serve()
    for (let i = 0; i < 4; i++) {
      close(lab, connect(lab, 1))
      lab.host.pass(0.6)
    }
    expect([lab.counts, lab.policy.stats.workersMade]).toEqual([[0], 1])
    lab.host.pass(0.5)
    expect(lab.counts).toEqual([])
  })

  it('PV-5: workers are shared by all guests', () => {
    const lab = new PvcallsLab({ dom0Cpus: 2, guests: 3 })
    lab.serve()
    for (const domid of [1, 2, 3]) connect(lab, 2, domid)
    expect(lab.counts).toEqual([3, 3])
    const domids = lab.policy.workers.map(({ sockets }) => [...sockets].map(({ name }) => name[1]))
    expect(domids.map((each) => [...each].sort().join())).toEqual(['1,2,3', '1,2,3'])
  })

  it('PV-3: sockets that were accepted count like those that were connected', () => {
    const lab = new PvcallsLab({ dom0Cpus: 2 })
    const address = { ip: '10.0.0.9', port: 8080 }
    const listener = lab.guest(1, (front) => front.listen(address))
    for (let i = 0; i < 4; i++) lab.connect(address)
    lab.guest(1, function* () {
      for (let i = 0; i < 4; i++) yield* listener.accept({ ringOrder: 1 })
    })
    expect(lab.counts).toEqual([2, 2])
  })
})

describe('policy per-socket', () => {
  it('PV-acc-7, PV-20: 100 sockets: 100 workers, bound to no CPU; after all releases 0', () => {
    const lab = new PvcallsLab({ dom0Cpus: 4, guest: { frames: 512 }, pvcalls: { policy: 'per-socket' } })
    lab.serve()
    const sockets = connect(lab, 100)
    expect([lab.counts.length, lab.threads('pvcalls_io').length]).toEqual([100, 100])
    expect(lab.policy.workers.every(({ boundTo, size }) => boundTo === undefined && size === 1)).toBe(true)
    close(lab, sockets)
    expect([lab.counts, lab.threads('pvcalls_io')]).toEqual([[], []])
  })

  it('PV-27, PV-28: a release ends its worker: the thread is gone when the response comes', () => {
    const lab = new PvcallsLab({ pvcalls: { policy: 'per-socket' } })
    lab.serve()
    const [socket] = connect(lab, 3)
    close(lab, [socket!])
    expect(lab.threads('pvcalls_io')).toEqual(['pvcalls_io d1:2', 'pvcalls_io d1:3'])
  })

  it('PV-28: a failed connect makes no worker', () => {
    const lab = new PvcallsLab({ pvcalls: { policy: 'per-socket' } })
    expect(() => connect(lab, 1)).toThrow('CONNECT: ECONNREFUSED')
    expect(lab.policy.stats.workersMade).toBe(0)
  })

  it('PV-13: a worker wakes on a CPU with the fewest threads; `last` keeps it where it was', () => {
    const share = (placement: 'spread' | 'last') => {
      const lab = new PvcallsLab({ dom0Cpus: 8, pvcalls: { policy: 'per-socket', placement } })
      const listener = lab.serve()
      connect(lab, 1)
      const peer = accept(listener)
      for (let i = 0; i < 50; i++) {
        peer.send(bytesOf('x'))
        lab.run()
      }
      const { copiesOnOwnCpu, copiesElsewhere } = lab.policy.stats
      return [copiesOnOwnCpu, copiesElsewhere]
    }
    expect(share('last')).toEqual([49, 0])
    expect(share('spread')[1]).toBeGreaterThan(40)
  })
})

/** Looks on at every turn of every socket until the test ends. */
function onTurn(look: (socket: ActiveSocket, turn: Turn) => void): void {
  const { turn } = ActiveSocket.prototype
  vi.spyOn(ActiveSocket.prototype, 'turn').mockImplementation(function (this: ActiveSocket) {
    const result = turn.call(this)
    look(this, result)
    return result
  })
}

afterEach(() => void vi.restoreAllMocks())

describe('a worker', () => {
  it('PV-11, PV-12: serves its sockets in the order of their wake-ups, one step each at a turn', () => {
    const lab = new PvcallsLab({ bufferBytes: 1 << 16 })
    const listener = lab.serve()
    const sockets = connect(lab, 4)
    const peers = sockets.map(() => accept(listener))
    lab.run()
    const order: bigint[] = []
    onTurn((socket) => order.push(socket.id))
    for (const i of [2, 0, 3, 1]) peers[i]!.send(bytesOf('x'))
    lab.run()
    expect(order).toEqual([3n, 1n, 4n, 2n])
  })

  it('PV-23, PV-8: each wake-up counts once, also during a turn and on the way to another worker', () => {
    const lab = new PvcallsLab({ dom0Cpus: 2 })
    const listener = lab.serve()
    const [socket] = connect(lab, 1)
    const peer = accept(listener)
    lab.run()
    const inside = lab.host.pvcalls.connection(1)!.sockets.active[0]!
    const before = lab.policy.stats.wakeups
    let woken = 0
    for (const way of ['wakeRead', 'wakeWrite'] as const) {
      const wake = inside[way].bind(inside)
      inside[way] = () => {
        woken++
        wake()
      }
    }
    // An echo: its answer comes while the turn that sends is under way.
    peer.onReadable = () => void peer.send(drain(peer))
    lab.guest(1, () => socket!.send(bytesOf('x')))
    lab.run()
    inside.wakeWrite()
    lab.dom0(lab.host.kernel.cpus.takeOffline(inside.lastCpu))
    lab.run()
    expect([woken, lab.policy.stats.moves]).toEqual([3, 1])
    expect(lab.policy.stats.wakeups - before).toBe(woken)
  })

  it('PV-12: a socket with much to move lets the others have their turns in between', () => {
    const lab = new PvcallsLab({ bufferBytes: 1 << 16 })
    const listener = lab.serve()
    const [busy, other] = connect(lab, 2)
    const [busyPeer, otherPeer] = [accept(listener), accept(listener)]
    lab.run()
    const order: bigint[] = []
    onTurn((socket, { bytesIn, bytesOut }) => {
      if (bytesIn + bytesOut) order.push(socket.id)
    })
    // Its frontend takes what comes, so that there is more at every turn.
    const job = lab.spawn(1, function* () {
      for (let left = 40_000; left > 0; ) left -= (yield* busy!.receive())!.length
    })
    busyPeer.send(new Uint8Array(40_000))
    otherPeer.send(bytesOf('x'))
    lab.run()
    expect(job.done).toBe(true)
    expect(order.indexOf(other!.id)).toBeLessThan(2)
    expect(order.filter((id) => id === busy!.id).length).toBeGreaterThan(5)
  })

  it.each(['bounded', 'per-socket'] as const)(
    'PV-acc-11, PV-25, PV-28: one whose peer never reads holds up nobody, and does not try in a circle: %s',
    (policy) => {
      const lab = new PvcallsLab({ bufferBytes: 4096, pvcalls: { policy } })
      const listener = lab.serve()
      const [stuck, free] = connect(lab, 2)
      const [deaf, peer] = [accept(listener), accept(listener)]
      const full = lab.spawn(1, () => stuck!.send(new Uint8Array(100_000)))
      lab.run()
      expect(full.done).toBe(false)
      const { turns } = lab.policy.stats
      for (let i = 0; i < 20; i++) {
        lab.guest(1, () => free!.send(bytesOf(`message ${i};`)))
        expect(text(drain(peer))).toBe(`message ${i};`)
      }
      // At each message the free socket has its turns, the stuck one none.
      expect(lab.policy.stats.turns - turns).toBeLessThanOrEqual(2 * 20)
      for (let left = 100_000; left > 0; lab.run()) left -= drain(deaf).length
      expect(full.done).toBe(true)
    },
  )
})
