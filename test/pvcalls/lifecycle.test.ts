/** Devices come and go: states, what is left, and what a guest's end means for its sockets. */

import { describe, expect, it } from 'vitest'
import type { PvSocket } from '../../src/dom0/frontends/index.js'
import { Host } from '../../src/dom0/index.js'
import type { Task } from '../../src/dom0/kernel/index.js'
import { differences, inventory } from '../../src/dom0/story/inventory.js'
import { inside } from '../../src/domain/handles.js'
import { accept, bytesOf, PvcallsLab, SERVER } from './lab.js'

const node = (lab: PvcallsLab, path: string): string | undefined =>
  lab.dom0(lab.host.toolstack.xs.readIfExists(`/local/domain/${path}`))
const BACK = '0/backend/pvcalls/1/0'
const FRONT = '1/device/pvcalls/0'

describe('connecting', () => {
  it('PV-40: both ends write their nodes and reach state 4', () => {
    const lab = new PvcallsLab()
    expect(
      ['versions', 'max-page-order', 'function-calls', 'state'].map((name) => node(lab, `${BACK}/${name}`)),
    ).toEqual(['1', '9', '1', '4'])
    expect([node(lab, `${FRONT}/version`), node(lab, `${FRONT}/state`)]).toEqual(['1', '4'])
    expect(Number(node(lab, `${FRONT}/port`))).toBeGreaterThan(0)
    expect(Number(node(lab, `${FRONT}/ring-ref`))).toBeGreaterThan(0)
  })

  it('PV-40: goes through the states in the protocol’s order', () => {
    const host = new Host()
    const job = host.start('xl', host.toolstack.create({ name: 'guest', pvcalls: true }))
    const front = (): number => {
      const guest = host.domains.guest(1)
      return guest && !guest.paused && guest.bus.frontends.length ? guest.pvcalls.state : 1
    }
    const states: string[] = []
    const look = () => {
      const back = host.bus.device('backend/pvcalls/1/0')
      const line = `${back?.state ?? 1} ${front()}`
      if (back && states.at(-1) !== line) states.push(line)
    }
    for (let i = 0; i < 100 || !job.done; i++) {
      while (host.scheduler.step()) look()
      host.pass(0.01)
    }
    // Backend, frontend: InitWait, Initialised, Connected, Connected.
    expect(states).toEqual(['1 1', '2 1', '2 3', '4 3', '4 4'])
  })

  it.each([
    ['versions', '2,3'],
    ['function-calls', '0'],
    ['max-page-order', '0'],
  ])('PV-40: a backend whose %s are %j is not for this frontend, which closes', (name, value) => {
    const host = new Host()
    host.start('xl', host.toolstack.create({ name: 'guest', pvcalls: true }))
    while (host.bus.device('backend/pvcalls/1/0')?.state !== 2) if (!host.scheduler.step()) host.pass(0.001)
    host.complete('x', host.toolstack.xs.write(`/local/domain/${BACK}/${name}`, value))
    host.pass(2)
    expect(host.guest(1).pvcalls.state).toBe(6)
    expect(host.pvcalls.connections).toEqual([])
    expect(host.bus.device('backend/pvcalls/1/0')!.state).toBe(6)
  })

  it('PV-40: one that lists several versions is', () => {
    const host = new Host()
    host.start('xl', host.toolstack.create({ name: 'guest', pvcalls: true }))
    while (host.bus.device('backend/pvcalls/1/0')?.state !== 2) if (!host.scheduler.step()) host.pass(0.001)
    host.complete('x', host.toolstack.xs.write(`/local/domain/${BACK}/versions`, '3,1'))
    host.pass(2)
    expect(host.guest(1).pvcalls.state).toBe(4)
  })

  it('PV-40: a frontend of another version is refused with an error in the store', () => {
    const lab = new PvcallsLab()
    const { host } = lab
    lab.guest(1, () => host.guest(1).bus.close(lab.front()))
    host.pass(1)
    const { xs } = host.toolstack
    const write = (name: string, value: string | number) => lab.dom0(xs.write(`/local/domain/${FRONT}/${name}`, value))
    write('state', 1)
    host.pass(0.1)
    write('version', '2')
    write('state', 3)
    host.pass(0.1)
    expect(node(lab, '0/error/backend/pvcalls/1/0/error')).toBe('unsupported version 2')
    expect(host.pvcalls.connections).toEqual([])
  })

  it.each([
    ['ring-ref', '99999', 'mapping ring-ref 99999'],
    ['ring-ref', 'x', 'mapping ring-ref NaN'],
    ['port', '1022', 'binding port 1022'],
    ['port', '', 'binding port 0'],
  ])('a %s of %j is an error in the store, and nothing stays mapped', (name, value, error) => {
    const lab = new PvcallsLab()
    const { host } = lab
    const { xs } = host.toolstack
    host.guest(1).kernel.freeze()
    const write = (each: string, what: string | number) => lab.dom0(xs.write(`/local/domain/${FRONT}/${each}`, what))
    for (const state of [6, 1]) {
      write('state', state)
      host.pass(0.1)
    }
    expect(node(lab, `${BACK}/state`)).toBe('2')
    write(name, value)
    write('state', 3)
    host.pass(0.1)
    expect(node(lab, '0/error/backend/pvcalls/1/0/error')).toContain(error)
    expect([host.grants.mapped(1), host.pvcalls.connections.length]).toEqual([0, 0])
  })

  it('PV-51: an option out of range is refused with its name', () => {
    for (const maxPageOrder of [0, 10, 1.5])
      expect(() => new Host({ pvcalls: { maxPageOrder } })).toThrow(
        `maxPageOrder is ${maxPageOrder}; allowed: an integer from 1 to 9`,
      )
    expect(() => new Host({ pvcalls: { maxSockets: 0 } })).toThrow('maxSockets is 0')
    expect(() => new Host({ pvcalls: { policy: 'both' as 'bounded' } })).toThrow('policy is "both"')
    expect(() => new Host({ pvcalls: { idleNs: -1 } })).toThrow('idleNs is -1')
    expect(() => new Host({ pvcalls: { unsupported: 'EPERM' as 'ENOTSUP' } })).toThrow(
      'unsupported is "EPERM"; allowed: "EAFNOSUPPORT", "ENOTSUP"',
    )
    expect(() => new Host({ pvcalls: { policy: 'per-socket', placement: 'here' as 'last' } })).toThrow(
      'placement is "here"; allowed: "spread", "last"',
    )
  })
})

