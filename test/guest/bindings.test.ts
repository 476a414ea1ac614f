/** How a guest's driver binds ports: with and without a handler, on which vCPU, and what it says if it cannot. */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF } from '../../src/abi/index.js'
import { GuestKernel, Hypervisor, type WantedLevels } from '../../src/index.js'

const FORMS: WantedLevels[] = [2, 3, 'fifo']

/** Domains 0 and 1 with a driver each, domain 1 with two vCPUs. */
function pair(levels: WantedLevels = 2) {
  const kernels: GuestKernel[] = []
  const xen = Hypervisor.create({ onUpcall: (vcpu) => void kernels[vcpu.domid]?.upcall(vcpu.vcpuId) })
  for (const domid of [0, 1])
    kernels[domid] = GuestKernel.boot(xen.platform(xen.createDomain({ domid, vcpus: 1 + domid })), { levels })
  return { xen, dom0: kernels[0]!, guest: kernels[1]! }
}

const notified = (guest: GuestKernel, port: number) => guest.op('status', { dom: DOMID_SELF, port }).vcpu

describe.each(FORMS)('binding on form %s', (levels) => {
  it('takes a function alone as the handler', () => {
    const { dom0, guest } = pair(levels)
    const got: number[] = []
    const port = guest.allocUnbound(0, (p) => got.push(p))
    dom0.send(dom0.bindInterdomain(1, port))
    const ipi = guest.bindIpi((p) => got.push(p))
    guest.send(ipi)
    expect(got).toEqual([port, ipi])
  })

  it('leaves a port without a handler masked, and unmasks it when it gets one', () => {
    const { dom0, guest } = pair(levels)
    const port = guest.allocUnbound(0)
    const far = dom0.bindInterdomain(1, port)
    expect([guest.isMasked(port), dom0.isMasked(far)]).toEqual([true, true])
    dom0.send(far)
    expect(guest.isPending(port)).toBe(true)
    let handled = 0
    guest.bindHandler(port, () => void handled++)
    expect([handled, guest.isMasked(port), guest.nameOf(port)]).toEqual([1, false, `port ${port}`])
  })

  it('refuses a second handler for a port, and the first stays', () => {
    const { dom0, guest } = pair(levels)
    let first = 0
    const port = guest.allocUnbound(0, { vcpu: 1, handler: () => void first++ })
    const far = dom0.bindInterdomain(1, port)
    expect(() => guest.bindHandler(port, () => {})).toThrow(
      `GuestKernel.bindHandler: port is ${port}; allowed: a port without a handler`,
    )
    dom0.send(far)
    expect([first, notified(guest, port)]).toEqual([1, 1])
  })

  it('EC-vcpu-6: a handler, its filter and the notified vCPU stay together for a port that somebody else moved', () => {
    for (const vcpu of [0, 1, undefined]) {
      const { dom0, guest } = pair(levels)
      const { port } = dom0.op('alloc_unbound', { dom: 1, remote_dom: 0 }) as { port: number }
      const far = dom0.bindInterdomain(1, port)
      guest.op('bind_vcpu', { port, vcpu: 1 })
      let handled = 0
      guest.bindHandler(port, { handler: () => void handled++, ...(vcpu === undefined ? {} : { vcpu }) })
      dom0.send(far)
      expect([handled, notified(guest, port)]).toEqual([1, vcpu ?? 1])
    }
  })

  it('names the call, and refuses a handler for a port that is not open', () => {
    const { guest } = pair(levels)
    expect(() => guest.allocUnbound(0, { vcpu: 2 })).toThrow('GuestKernel.allocUnbound: vcpu is 2;')
    expect(() => guest.bindIpi({ priority: 16 })).toThrow('GuestKernel.bindIpi: priority is 16;')
    expect(() => guest.bindHandler(9, () => {})).toThrow('GuestKernel.bindHandler: port 9 is not open (EINVAL)')
    expect(guest.nameOf(9)).toBeUndefined()
  })
})

describe('resume', () => {
  it('NL-mig-2: what onRebound and onLost throw is reported, and every other channel is made again', () => {
    const { xen, guest } = pair(3)
    for (let i = 0; i < 8; i++)
      guest.allocUnbound(0, {
        name: `c${i}`,
        onRebound: () => {
          if (i === 3) throw new Error('a fault of the driver')
          if (i === 4) guest.op('send', { port: 77 })
        },
        onLost: () => {
          throw new Error('another fault')
        },
      })
    guest.suspend()
    const reported: string[] = []
    const there = Hypervisor.create({ onError: (_error, where) => reported.push(where) })
    there.createDomain({ domid: 0 })
    const report = guest.resume(
      there.platform(there.restoreDomain(xen.saveDomain(xen.domain(1)!), { maxEvtchnPort: 6 })),
    )
    expect(report.rebound.map(({ name }) => name)).toEqual(['c0', 'c1', 'c2', 'c3', 'c4', 'c5'])
    expect(report.lost.map(({ name }) => name)).toEqual(['c6', 'c7'])
    expect(report.failed.map(({ name, error }) => `${name}: ${(error as Error).message}`)).toEqual([
      'c3: a fault of the driver',
      expect.stringMatching(/^c4: EVTCHNOP_send: .*\(EINVAL\)$/),
      'c6: another fault',
      'c7: another fault',
    ])
    expect(reported).toEqual([
      'onRebound of c3 of d1',
      'onRebound of c4 of d1',
      'onLost of c6 of d1',
      'onLost of c7 of d1',
    ])
  })
})
