/** The reason that the hypervisor knows reaches whoever calls from TypeScript: driver, handle, report of a resume. */

import { describe, expect, it } from 'vitest'
import { EvtchnDevice, GuestKernel, Hypervisor, XenError } from '../../src/index.js'

function three() {
  const kernels: GuestKernel[] = []
  const xen = Hypervisor.create({ onUpcall: (vcpu) => void kernels[vcpu.domid]?.upcall(vcpu.vcpuId) })
  for (const domid of [0, 1, 2]) kernels[domid] = GuestKernel.boot(xen.platform(xen.createDomain({ domid })))
  return { xen, kernels }
}

const messageOf = (body: () => unknown): string => {
  try {
    body()
  } catch (error) {
    if (error instanceof XenError) return error.message
    throw error
  }
  throw new Error('not refused')
}

describe('a refusal', () => {
  it('of the driver has the same text as that of a typed call', () => {
    const { xen, kernels } = three()
    const port = kernels[1]!.allocUnbound(2)
    const args = { remote_dom: 1, remote_port: port }
    const typed = messageOf(() => xen.domain(0)!.eventChannelOp('bind_interdomain', args))
    expect(typed).toMatch(/^EVTCHNOP_bind_interdomain: .*d2.*\(EINVAL\)$/)
    expect(messageOf(() => kernels[0]!.bindInterdomain(1, port))).toBe(typed)
    expect(messageOf(() => kernels[0]!.op('bind_interdomain', args))).toBe(typed)
    expect(messageOf(() => new EvtchnDevice(kernels[0]!).open().bindInterdomain(1, port))).toBe(typed)
  })

  it('says why in words, never only what was asked', () => {
    const { kernels } = three()
    const guest = kernels[1]!
    const handle = new EvtchnDevice(kernels[2]!).open()
    const refused = [
      () => guest.bindVirq(17),
      () => guest.send(55),
      () => guest.unmask(2000),
      () => guest.moveToVcpu(guest.bindIpi(), 0),
      () => handle.bindInterdomain(1, 999),
      () => handle.bindVirq(23),
      () => {
        for (;;) guest.allocUnbound(0)
      },
    ]
    for (const body of refused) {
      const message = messageOf(body)
      expect(message).toMatch(/^EVTCHNOP_\w+: .*[a-z]+ .*\(E[A-Z]+\)$/)
      expect(message).not.toMatch(/refused|[{}]/)
    }
  })

  it('NL-mig-2: of a channel that is lost at a resume is a sentence, and the errno beside it', () => {
    const { xen, kernels } = three()
    const told: string[] = []
    kernels[1]!.bindInterdomain(2, kernels[2]!.allocUnbound(1), { name: 'net', onLost: (reason) => told.push(reason) })
    const there = Hypervisor.create()
    const report = kernels[1]!.resume(there.platform(there.restoreDomain(xen.saveDomain(xen.domain(1)!))))
    expect(report.lost).toEqual([
      {
        name: 'net',
        oldPort: 1,
        errno: 3,
        reason: expect.stringMatching(/^EVTCHNOP_bind_interdomain: .*2.*\(ESRCH\)$/),
      },
    ])
    expect(told).toEqual([report.lost[0]!.reason])
  })

  it('is that of its own call, also if an upcall that follows has calls refused', () => {
    const { kernels } = three()
    const [dom0, guest] = kernels as [GuestKernel, GuestKernel]
    let inner = ''
    const ipi = guest.bindIpi(() => {
      inner = messageOf(() => guest.send(900))
    })
    guest.mask(ipi)
    guest.send(ipi)
    // The unmask succeeds and its upcall's own call is refused; nothing of that reaches the caller.
    guest.unmask(ipi)
    expect(inner).toMatch(/900/)
    expect(messageOf(() => dom0.send(77))).toMatch(/77/)
  })
})