/** A guest with sockets of all kinds, some of them busy. */
function busy(lab: PvcallsLab): PvSocket[] {
  const listener = lab.serve()
  const sockets = lab.guest(1, function* (front) {
    const all: PvSocket[] = []
    for (let i = 0; i < 5; i++) all.push(yield* front.connect(SERVER, { ringOrder: 1 }))
    return all
  })
  const own = lab.guest(1, (front) => front.listen({ ip: '10.0.0.9', port: 1 }))
  lab.spawn(1, () => own.accept())
  for (const socket of sockets) {
    accept(listener).send(new Uint8Array(9000))
    lab.spawn(1, () => socket.send(new Uint8Array(900_000)))
  }
  lab.run()
  return sockets
}

describe.each(['bounded', 'per-socket'] as const)('the end, %s', (policy) => {
  it('PV-acc-15, PV-40: a frontend that closes: all is gone before state 5 is written', () => {
    const lab = new PvcallsLab({ dom0Cpus: 2, pvcalls: { policy } })
    const { host } = lab
    busy(lab)
    const atState: unknown[] = []
    const original = host.bus.switchState.bind(host.bus)
    host.bus.switchState = (device, state) => {
      atState.push([state, host.grants.mapped(1), lab.threads('pvcalls').length, lab.network.bound.length])
      return original(device, state)
    }
    lab.guest(1, () => host.guest(1).bus.close(lab.front()))
    host.pass(1)
    // The server's own address is the one that is left.
    expect(atState).toEqual([
      [5, 0, 0, 1],
      [6, 0, 0, 1],
    ])
    expect([node(lab, `${BACK}/state`), node(lab, `${FRONT}/state`)]).toEqual(['6', '6'])
  })

  it('PV-acc-15: a guest that is destroyed leaves nothing: node, device, port, page, thread', () => {
    const lab = new PvcallsLab({ guests: 0, dom0Cpus: 2, pvcalls: { policy } })
    const { host } = lab
    const before = inventory(host)
    lab.create('guest')
    busy(lab)
    const { ok } = host.complete('xl', host.toolstack.destroy(1))
    host.pass(1)
    expect([ok, host.domains.zombies, host.pvcalls.connections]).toEqual([true, [], []])
    expect(differences(before, inventory(host))).toEqual([])
    expect(lab.counts).toEqual([])
  })

  it('PV-acc-15: two who disconnect at once both wait until all is gone', () => {
    const lab = new PvcallsLab({ dom0Cpus: 2, pvcalls: { policy } })
    const { host } = lab
    busy(lab)
    const connection = host.pvcalls.connection(1)!
    const left: number[] = []
    function* disconnect(): Task {
      yield* connection.close()
      left.push(host.grants.mapped(1))
    }
    for (let i = 0; i < 2; i++) host.start('disconnect', disconnect())
    lab.run()
    expect(left).toEqual([0, 0])
  })

  it('a guest that dies with its sockets wakes its programs no more, and the peers see the end', () => {
    const lab = new PvcallsLab({ pvcalls: { policy } })
    const listener = lab.serve()
    lab.guest(1, (front) => front.connect(SERVER, { ringOrder: 1 }))
    const peer = accept(listener)
    lab.host.complete('xl', lab.host.toolstack.destroy(1))
    lab.host.pass(1)
    expect(peer.receive(new Uint8Array(1))).toBe(0)
  })

  it('PV-acc-9, PV-27: release while data flows: the answer comes when no worker has it, and no notification follows', () => {
    const lab = new PvcallsLab({ pvcalls: { policy } })
    const { host } = lab
    const listener = lab.serve()
    const socket = lab.guest(1, (front) => front.connect(SERVER, { ringOrder: 1 }))
    const peer = accept(listener)
    peer.send(new Uint8Array(9000))
    let notified = 0
    const guest = host.guest(1)
    const active = host.pvcalls.connection(1)!.sockets.active[0]!
    const ret = lab.guest(1, function* (front) {
      yield* socket.receive(10)
      const answer = yield* front.command(2, { id: socket.id })
      // The response is here: from now on nothing is signalled.
      void socket.end.changed
      notified = inside(guest.domain).ports.activeEvtchns
      expect([active.worker, active.released]).toEqual([undefined, true])
      return answer
    })
    const before = socket.end.ring.readable
    peer.send(bytesOf('too late'))
    lab.run()
    expect([ret, socket.end.ring.readable, inside(guest.domain).ports.activeEvtchns]).toEqual([0, before, notified])
    expect(lab.policy.workers).toEqual([])
  })

  it('PV-40: connects again after it has closed', () => {
    const lab = new PvcallsLab({ pvcalls: { policy } })
    const { host } = lab
    busy(lab)
    const { toolstack } = host
    expect(host.complete('xl', toolstack.destroy(1)).ok).toBe(true)
    lab.create('again')
    lab.guest(2, (front) => front.connect(SERVER))
    expect(lab.counts).toEqual([1])
  })
})

