/** EVTCHNOP_close (spec 2.10): every errno, then what becomes of the port and of its peer. */

import { describe, expect, it } from 'vitest'
import { ECS, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'

import { END, host, NOWHERE } from './raw.js'

describe.each([64, 32] as const)('close, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('close', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('close', {}, { at: END - 3 })).toBe('EFAULT')
    d1.ipi()
    expect(d1.answer('close', { port: 1 }, { at: END - 4 })).toBe('ok')
  })

  it.each([64, 4096, 131072, 0x8000_0000, 0xffff_ffff])('EC-close-1: port %i is not valid (EINVAL)', (port) => {
    expect(host(bits).d1.answer('close', { port })).toBe('EINVAL')
  })

  it('EC-close-2: an end that is attached to Xen refuses the guest’s close, connected or not (EINVAL)', () => {
    const { xen, d1, d2 } = host(bits)
    const port = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {} })
    expect(d1.answer('close', { port })).toBe('EINVAL')
    const peer = d2.must('bind_interdomain', { remote_dom: 1, remote_port: port }).local_port
    expect(d1.answer('close', { port })).toBe('EINVAL')
    expect(d2.answer('close', { port: peer })).toBe('ok')
    expect(d1.answer('close', { port })).toBe('EINVAL')
  })

  it('EC-close-3, EC-port-9: port 0 is reserved for ever, and a free port cannot be closed (EINVAL)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('close', { port: 0 })).toBe('EINVAL')
    expect(d1.answer('close', { port: 5 })).toBe('EINVAL')
    const port = d1.ipi()
    expect(d1.answer('close', { port })).toBe('ok')
    expect(d1.answer('close', { port })).toBe('EINVAL')
  })

  it('EC-close-4, EC-close-9: an unbound port and an IPI are just freed: not pending, mask as it was, vCPU 0', () => {
    const { d1 } = host(bits)
    const unbound = d1.unbound(2)
    d1.must('bind_vcpu', { port: unbound, vcpu: 1 })
    const ipi = d1.ipi(1)
    for (const port of [unbound, ipi]) {
      d1.setBit('mask', port)
      d1.setBit('pending', port)
      d1.must('close', { port })
      expect([d1.state(port), d1.bit('pending', port), d1.bit('mask', port)]).toEqual([ECS.FREE, 0, 1])
      expect(d1.status(port)).toMatchObject({ status: 0, vcpu: 0 })
    }
    expect(inside(d1.domain).ports.activeEvtchns).toBe(0)
  })

  it('EC-close-5: a VIRQ per vCPU can be bound again on that vCPU, others stay', () => {
    const { xen, d1 } = host(bits)
    const [on1, on0] = [d1.virq(VIRQ.TIMER, 1), d1.virq(VIRQ.TIMER, 0)]
    d1.must('close', { port: on1 })
    expect(d1.answer('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 })).toBe('EEXIST')
    xen.sendVirq(xen.domain(1)!.vcpu(1), VIRQ.TIMER)
    expect([d1.bit('pending', on1), d1.bit('pending', on0)]).toEqual([0, 0])
    expect(d1.virq(VIRQ.TIMER, 1)).toBe(on1)
  })

  it('EC-close-5: a VIRQ of the domain that was moved to vCPU 1 leaves vCPU 0’s table', () => {
    const { xen, d0, d1 } = host(bits)
    for (const [guest, virq] of [
      [d1, VIRQ.ARGO],
      [d0, VIRQ.CONSOLE],
    ] as const) {
      const port = guest.virq(virq)
      guest.must('bind_vcpu', { port, vcpu: 1 })
      guest.must('close', { port })
      expect(worldOf(xen).virqs.enabled(inside(guest.domain), 0, virq)).toBe(false)
      expect(guest.virq(virq)).toBe(port)
    }
  })

  it('EC-close-5, EC-vclass-6: closing VIRQ_DOM_EXC ends the record of changed domains', () => {
    const { xen, d0 } = host(bits)
    const port = d0.virq(VIRQ.DOM_EXC)
    d0.must('close', { port })
    expect(worldOf(xen).virqs.takeChanged(inside(d0.domain))).toBe(-1)
    xen.killDomain(xen.domain(2)!)
    expect(worldOf(xen).virqs.takeChanged(inside(d0.domain))).toBe(-1)
  })

  it('EC-close-6, EC-bug-9: a PIRQ is unbound from its line and leaves its vCPU’s list, wherever it was in it', () => {
    const { xen, d0 } = host(bits)
    const ports = [4, 5, 6, 7].map((pirq) => d0.must('bind_pirq', { pirq, flags: 0 }).port)
    d0.must('bind_vcpu', { port: ports[3]!, vcpu: 1 })
    const list = (vcpu: number) => {
      const found: number[] = []
      for (let p = inside(d0.domain.vcpu(vcpu)).firstPirqPort; p; p = inside(d0.domain).ports.nextPirqPort(p))
        found.push(p)
      return found
    }
    expect([list(0), list(1)]).toEqual([[3, 2, 1], [4]])
    d0.must('close', { port: 2 })
    expect(list(0)).toEqual([3, 1])
    d0.must('close', { port: 3 })
    expect(list(0)).toEqual([1])
    d0.must('close', { port: 1 })
    d0.must('close', { port: 4 })
    expect([list(0), list(1)]).toEqual([[], []])
    expect([4, 5, 6, 7].map((irq) => worldOf(xen).irqs.guests(irq).length)).toEqual([0, 0, 0, 0])
    expect([4, 5, 6, 7].map((pirq) => d0.answer('bind_pirq', { pirq, flags: 0 }))).toEqual(['ok', 'ok', 'ok', 'ok'])
  })

  it('EC-close-8, EC-odd-3: the peer becomes unbound for the closer, hears nothing, and keeps the rest', () => {
    const told: number[] = []
    const { d1, d2 } = host(bits, { trace: { upcall: (vcpu) => void told.push(vcpu.domid) } })
    const [ours, theirs] = d1.connect(d2)
    d2.must('bind_vcpu', { port: theirs, vcpu: 1 })
    d2.setBit('mask', theirs)
    d1.must('send', { port: ours })
    told.length = 0
    d1.must('close', { port: ours })
    expect(d2.status(theirs)).toMatchObject({ status: 1, vcpu: 1, unbound_dom: 1 })
    expect([d2.bit('pending', theirs), d2.bit('mask', theirs), d2.flag(0), d2.flag(1)]).toEqual([1, 1, 0, 0])
    expect(told).toEqual([])
    expect(d2.answer('send', { port: theirs })).toBe('ok')
  })

  it('EC-close-7, EC-close-8: the closer may connect to the same peer port again, another domain may not', () => {
    const { d0, d1, d2 } = host(bits)
    const [ours, theirs] = d1.connect(d2)
    d1.must('close', { port: ours })
    expect(d0.answer('bind_interdomain', { remote_dom: 2, remote_port: theirs })).toBe('EINVAL')
    expect(d1.answer('bind_interdomain', { remote_dom: 2, remote_port: theirs })).toBe('ok')
  })

  it('EC-close-8: the peer may be attached to Xen, and keeps its notification function', () => {
    let notified = 0
    const { xen, d1, d2 } = host(bits)
    const attached = xen.allocXenPort(xen.domain(2)!, { remoteDomid: 1, notify: () => void notified++ })
    for (const times of [1, 2]) {
      const { local_port: port } = d1.must('bind_interdomain', { remote_dom: 2, remote_port: attached })
      d1.must('send', { port: port })
      expect(notified).toBe(times)
      d1.must('close', { port: port })
      expect(d2.status(attached)).toMatchObject({ status: 1, unbound_dom: 1 })
      expect(inside(d2.domain).ports.xenEvtchns).toBe(1)
    }
  })

  it('EC-close-8: both ends in one domain: the other one becomes unbound for the domain itself', () => {
    const { d1 } = host(bits)
    const first = d1.unbound(1)
    const second = d1.must('bind_interdomain', { remote_dom: 1, remote_port: first }).local_port
    d1.must('close', { port: first })
    expect(d1.status(second)).toMatchObject({ status: 1, unbound_dom: 1 })
    d1.must('close', { port: second })
    expect(inside(d1.domain).ports.activeEvtchns).toBe(0)
  })

  it('EC-close-9, EC-2l-5: the pending word’s bit only is cleared: selector and flag may stay, and stay harmless', () => {
    const { d1 } = host(bits)
    const port = d1.ipi()
    d1.must('send', { port })
    d1.must('close', { port })
    expect([d1.bit('pending', port), d1.sel(), d1.flag()]).toEqual([0, 1n, 1])
  })
})
