/**
 * Operations that are given up, by a signal, a time-out, by closing, by the caller's death or by not asking for more: nothing
 * is left behind at either side. docs/reliability.md lists all of them; here are those whose test is not with their room's.
 */

import { describe, expect, it } from 'vitest'
import { EVTCHNOP, HYPERVISOR } from '../../src/abi/index.js'
import { Host, type Task, type XsHandle } from '../../src/dom0/index.js'
import { inside } from '../../src/domain/handles.js'
import { GuestKernel, Hypervisor } from '../../src/index.js'
import { connectInProcess, InProcessTransport, XenStoreClient, XenStored, XS } from '../../src/xenstore/index.js'
import { PvcallsLab } from '../pvcalls/lab.js'

/** What a store holds for its clients. */
const held = (store: XenStored) =>
  store.connections.map(({ openTransactions, openWatches }) => [openTransactions, openWatches])

describe('a store client that gives up', () => {
  function pair() {
    // Packets go and come when the test says so: each is a point at which the client may give up.
    const steps: (() => void)[] = []
    const store = new XenStored()
    const inner = new InProcessTransport(store)
    const client = new XenStoreClient({
      send: (bytes) => void steps.push(() => inner.send(bytes)),
      listen: (data, closed) => inner.listen((bytes) => void steps.push(() => data(bytes.slice())), closed),
      close: () => inner.close(),
    })
    const step = async () => {
      steps.shift()?.()
      for (let i = 0; i < 5; i++) await Promise.resolve()
      await new Promise((resolve) => setImmediate(resolve))
    }
    return { store, client, step, busy: () => steps.length > 0 }
  }

  it.each(Array.from({ length: 14 }, (_, i) => i))(
    'XS-tx-1: a transaction, after %i packets: it is ended at the daemon as well',
    async (packets) => {
      const { store, client, step, busy } = pair()
      const stop = new AbortController()
      const body = client
        .transaction(
          async (t) => {
            await t.write('/a', '1')
            await t.read('/a')
            await t.write('/b', '2')
          },
          { signal: stop.signal },
        )
        .then(
          () => 'done',
          (error: Error) => error.message,
        )
      for (let i = 0; i < packets; i++) await step()
      stop.abort(new Error('enough'))
      while (busy()) await step()
      for (let i = 0; i < 10; i++) await step()
      expect(['done', 'enough']).toContain(await body)
      expect(held(store)).toEqual([[0, 0]])
    },
  )

  it.each([0, 1, 2, 3, 4])('XS-watch-1: a watch, after %i packets: it is not left at the daemon', async (packets) => {
    const { store, client, step, busy } = pair()
    const stop = new AbortController()
    const watch = client.watch('/a', { signal: stop.signal }).catch(() => undefined)
    for (let i = 0; i < packets; i++) await step()
    stop.abort(new Error('enough'))
    while (busy()) await step()
    await watch
    for (let i = 0; i < 10; i++) await step()
    expect(held(store)).toEqual([[0, 0]])
  })

  it('XS-watch-15: a loop over a watch that is left: the daemon forgets the watch', async () => {
    const store = new XenStored()
    const client = connectInProcess(store)
    for await (const { path } of await client.watch('/a')) {
      expect(path).toBe('/a')
      break
    }
    await client.read('/').catch(() => undefined)
    expect(held(store)).toEqual([[0, 0]])
  })

  it('XS-sock-4: everything, by closing: requests under way are rejected, and nothing is left', async () => {
    const { store, client, step } = pair()
    const asked = [client.read('/'), client.watch('/a'), client.transaction(async (t) => t.read('/'))]
    const ends = asked.map((each) =>
      each.then(
        () => 'done',
        () => 'rejected',
      ),
    )
    await step()
    client.close()
    for (let i = 0; i < 10; i++) await step()
    expect(await Promise.all(ends)).toEqual(['rejected', 'rejected', 'rejected'])
    expect(store.connections).toEqual([])
  })
})

describe('a hotplug script that is killed', () => {
  /** Each leaves something of the store's open and never returns. */
  const LEAVES: [string, (xs: XsHandle) => Task][] = [
    [
      'a transaction',
      function* (xs) {
        yield* xs.transaction(function* () {
          yield* forever()
        })
      },
    ],
    [
      'a watch',
      function* (xs) {
        yield* xs.watch('/local', () => {})
        yield* forever()
      },
    ],
  ]
  let host: Host
  function* forever(): Task {
    yield* host.kernel.sleep(1e15)
  }

  it.each(LEAVES)('XW-tool-1: leaves no %s at the store', (_, leave) => {
    host = new Host({
      *hotplug(xs) {
        yield* leave(xs)
        return true
      },
    })
    const before = held(host.store)
    for (let i = 0; i < 3; i++) {
      const { ok } = host.complete('xl', host.toolstack.create({ name: `g${i}`, nics: [{}] }))
      expect(ok).toBe(false)
    }
    host.pass(100)
    expect(held(host.store)).toEqual(before)
  })
})