describe('PV-46: event channels', () => {
  it('PV-acc-14: 1,000 sockets of a 64-bit two-level guest use 1,001 channels of this device', () => {
    const lab = new PvcallsLab({ guest: { frames: 4096 } })
    lab.serve()
    const before = inside(lab.host.dom0).ports.activeEvtchns - 1
    lab.guest(1, function* (front) {
      for (let i = 0; i < 1000; i++) yield* front.connect(SERVER, { ringOrder: 1 })
    })
    expect(inside(lab.host.dom0).ports.activeEvtchns - before).toBe(1001)
  })

  it('PV-acc-14: a 32-bit two-level guest has no port for its 1,022nd: ENOSPC in the frontend, nothing left in the backend', () => {
    const lab = new PvcallsLab({ guest: { frames: 4096, bits: 32, maxEvtchnPort: Infinity } })
    lab.serve()
    let connected = 0
    const all = function* () {
      for (; connected < 1100; connected++) yield* lab.front().connect(SERVER, { ringOrder: 1 })
    }
    expect(() => lab.guest(1, all)).toThrow('ENOSPC')
    const { host } = lab
    const free = host.guest(1).freeFrames
    const mapped = host.grants.mapped(1)
    // Port 0, the store's, and the command ring's.
    expect(connected).toBe(1024 - 3)
    expect(() => lab.guest(1, all)).toThrow('ENOSPC')
    expect([host.guest(1).freeFrames, host.grants.mapped(1)]).toEqual([free, mapped])
    expect(host.pvcalls.connection(1)!.sockets.size).toBe(1021)
  })
})
