/** What the hypervisor does to vCPUs that run on other threads at that moment: pause, quiesce, save, kill, detach. */

import { describe, expect, it } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import { type Domain, Hypervisor, ParameterError, XenError } from '../../src/index.js'
import { VcpuThread } from '../../src/vcpu/index.js'
import { Loop, turn } from './loops.js'

const host = () => {
  const errors: unknown[] = []
  return { xen: Hypervisor.create({ threads: 4, onError: (error) => errors.push(error) }), errors }
}

/** Channels from domain 2 to domain 1: the ports of 2, and of 1 in the same order. */
function channels(xen: Hypervisor, count: number): { to: Domain; from: Domain; ports: number[]; locals: number[] } {
  const to = xen.createDomain({ domid: 1, shared: true, frames: 64 })
  const from = xen.createDomain({ domid: 2, shared: true, frames: 64 })
  const ports: number[] = []
  const locals: number[] = []
  for (let i = 0; i < count; i++) {
    const { port } = from.eventChannelOp('alloc_unbound', { dom: 2, remote_dom: 1 })
    const { local_port } = to.eventChannelOp('bind_interdomain', { remote_dom: 2, remote_port: port })
    inside(to).clearPending(local_port)
    ports.push(port)
    locals.push(local_port)
  }
  return { to, from, ports, locals }
}

describe('attach', () => {
  it('needs a host with threads, a memory that can be shared, and a vCPU without a thread', () => {
    const plain = Hypervisor.create()
    const { xen } = host()
    const shared = xen.createDomain({ domid: 1, shared: true }).vcpu(0)
    expect(() => plain.attach([plain.createDomain({ domid: 1, shared: true }).vcpu(0)])).toThrow(
      'this host has no threads: Hypervisor.create({ threads: n }) (EOPNOTSUPP)',
    )
    expect(() => xen.attach([xen.createDomain({ domid: 2 }).vcpu(0)])).toThrow(ParameterError)
    xen.attach([shared])
    expect(() => xen.attach([shared])).toThrow('d1v0 has a thread already (EBUSY)')
  })

  it('gives out as many threads as the host has', async () => {
    const { xen } = host()
    const domain = xen.createDomain({ domid: 1, shared: true, vcpus: 5 })
    const handles = [0, 1, 2, 3].map((i) => xen.attach([domain.vcpu(i)]))
    expect(() => xen.attach([domain.vcpu(4)])).toThrow('all 4 threads are in use (ENOSPC)')
    await xen.detach(handles[1]!, { terminated: true })
    expect(xen.attach([domain.vcpu(4)]).thread).toBe(2)
    await expect(xen.detach(handles[1]!)).rejects.toThrow(ParameterError)
  })

  it('refuses what is no handle, on both sides', async () => {
    const { xen } = host()
    expect(() => VcpuThread.from({} as never)).toThrow('a handle that Hypervisor.attach returned')
    await expect(xen.detach({} as never)).rejects.toThrow('a handle that attach returned')
    expect(() => Hypervisor.create({ threads: 63 })).toThrow('an integer from 0 to 62')
  })

  it('does not call onUpcall for a vCPU on a thread, and does when it is back', async () => {
    const upcalls: string[] = []
    const xen = Hypervisor.create({ threads: 1, onUpcall: ({ domid, vcpuId }) => upcalls.push(`d${domid}v${vcpuId}`) })
    const { to, from, ports } = channels(xen, 1)
    upcalls.length = 0
    inside(to).core.zeroWords(inside(to).sharedInfoAt, 4)
    const handle = xen.attach([to.vcpu(0)])
    from.eventChannelOp('send', { port: ports[0]! })
    expect(upcalls).toEqual([])
    await xen.detach(handle, { terminated: true })
    expect(upcalls).toEqual(['d1v0'])
  })
})

