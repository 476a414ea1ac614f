/** Where QEMU's event channels differ from Xen's (spec part 9), this library does as Xen does. */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, VIRQ } from '../../src/abi/index.js'

import { host } from './raw.js'

describe.each([64, 32] as const)('as Xen and unlike QEMU, %i-bit', (bits) => {
  it('EC-diff-1: port 0, and one beyond the limit, are what the operation makes of them', () => {
    const { d1 } = host(bits)
    expect(d1.answer('status', { dom: DOMID_SELF, port: 0 })).toBe('ok')
    expect(d1.answer('unmask', { port: 0 })).toBe('ok')
    expect(d1.answer('close', { port: 0 })).toBe('EINVAL')
    expect(d1.answer('bind_vcpu', { port: 100_000, vcpu: 9 })).toBe('ENOENT')
  })

  it('EC-diff-2: close of a closed port is EINVAL', () => {
    expect(host(bits).d1.answer('close', { port: 5 })).toBe('EINVAL')
  })

  it('EC-diff-3: unmask of a closed port is 0', () => {
    expect(host(bits).d1.answer('unmask', { port: 5 })).toBe('ok')
  })

  it('EC-diff-4: a second bind_pirq is EEXIST', () => {
    const { d0 } = host(bits)
    d0.must('bind_pirq', { pirq: 3, flags: 0 })
    expect(d0.answer('bind_pirq', { pirq: 3, flags: 0 })).toBe('EEXIST')
  })

  it('EC-diff-5: alloc_unbound for an unknown remote is allowed, in another domain a matter of rights', () => {
    const { d0, d1 } = host(bits)
    expect(d1.answer('alloc_unbound', { dom: DOMID_SELF, remote_dom: 77 })).toBe('ok')
    expect(d1.answer('alloc_unbound', { dom: 2, remote_dom: 1 })).toBe('EPERM')
    expect(d0.answer('alloc_unbound', { dom: 2, remote_dom: 1 })).toBe('ok')
  })

  it('EC-diff-6: bind_vcpu looks at the vCPU first', () => {
    expect(host(bits).d1.answer('bind_vcpu', { port: 0, vcpu: 9 })).toBe('ENOENT')
  })

  it('EC-diff-7: bind_vcpu raises nothing again', () => {
    const { d1, d2 } = host(bits)
    const [theirs, port] = d2.connect(d1)
    d2.must('send', { port: theirs })
    d1.must('bind_vcpu', { port, vcpu: 1 })
    expect([d1.flag(1), d1.sel(1)]).toEqual([0, 0n])
  })

  it('EC-diff-8: bind_interdomain sets the local port pending, and every failure of the remote port is EINVAL', () => {
    const { d1, d2 } = host(bits)
    expect(d1.answer('bind_interdomain', { remote_dom: 2, remote_port: 9 })).toBe('EINVAL')
    const [, taken] = d1.connect(d2)
    expect(d1.answer('bind_interdomain', { remote_dom: 2, remote_port: taken })).toBe('EINVAL')
    const local = d1.must('bind_interdomain', { remote_dom: 2, remote_port: d2.unbound(1) }).local_port
    expect(d1.bit('pending', local)).toBe(1)
  })

  it('EC-diff-9: VIRQs have three classes, and a global one its handler domain (EBUSY)', () => {
    const { d1, d2 } = host(bits)
    expect(d1.answer('bind_virq', { virq: VIRQ.CONSOLE, vcpu: 0 })).toBe('EBUSY')
    expect([d1, d2].map((guest) => guest.answer('bind_virq', { virq: VIRQ.ARGO, vcpu: 0 }))).toEqual(['ok', 'ok'])
    expect(d1.answer('bind_virq', { virq: VIRQ.ARGO, vcpu: 1 })).toBe('EINVAL')
  })

  it('EC-diff-10: a second bind_virq is EEXIST', () => {
    const { d1 } = host(bits)
    d1.virq(VIRQ.TIMER)
    expect(d1.answer('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 })).toBe('EEXIST')
  })

  it('EC-diff-11: there are Xen-attached ports and continuations', () => {
    const { xen, d1 } = host(bits)
    expect(xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {} })).toBe(1)
    expect(d1.answer('reset_cont', { dom: DOMID_SELF })).toBe('EBUSY')
  })

  it('EC-diff-12: a cooperative save holds no port table: the restored guest makes its channels again', () => {
    const { xen, d1 } = host(bits)
    d1.ipi()
    const state = xen.saveDomain(xen.domain(1)!)
    expect(
      Object.keys(state)
        .filter((name) => /port|channel|pirq/i.test(name))
        .sort(),
    ).toEqual(['maxEvtchnPort', 'nrPirqs'])
  })
})
