/** The libxenevtchn-like handle (spec 8.3): masking, queueing, waiting, restriction, one user a port, overflow, close. */

import { describe, expect, it } from 'vitest'
import { VIRQ } from '../src/abi/index.js'
import { EvtchnDevice, GuestKernel, Hypervisor } from '../src/index.js'

/** Two guests with a device each; d1 has the handle under test, d2 is its peer. */
function pair() {
  const kernels: GuestKernel[] = []
  const xen = Hypervisor.create({ onUpcall: (vcpu) => void kernels[vcpu.domid]?.upcall(vcpu.vcpuId) })
  for (const domid of [0, 1, 2]) {
    kernels[domid] = GuestKernel.boot(xen.platform(xen.createDomain({ domid })))
  }
  return { xen, kernels, ours: new EvtchnDevice(kernels[1]!), theirs: new EvtchnDevice(kernels[2]!) }
}

/** A connected channel; the binder's conservative event is taken and unmasked. */
function connected(world = pair()) {
  const u = world.ours.open()
  const v = world.theirs.open()
  const port = u.bindUnboundPort(2)
  const peer = v.bindInterdomain(1, port)
  expect(v.tryPending()).toBe(peer)
  v.unmask(peer)
  return { ...world, u, v, port, peer }
}

const code = (body: () => unknown): string => {
  try {
    body()
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
  return 'ok'
}

describe('a handle', () => {
  it('EC-lib-3: pending hands out a port masked and clear; a later signal comes after unmask', async () => {
    const { u, v, port, peer, kernels } = connected()
    v.notify(peer)
    expect(await u.pending()).toBe(port)
    expect(kernels[1]!.isMasked(port)).toBe(true)
    expect(kernels[1]!.isPending(port)).toBe(false)
    v.notify(peer)
    v.notify(peer)
    expect(u.tryPending()).toBeUndefined()
    expect(kernels[1]!.isPending(port)).toBe(true)
    u.unmask(port)
    expect(u.tryPending()).toBe(port)
    u.unmask(port)
    expect(u.tryPending()).toBeUndefined()
  })

  it('EC-lib-3: pending waits for the next event', async () => {
    const { u, v, port, peer } = connected()
    const next = u.pending()
    v.notify(peer)
    expect(await next).toBe(port)
  })

  it('EC-lib-1: several ports come in the order they fired', () => {
    const world = pair()
    const u = world.ours.open()
    const v = world.theirs.open()
    const ports = [1, 2, 3].map(() => u.bindUnboundPort(2))
    const peers = ports.map((port) => v.bindInterdomain(1, port))
    for (const i of [2, 0, 1]) v.notify(peers[i]!)
    expect([u.tryPending(), u.tryPending(), u.tryPending()]).toEqual([ports[2], ports[0], ports[1]])
  })

  it('EC-lib-1: a VIRQ is an event like any other', () => {
    const { ours, xen } = pair()
    const u = ours.open()
    const port = u.bindVirq(VIRQ.DEBUG)
    xen.sendVirq(xen.domain(1)!.vcpu(0), VIRQ.DEBUG)
    expect(u.tryPending()).toBe(port)
    expect(code(() => u.bindVirq(VIRQ.DEBUG))).toBe('EEXIST')
  })

  it('EC-lib-6: a port has one user: another handle of the same guest cannot use it (ENOTCONN)', () => {
    const { ours, u, port } = connected()
    const other = ours.open()
    for (const use of ['notify', 'unmask', 'unbind'] as const) {
      expect(code(() => other[use](port))).toBe('ENOTCONN')
      expect(code(() => u[use](99))).toBe('ENOTCONN')
    }
  })

  it('EC-lib-6: a ring that overflowed says EFBIG until it is reset', () => {
    const world = pair()
    const u = world.ours.open({ ringSize: 2 })
    const v = world.theirs.open()
    const ports = [1, 2, 3].map(() => u.bindUnboundPort(2))
    const peers = ports.map((port) => v.bindInterdomain(1, port))
    for (const peer of peers) v.notify(peer)
    expect(code(() => u.tryPending())).toBe('EFBIG')
    expect(code(() => u.tryPending())).toBe('EFBIG')
    u.reset()
    expect(u.tryPending()).toBeUndefined()
    for (const port of ports) u.unmask(port)
    v.notify(peers[1]!)
    expect(u.tryPending()).toBe(ports[1])
  })

  it('EC-lib-6: a ring has room for every port of its handle', () => {
    const { kernels, xen } = pair()
    const domain = xen.createDomain({ domid: 5, maxEvtchnPort: Infinity })
    const kernel = GuestKernel.boot(xen.platform(domain))
    kernels[5] = kernel
    const u = new EvtchnDevice(kernel).open()
    const far = Array.from({ length: 1100 }, () => kernels[0]!.bindInterdomain(5, u.bindUnboundPort(0)))
    for (const port of far.slice(0, 900)) kernels[0]!.send(port)
    for (const port of far) kernels[0]!.send(port)
    let read = 0
    while (u.tryPending() !== undefined) read++
    expect(read).toBe(1100)
  })

  it('EC-lib-6: a restricted handle reaches one domain only, and binds no VIRQ (EACCES)', () => {
    const { ours } = pair()
    const u = ours.open()
    u.restrict(2)
    expect(u.bindUnboundPort(2)).toBeGreaterThan(0)
    expect(code(() => u.bindUnboundPort(0))).toBe('EACCES')
    expect(code(() => u.bindInterdomain(0, 1))).toBe('EACCES')
    expect(code(() => u.bindVirq(VIRQ.DEBUG))).toBe('EACCES')
    expect(code(() => u.restrict(2))).toBe('EACCES')
    for (const domid of [0, 0x7ff0, 0xffff]) expect(code(() => ours.open().restrict(domid))).toBe('EINVAL')
  })

  it('EC-lib-2: flags other than bit 0 are refused (EINVAL)', () => {
    const { ours } = pair()
    expect(code(() => ours.open({ flags: 2 }))).toBe('EINVAL')
    expect(code(() => ours.open({ flags: 1 }))).toBe('ok')
  })

  it('EC-lib-7: unbind closes the channel, and what was queued stays in the ring', () => {
    const { u, v, port, peer, kernels } = connected()
    v.notify(peer)
    u.unbind(port)
    expect([u.tryPending(), u.tryPending()]).toEqual([port, undefined])
    expect(code(() => u.notify(port))).toBe('ENOTCONN')
    expect(kernels[1]!.op('status', { dom: 0x7ff0, port }).status).toBe(0)
  })

  it('EC-lib-2: close unbinds everything, ends those who wait, and every later use is EBADF', async () => {
    const { u, port, kernels } = connected()
    const waiting = u.pending()
    u.close()
    u.close()
    await expect(waiting).rejects.toMatchObject({ code: 'EBADF' })
    expect(kernels[1]!.op('status', { dom: 0x7ff0, port }).status).toBe(0)
    const uses = [() => u.bindUnboundPort(2), () => u.bindInterdomain(2, 1), () => u.bindVirq(1), () => u.notify(port)]
    for (const use of [...uses, () => u.unmask(port), () => u.tryPending(), () => u.reset(), () => u.restrict(1)])
      expect(code(use)).toBe('EBADF')
    await expect(u.pending()).rejects.toMatchObject({ code: 'EBADF' })
  })

  it('EC-lib-1: what cannot be unbound while the guest is frozen stays the handle’s, and can be later', () => {
    const { xen, u, v, port, peer, kernels } = connected()
    xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
    expect(code(() => u.unbind(port))).toBe('EAGAIN')
    v.notify(peer)
    xen.migrationOf(xen.domain(1)!)!.abort()
    expect(u.tryPending()).toBe(port)
    expect(code(() => u.unbind(port))).toBe('ok')
    expect(kernels[1]!.op('status', { dom: 0x7ff0, port }).status).toBe(0)
  })

  it('EC-lib-2: a handle that cannot unbind is closed all the same, nobody waits, and closing again finishes', async () => {
    const { xen, u, port, kernels } = connected()
    const second = u.bindUnboundPort(2)
    const waiting = u.pending()
    xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
    expect(code(() => u.close())).toBe('EAGAIN')
    await expect(waiting).rejects.toMatchObject({ code: 'EBADF' })
    expect(code(() => u.bindUnboundPort(2))).toBe('EBADF')
    xen.migrationOf(xen.domain(1)!)!.abort()
    const open = () => [port, second].filter((each) => kernels[1]!.op('status', { dom: 0x7ff0, port: each }).status)
    expect(open()).toEqual([port, second])
    expect([code(() => u.close()), open()]).toEqual(['ok', []])
  })

  it('is closed by using', () => {
    const { ours, kernels } = pair()
    let port = 0
    {
      using u = ours.open()
      port = u.bindUnboundPort(2)
    }
    expect(kernels[1]!.op('status', { dom: 0x7ff0, port }).status).toBe(0)
  })
})

describe('iterating over events', () => {
  it('gives each port as it fires and ends when the handle is closed', async () => {
    const { u, v, port, peer } = connected()
    const seen: number[] = []
    v.notify(peer)
    for await (const fired of u) {
      seen.push(fired)
      u.unmask(fired)
      if (seen.length < 3) v.notify(peer)
      else u.close()
    }
    expect(seen).toEqual([port, port, port])
  })

  it('ends when the signal aborts, and a waiting pending rejects with its reason', async () => {
    const { u, v, port, peer } = connected()
    const stop = new AbortController()
    const loop = (async () => {
      const seen: number[] = []
      for await (const fired of u.ports({ signal: stop.signal })) seen.push(fired)
      return seen
    })()
    v.notify(peer)
    await Promise.resolve()
    stop.abort(new Error('enough'))
    expect(await loop).toEqual([port])
    await expect(u.pending({ signal: stop.signal })).rejects.toThrow('enough')
    const later = new AbortController()
    const waiting = u.pending({ signal: later.signal })
    later.abort(new Error('later'))
    await expect(waiting).rejects.toThrow('later')
    u.unmask(port)
    v.notify(peer)
    expect(u.tryPending()).toBe(port) // the event that came after the abort was not given to the one who left
  })
})
