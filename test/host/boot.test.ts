/** A guest that the host boots gets its upcalls by itself; an event that nobody hears is reported once. */

import { describe, expect, it } from 'vitest'
import { type Domain, GuestKernel, Hypervisor, ParameterError, XenError } from '../../src/index.js'

describe('new Hypervisor', () => {
  it.each([[undefined], [{}], [{ maxFrames: 4 }]])(
    'with %j is refused: a host comes from Hypervisor.create',
    (options) => {
      const construct = () => Reflect.construct(Hypervisor, [options])
      expect(construct).toThrow(new TypeError('new Hypervisor: use Hypervisor.create(options)'))
    },
  )
})

describe('Hypervisor.boot', () => {
  it.each([2, 3, 'fifo'] as const)('a guest on %s gets its upcalls without any wiring', (levels) => {
    const xen = Hypervisor.create()
    const dom0 = xen.boot({ domid: 0 })
    const guest = xen.boot({ domid: 1, bits: levels === 'fifo' ? 64 : 32, levels })
    const seen: number[] = []
    const port = guest.allocUnbound(0, (each) => seen.push(each))
    const peer = dom0.bindInterdomain(1, port)
    seen.length = 0
    dom0.send(peer)
    expect(seen).toEqual([port])
    expect(guest.levels).toBe(levels)
  })

  it('takes the options of a domain and of a guest, and names an unknown one with the nearest', () => {
    const xen = Hypervisor.create()
    const wrong = { domid: 1, level: 3 } as never
    expect(() => xen.boot(wrong)).toThrow(/boot: level .*is not an option.*levels/)
    expect(() => xen.boot({ domid: 1, vcpus: 0 })).toThrow(ParameterError)
    expect(xen.domids()).toEqual([])
  })

  it('leaves no domain behind if the guest cannot boot', () => {
    const xen = Hypervisor.create()
    expect(() => xen.boot({ domid: 1, frames: 3 })).toThrow(XenError)
    expect(() => xen.boot({ domid: 1, levels: 9 as 3 })).toThrow(ParameterError)
    expect(xen.domids()).toEqual([])
  })

  it('onUpcall is for the other domains', () => {
    const entered: number[] = []
    const xen = Hypervisor.create({ onUpcall: (vcpu) => entered.push(vcpu.domid) })
    const guest = xen.boot({ domid: 1 })
    const raw = xen.createDomain({ domid: 2 })
    let handled = 0
    guest.send(guest.bindIpi(() => handled++))
    raw.eventChannelOp('send', raw.eventChannelOp('bind_ipi', { vcpu: 0 }))
    expect([handled, entered]).toEqual([1, [2, 2]])
  })

  it('a domain that is destroyed takes its guest along: a new one with its number is nobody’s yet', () => {
    const warnings: string[] = []
    const xen = Hypervisor.create({ warn: (text) => warnings.push(text) })
    const guest = xen.boot({ domid: 1 })
    let handled = 0
    guest.bindIpi(() => handled++)
    xen.destroyDomain(xen.domain(1)!)
    const next = xen.createDomain({ domid: 1 })
    next.eventChannelOp('send', next.eventChannelOp('bind_ipi', { vcpu: 0 }))
    expect([handled, warnings.length]).toEqual([0, 1])
  })
})

describe('Hypervisor.adopt', () => {
  it('gives the upcalls of a restored domain to the guest that moved with it', () => {
    const [from, to] = [Hypervisor.create(), Hypervisor.create()]
    const guest = from.boot({ domid: 1 })
    let handled = 0
    const port = guest.bindIpi(() => handled++)
    using move = from.beginMigration(from.domain(1)!, { mode: 'transparent' })
    const domain = to.restoreDomain(structuredClone(move.state))
    guest.moveTo(to.platform(domain))
    to.adopt(domain, guest)
    to.startDomain(domain, move.commit())
    guest.send(port)
    expect(handled).toBe(1)
  })

  it('refuses what is no GuestKernel and a domain that is gone', () => {
    const xen = Hypervisor.create()
    const domain = xen.createDomain({ domid: 1 })
    expect(() => xen.adopt(domain, {} as GuestKernel)).toThrow(ParameterError)
    const guest = GuestKernel.boot(xen.platform(domain))
    xen.destroyDomain(domain)
    expect(() => xen.adopt(domain, guest)).toThrow(XenError)
  })
})

describe('an event for which nobody listens', () => {
  const raise = (domain: Domain) => {
    const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    domain.eventChannelOp('send', { port })
    domain.eventChannelOp('send', { port })
  }

  it('is reported once for each domain, with what to do', () => {
    const warnings: string[] = []
    const xen = Hypervisor.create({ warn: (text) => warnings.push(text) })
    raise(xen.createDomain({ domid: 3 }))
    raise(xen.createDomain({ domid: 4 }))
    expect(warnings).toEqual([expect.stringContaining('d3v0'), expect.stringContaining('d4v0')])
    expect(warnings[0]).toContain('Hypervisor.boot')
  })

  it('is not reported while the guest masks its upcalls', () => {
    const warnings: string[] = []
    const xen = Hypervisor.create({ warn: (text) => warnings.push(text) })
    const domain = xen.createDomain({ domid: 3 })
    domain.memory.view()[4096 + 1] = 1
    raise(domain)
    expect(warnings).toEqual([])
  })
})
