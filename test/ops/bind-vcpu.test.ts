/** EVTCHNOP_bind_vcpu (spec 2.13): every errno in the order of the checks, then what moves and what does not. */

import { describe, expect, it } from 'vitest'
import { VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'

import { END, host, NOWHERE } from './raw.js'

describe.each([64, 32] as const)('bind_vcpu, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('bind_vcpu', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('bind_vcpu', {}, { at: END - 7 })).toBe('EFAULT')
    const port = d1.unbound(2)
    expect(d1.answer('bind_vcpu', { port, vcpu: 1 }, { at: END - 8 })).toBe('ok')
  })

  it.each([2, 0x8000_0000, 0xffff_ffff])(
    'EC-vcpu-1 before EC-vcpu-2: there is no vCPU %i (ENOENT), nor the port',
    (vcpu) => {
      const { d1 } = host(bits)
      for (const port of [d1.unbound(2), d1.ipi(), 9, 0, 5000])
        expect(d1.answer('bind_vcpu', { port, vcpu })).toBe('ENOENT')
    },
  )

  it.each([64, 4096, 0xffff_ffff])('EC-vcpu-2: port %i is not valid (EINVAL)', (port) => {
    expect(host(bits).d1.answer('bind_vcpu', { port, vcpu: 0 })).toBe('EINVAL')
  })

  it('EC-vcpu-3: a Xen-attached port stays where Xen wants it (EINVAL)', () => {
    const { xen, d1, d2 } = host(bits)
    const port = xen.allocXenPort(xen.domain(1)!, { vcpuId: 1, remoteDomid: 2, notify: () => {} })
    expect(d1.answer('bind_vcpu', { port, vcpu: 0 })).toBe('EINVAL')
    d2.must('bind_interdomain', { remote_dom: 1, remote_port: port })
    expect(d1.answer('bind_vcpu', { port, vcpu: 0 })).toBe('EINVAL')
  })

  it('EC-vcpu-4: an IPI, a free port, port 0 and a VIRQ per vCPU do not move (EINVAL), even to where they are', () => {
    const { d1 } = host(bits)
    const perVcpu = [VIRQ.TIMER, VIRQ.DEBUG, VIRQ.XENOPROF, VIRQ.XENPMU].map((virq) => d1.virq(virq))
    for (const port of [0, 60, d1.ipi(), ...perVcpu])
      for (const vcpu of [0, 1]) expect(d1.answer('bind_vcpu', { port, vcpu }), `port ${port}`).toBe('EINVAL')
  })

  it('EC-vcpu-5, EC-port-21: unbound, interdomain, PIRQ, and VIRQs of domain and host move', () => {
    const { d0, d2 } = host(bits)
    const [ours] = d0.connect(d2)
    const ports = [d0.unbound(2), ours, d0.virq(VIRQ.ARGO), d0.virq(VIRQ.CONSOLE)]
    ports.push(d0.must('bind_pirq', { pirq: 4, flags: 0 }).port)
    for (const port of ports) {
      expect(d0.answer('bind_vcpu', { port, vcpu: 1 }), `port ${port}`).toBe('ok')
      expect(d0.status(port).vcpu).toBe(1)
      expect(d0.answer('bind_vcpu', { port, vcpu: 1 }), `port ${port}`).toBe('ok')
    }
  })

  it('EC-vcpu-5: a PIRQ changes lists, and moving it to where it is changes nothing', () => {
    const { d0 } = host(bits)
    const ports = [4, 5, 6].map((pirq) => d0.must('bind_pirq', { pirq, flags: 0 }).port)
    const heads = () => [inside(d0.domain.vcpu(0)).firstPirqPort, inside(d0.domain.vcpu(1)).firstPirqPort]
    expect(heads()).toEqual([3, 0])
    d0.must('bind_vcpu', { port: 2, vcpu: 0 })
    expect([heads(), inside(d0.domain).ports.nextPirqPort(3)]).toEqual([[3, 0], 2])
    d0.must('bind_vcpu', { port: 2, vcpu: 1 })
    d0.must('bind_vcpu', { port: 3, vcpu: 1 })
    expect([heads(), inside(d0.domain).ports.nextPirqPort(3), inside(d0.domain).ports.nextPirqPort(1)]).toEqual([
      [1, 3],
      2,
      0,
    ])
    for (const port of ports) d0.must('close', { port })
    expect(heads()).toEqual([0, 0])
  })

  it('EC-vcpu-6, EC-odd-7: only later events go there; what is pending is neither moved nor raised again', () => {
    const { d1, d2 } = host(bits)
    const [theirs, port] = d2.connect(d1)
    d2.must('send', { port: theirs })
    d1.must('bind_vcpu', { port, vcpu: 1 })
    expect([d1.sel(0), d1.sel(1), d1.flag(0), d1.flag(1)]).toEqual([1n, 0n, 1, 0])
    d2.must('send', { port: theirs })
    expect([d1.sel(1), d1.flag(1)]).toEqual([0n, 0])
    d1.setBit('pending', port, 0)
    d2.must('send', { port: theirs })
    expect([d1.sel(1), d1.flag(1)]).toEqual([1n, 1])
  })

  it('EC-port-22: each end has a vCPU of its own, which outlives the other end', () => {
    const { d1, d2 } = host(bits)
    const [ours, theirs] = d1.connect(d2)
    d2.must('bind_vcpu', { port: theirs, vcpu: 1 })
    expect([d1.status(ours).vcpu, d2.status(theirs).vcpu]).toEqual([0, 1])
    d1.must('close', { port: ours })
    expect(d2.status(theirs)).toMatchObject({ status: 1, vcpu: 1 })
    d1.must('bind_interdomain', { remote_dom: 2, remote_port: theirs })
    expect(d2.status(theirs)).toMatchObject({ status: 2, vcpu: 1 })
  })

  it('EC-port-21: closing brings a port back to vCPU 0', () => {
    const { d1 } = host(bits)
    const port = d1.unbound(2)
    d1.must('bind_vcpu', { port, vcpu: 1 })
    d1.must('close', { port })
    expect(d1.unbound(2)).toBe(port)
    expect(d1.status(port).vcpu).toBe(0)
  })
})
