/** What a host does with a fault of a user’s function: where it is reported, and what continues. */

import { describe, expect, it, vi } from 'vitest'
import { defaultPolicy, Errno, GuestKernel, Hypervisor, XenError } from '../../src/index.js'
import { World } from './hooks.js'

describe('callouts of a host', () => {
  it('a handler of one domain that throws neither fails the sender nor strands the upcall of a third', () => {
    const world = new World({})
    const [dom0, one, two] = world.kernels as [GuestKernel, GuestKernel, GuestKernel]
    let handled = 0
    const bad = one.allocUnbound(0, () => {
      throw new Error('fault in domain 1')
    })
    const good = two.allocUnbound(0, () => handled++)
    const toBad = dom0.bindInterdomain(1, bad)
    const toGood = dom0.bindInterdomain(2, good)
    const both = dom0.bindIpi(() => {
      dom0.send(toBad)
      dom0.send(toGood)
    })
    handled = 0
    world.reported.length = 0
    dom0.send(both)
    expect(handled).toBe(1)
    expect(world.reported).toEqual([{ error: new Error('fault in domain 1'), where: `handler of port ${bad} of d1` }])
  })

  it('a warning that fails fails no sender', () => {
    const where: string[] = []
    const warn = () => {
      throw new Error('fault of a user')
    }
    const xen = Hypervisor.create({ warn, onError: (_error, at) => where.push(at) })
    const dom0 = xen.boot({ domid: 0 })
    const unheard = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 1 })))
    const port = unheard.allocUnbound(0, () => {})
    dom0.send(dom0.bindInterdomain(1, port))
    expect(where).toEqual(['warn'])
  })

  it('a verdict that is neither 0 nor a negative errno refuses', () => {
    for (const verdict of [undefined, true, 1, -0.5, -5000, Number.NaN]) {
      const world = new World({
        xsm: { ...defaultPolicy, evtchnUnbound: () => verdict as number },
      })
      expect(() => world.guest.allocUnbound(0), String(verdict)).toThrow(/EPERM/)
      expect(String(world.reported[0]!.error)).toMatch('0 or a negative errno')
    }
  })

  it('a clock may tell numbers or bigints, and what is no time is reported and changes nothing', () => {
    const told: unknown[] = []
    let now: unknown = 5n
    const clock = { nowNs: () => now as number, wallclockNs: () => 7 as unknown as bigint }
    const xen = Hypervisor.create({ clock, onError: (error) => told.push(error) })
    xen.createDomain({ domid: 1 })
    expect([...xen.dump()].length).toBeGreaterThan(0)
    expect(told).toEqual([])
    for (now of [Number.NaN, -1, 'now', undefined]) {
      told.length = 0
      expect([...xen.dump()].length).toBeGreaterThan(0)
      expect(told.length).toBeGreaterThan(0)
    }
  })

  it('without a hook, or with one that fails, the platform reports the error, once', () => {
    const later: (() => void)[] = []
    vi.stubGlobal('queueMicrotask', (body: () => void) => later.push(body))
    try {
      const onError = () => {
        throw new Error('fault of the hook')
      }
      for (const [options, message] of [
        [{}, 'fault of a user'],
        [{ onError }, 'fault of the hook'],
      ] as const) {
        later.length = 0
        const xen = Hypervisor.create(options)
        const kernel = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 1 })))
        kernel.bindIpi(() => {
          throw new Error('fault of a user')
        })
        kernel.rescan()
        expect(later.length).toBe(1)
        expect(later[0]).toThrow(message)
      }
    } finally {
      vi.unstubAllGlobals()
    }
  })
})

describe('callbacks of a resume', () => {
  it('every channel is made or reported, whichever callback throws; those that failed are listed and reported', () => {
    const target = Hypervisor.create()
    target.createDomain({ domid: 0 })
    const world = new World({})
    const names = Array.from({ length: 10 }, (_, i) => `c${i}`)
    for (const name of names)
      world.guest.allocUnbound(0, {
        name,
        handler() {},
        onRebound() {
          if (name === 'c3') throw new XenError('test', Errno.EBUSY, 'my driver has a bug')
          if (name === 'c5') throw new Error('my driver has a bug')
        },
      })
    world.guest.suspend()
    const reported: string[] = []
    const platform = target.platform(target.restoreDomain(world.xen.saveDomain(world.domain)))
    const report = world.guest.resume({ ...platform, onError: (_error, where) => reported.push(where) })
    expect(report.rebound.map(({ name }) => name)).toEqual(names)
    expect(report.lost).toEqual([])
    expect(report.failed.map(({ name }) => name)).toEqual(['c3', 'c5'])
    expect(reported).toEqual(['onRebound of c3', 'onRebound of c5'])
  })
})