describe('a domain whose vCPU sends on another thread', () => {
  it('I5: stands still while it is quiesced, and runs on', async () => {
    const { xen } = host()
    const { from, ports } = channels(xen, 8)
    const loop = new Loop(xen, from, 'send', { ports })
    await loop.reaches(1000)
    const release = await xen.quiesce(from)
    const { rounds } = loop
    for (let i = 0; i < 50; i++) await turn()
    expect(loop.rounds).toBe(rounds)
    release()
    await loop.reaches(rounds + 1000)
    await loop.end()
  })

  it('is not saved transparently, nor reset softly, before it is quiesced', async () => {
    const { xen } = host()
    const { from, ports } = channels(xen, 8)
    const loop = new Loop(xen, from, 'send', { ports })
    await loop.reaches(1000)
    expect(() => xen.saveDomain(from, { mode: 'transparent' })).toThrow('has a thread; quiesce the domain first')
    await loop.end()
  })

  it('I6: leaves its loop when it is killed, and its number is free', async () => {
    const { xen } = host()
    const { to, from, ports, locals } = channels(xen, 8)
    const loop = new Loop(xen, from, 'send', { ports })
    await loop.reaches(1000)
    xen.destroyDomain(from)
    while (!loop.ended) await turn()
    expect(to.eventChannelOp('status', { dom: 1, port: locals[0]! }).status).toBe(1)
    const again = xen.createDomain({ domid: 2, shared: true })
    await xen.detach(loop.handle)
    expect(again.eventChannelOp('alloc_unbound', { dom: 2, remote_dom: 1 }).port).toBe(1)
    await loop.worker.terminate()
  })

  it('is the host’s again after a detach', async () => {
    const { xen } = host()
    const { from, ports } = channels(xen, 8)
    const loop = new Loop(xen, from, 'send', { ports })
    await loop.reaches(1000)
    await xen.detach(loop.handle)
    while (!loop.ended) await turn()
    from.eventChannelOp('send', { port: ports[0]! })
    xen.attach([from.vcpu(0)])
    await loop.worker.terminate()
  })

  it('quiesce gives up on a vCPU that comes to no safepoint, and names it', async () => {
    const { xen } = host()
    const { from } = channels(xen, 1)
    const loop = new Loop(xen, from, 'deaf')
    await expect(xen.quiesce(from, { turns: 500 })).rejects.toThrow(
      'd2v0 has come to no safepoint in 500 turns (EBUSY)',
    )
    await loop.end()
  })
})

describe('a vCPU that sleeps on another thread', () => {
  it.each(['sleep', 'idle'] as const)(
    'I5: is woken by a send, parked where it sleeps, and stopped there (%s)',
    async (role) => {
      const { xen } = host()
      const { to, from, ports, locals } = channels(xen, 1)
      inside(to).core.zeroWords(inside(to).sharedInfoAt, 4)
      const loop = new Loop(xen, to, role)
      while (!to.vcpu(0).blocked) await turn()
      const release = await xen.quiesce(to)
      from.eventChannelOp('send', { port: ports[0]! })
      for (let i = 0; i < 50; i++) await turn()
      expect(loop.rounds).toBe(0)
      release()
      await loop.reaches(1)
      expect(to.isPending(locals[0]!)).toBe(true)
      await xen.detach(loop.handle)
      while (!loop.ended) await turn()
      await loop.worker.terminate()
    },
  )
})

describe('a migration with a sender on another thread', () => {
  it.each([2, 3, 'fifo'] as const)(
    'I4: has every event, in the state or in what was raised (levels: %s)',
    async (levels) => {
      for (let round = 0; round < 3; round++) {
        const { xen } = host()
        const from = xen.createDomain({ domid: 2, shared: true, frames: 64 })
        const guest = xen.boot({ domid: 1, shared: true, frames: 600, levels })
        const to = xen.domain(1)!
        const ports = Array.from(
          { length: 200 },
          () => from.eventChannelOp('alloc_unbound', { dom: 2, remote_dom: 1 }).port,
        )
        const locals = ports.map((port) => guest.bindInterdomain(2, port, () => {}))
        for (const port of locals) guest.mask(port)
        const loop = new Loop(xen, from, 'send', { ports, seed: round })
        await loop.reaches(40 + 90 * round)
        const move = xen.beginMigration(to, { mode: 'transparent' })
        await loop.reaches(loop.rounds + 20)
        const release = await xen.quiesce(from)
        const other = Hypervisor.create()
        const copy = other.restoreDomain(structuredClone(move.state))
        other.startDomain(copy, { raised: move.commit().raised })
        const lost = locals.filter((port, i) => loop.sent(i) === 2 && !copy.isPending(port))
        expect(lost).toEqual([])
        release()
        await loop.end()
      }
    },
  )
})