describe('a guest that is destroyed while one of its programs is in a socket call', () => {
  const CALLS = ['connect', 'listen', 'accept', 'send', 'receive', 'close'] as const

  /** A program that makes all calls, one after the other. */
  function program(lab: PvcallsLab) {
    const front = lab.front()
    return function* (): Task {
      const listener = yield* front.listen({ ip: '10.0.0.9', port: 7 })
      const socket = yield* front.connect({ ip: '10.0.0.9', port: 7 })
      const other = yield* listener.accept()
      yield* socket.send(new Uint8Array(100))
      yield* other.receive(50)
      yield* other.close()
      yield* socket.close()
      yield* listener.close()
    }
  }

  it('PV-27, PV-40: leaves no page, port, socket or worker in domain 0, wherever it was', () => {
    // How many scheduler steps the whole program takes; then it is cut off at each of a spread of them.
    const whole = new PvcallsLab()
    const from = whole.host.scheduler.steps
    whole.host.complete('program', program(whole)())
    const steps = whole.host.scheduler.steps - from
    expect(steps).toBeGreaterThan(CALLS.length * 4)
    for (let cut = 0; cut < steps; cut += Math.max(1, Math.floor(steps / 24))) {
      const lab = new PvcallsLab()
      const { host } = lab
      const begin = host.scheduler.steps
      host.guest(1).kernel.process('program', program(lab))
      host.scheduler.advance(1e9, () => host.scheduler.steps - begin >= cut)
      host.complete('xl', host.toolstack.destroy(1))
      host.pass(60)
      expect({
        cut,
        mapped: host.grants.mapped(1),
        sockets: host.pvcalls.connections.length,
        workers: lab.policy.workers.length,
      }).toEqual({
        cut,
        mapped: 0,
        sockets: 0,
        workers: 0,
      })
      expect(host.xen.domain(1)).toBeUndefined()
    }
  })
})

describe('a call of the hypervisor that nobody continues', () => {
  it('EC-dump-12: a dump: the event lock is free, and the next dump is whole', () => {
    const xen = Hypervisor.create()
    const domain = xen.createDomain({ domid: 1 })
    for (let i = 0; i < 300; i++) domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    for (const line of xen.dump({ slotsPerHold: 8 })) if (line.includes(' 9 ')) break
    domain.eventChannelOp('close', { port: 5 })
    expect([...xen.dump()].filter((line) => /s=6/.test(line))).toHaveLength(299)
  })

  it('EC-op-7: a multicall: what is left of it is not made, and the guest’s next call is', () => {
    const xen = Hypervisor.create({ preempt: () => true })
    const domain = xen.createDomain({ domid: 1 })
    const view = new DataView(domain.memory.memory.buffer, domain.memory.base)
    const port = 0x5000
    for (let i = 0; i < 4; i++) {
      const at = 0x4000 + i * 64
      view.setBigUint64(at, BigInt(HYPERVISOR.event_channel_op), true)
      view.setBigUint64(at + 16, BigInt(EVTCHNOP.bind_ipi), true)
      view.setBigUint64(at + 24, BigInt(port + i * 16), true)
    }
    const next = xen.hypercallStep(domain.vcpu(0), HYPERVISOR.multicall, [0x4000, 4])
    expect(typeof next).toBe('object')
    const made = inside(domain).ports.activeEvtchns
    expect(made).toBeGreaterThan(0)
    expect(made).toBeLessThan(4)
    expect(domain.eventChannelOp('bind_ipi', { vcpu: 0 }).port).toBe(made + 1)
  })

  it('EC-reset-8: a reset: its domain can still be destroyed, and the others go on', () => {
    const xen = Hypervisor.create({ preempt: () => true })
    const domain = xen.createDomain({ domid: 1, maxEvtchnPort: Number.POSITIVE_INFINITY })
    const other = xen.createDomain({ domid: 2 })
    for (let i = 0; i < 500; i++) domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    const view = new DataView(domain.memory.memory.buffer, domain.memory.base)
    view.setUint16(0x5000, 0x7ff0, true)
    const next = xen.hypercallStep(domain.vcpu(0), HYPERVISOR.event_channel_op, [EVTCHNOP.reset, 0x5000])
    expect(typeof next).toBe('object')
    other.eventChannelOp('bind_ipi', { vcpu: 0 })
    xen.destroyDomain(domain)
    expect(xen.domain(1)).toBeUndefined()
  })
})

describe('a driver’s operation that fails half-way', () => {
  it('NL-vcpu-2: bringing a vCPU up: it does not take part, and can be brought up later', () => {
    const xen = Hypervisor.create()
    const domain = xen.createDomain({ domid: 1, vcpus: 2, frames: 64, maxEvtchnPort: Number.POSITIVE_INFINITY })
    const kernel = GuestKernel.boot(xen.platform(domain), { levels: 3, nrPages: 1, upVcpus: [] })
    const taken = kernel.frames.allocate(kernel.frames.available)!
    expect(() => kernel.bringUp(1)).toThrow(/ENOMEM/)
    expect(kernel.upVcpus).toEqual([0])
    kernel.frames.release(taken)
    kernel.bringUp(1)
    expect(kernel.upVcpus).toEqual([0, 1])
  })
})

describe('the toolstack’s handle to the store', () => {
  it('that is closed ends its requests, those under way and later ones (EIO)', () => {
    const host = new Host()
    const { xs } = host.toolstack
    const ended: string[] = []
    const asks = function* () {
      try {
        yield* xs.request(XS.READ, '/\0')
      } catch (error) {
        ended.push((error as Error).message)
      }
    }
    host.kernel.process('xl', asks)
    xs.close()
    host.pass(1)
    host.kernel.process('xl', asks)
    host.pass(1)
    expect(ended).toEqual(['READ /: EIO', 'READ /: EIO'])
  })
})