describe('a worker that is terminated', () => {
  it('I9: in the middle of sends takes nobody with it', async () => {
    for (const levels of [3, 'fifo'] as const)
      for (let round = 0; round < 4; round++) {
        const { xen, errors } = host()
        const from = xen.createDomain({ domid: 2, shared: true, frames: 64 })
        const seen = new Set<number>()
        const guest = xen.boot({ domid: 1, shared: true, frames: 600, levels })
        const ports = Array.from(
          { length: 32 },
          () => from.eventChannelOp('alloc_unbound', { dom: 2, remote_dom: 1 }).port,
        )
        const locals = ports.map((port) => guest.bindInterdomain(2, port, () => seen.add(port)))
        seen.clear()
        const loop = new Loop(xen, from, 'send', { ports, seed: 100 + round })
        await loop.reaches(100 * (round + 1))
        await loop.terminate()
        await xen.detach(loop.handle, { terminated: true })
        xen.service()
        // Everything that was sent is seen, the hypervisor shuts nobody out for ever, and the channels work.
        expect(ports.filter((port, i) => loop.sent(i) === 2 && !seen.has(port))).toEqual([])
        seen.clear()
        for (const port of ports) from.eventChannelOp('send', { port })
        expect(seen.size).toBe(ports.length)
        expect(locals.filter((port) => inside(xen.domain(1)!).isPending(port))).toEqual([])
        guest.close(locals[0]!)
        expect(errors).toEqual([])
      }
  })

  it('asleep, or in the middle of a call that it forwarded, is taken back', async () => {
    for (const role of ['sleep', 'call'] as const) {
      const { xen, errors } = host()
      const { to, from, ports } = channels(xen, 4)
      const loop = new Loop(xen, to, role, { seed: 7 })
      if (role === 'call') await loop.reaches(20)
      else while (!to.vcpu(0).blocked) await turn()
      await loop.terminate()
      await xen.detach(loop.handle, { terminated: true })
      from.eventChannelOp('send', { port: ports[0]! })
      expect(errors).toEqual([])
    }
  })
})

describe('a guest whose second thread writes to its memory while the first calls', () => {
  it('I1, I2: makes nothing throw, and another domain’s channel works on', async () => {
    const { xen, errors } = host()
    const bad = xen.createDomain({ domid: 3, shared: true, vcpus: 2, frames: 64 })
    const { to, from, ports, locals } = channels(xen, 4)
    const { port } = to.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 3 })
    bad.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port })
    const caller = new Loop(xen, bad, 'call', { seed: 11 })
    const scribbler = new Loop(xen, bad, 'scribble', { vcpu: 1, seed: 13 })
    await Promise.all([caller.reaches(1), scribbler.reaches(1)])
    for (let i = 0; i < 200; i++) {
      inside(to).clearPending(locals[i % 4]!)
      from.eventChannelOp('send', { port: ports[i % 4]! })
      expect(to.isPending(locals[i % 4]!)).toBe(true)
      try {
        to.eventChannelOp('send', { port })
      } catch (error) {
        // The bad guest may have closed its end, and the domain it is in may be off by now.
        expect(error).toBeInstanceOf(XenError)
      }
      await turn()
    }
    expect(errors).toEqual([])
    await Promise.all([caller, scribbler].map((loop) => loop.terminate()))
    for (const { handle } of [caller, scribbler]) await xen.detach(handle, { terminated: true })
    xen.destroyDomain(bad)
    expect(xen.domids()).toEqual([1, 2])
  })
})
