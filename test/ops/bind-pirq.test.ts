/** EVTCHNOP_bind_pirq (spec 2.9): every errno in the order of the checks, then what it does. */

import { describe, expect, it } from 'vitest'
import { ECS } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'

import { END, type Guest, host, NOWHERE, READ_ONLY } from './raw.js'

const SHARE = 1
const pirq = (irq: number, flags = 0) => ({ pirq: irq, flags })
const permit = (guest: Guest, ...irqs: number[]) => {
  for (const irq of irqs) inside(guest.domain).pirqs.permitted.add(irq)
}

describe.each([64, 32] as const)('bind_pirq, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d0 } = host(bits)
    expect(d0.answer('bind_pirq', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d0.answer('bind_pirq', {}, { at: END - 11 })).toBe('EFAULT')
    expect(d0.answer('bind_pirq', pirq(4), { at: END - 12 })).toBe('ok')
  })

  it.each([32, 0x8000_0000, 0xffff_ffff])(
    'EC-pirq-2 before EC-pirq-3: there is no PIRQ %i (EINVAL), for anybody',
    (irq) => {
      const { d0, d1 } = host(bits)
      expect(d0.answer('bind_pirq', pirq(irq))).toBe('EINVAL')
      expect(d1.answer('bind_pirq', pirq(irq))).toBe('EINVAL')
    },
  )

  it('EC-pirq-3, EC-xsm-4: a PV guest without access (EPERM); a control domain has access to all', () => {
    const { d0, d1 } = host(bits)
    expect(d1.answer('bind_pirq', pirq(4))).toBe('EPERM')
    permit(d1, 5)
    expect(d1.answer('bind_pirq', pirq(4))).toBe('EPERM')
    expect(d1.answer('bind_pirq', pirq(5))).toBe('ok')
    expect(d0.answer('bind_pirq', pirq(4))).toBe('ok')
  })

  it('EC-pirq-3 before EC-pirq-4 and -5: access that was taken back comes before what is bound, and before a full table', () => {
    const { d1 } = host(bits)
    permit(d1, 5)
    d1.must('bind_pirq', pirq(5))
    inside(d1.domain).pirqs.permitted.delete(5)
    expect(d1.answer('bind_pirq', pirq(5))).toBe('EPERM')
    d1.fill()
    expect(d1.answer('bind_pirq', pirq(6))).toBe('EPERM')
  })

  it('EC-pirq-4 before EC-pirq-5: bound already (EEXIST), full table or not', () => {
    const { d0 } = host(bits)
    d0.must('bind_pirq', pirq(4, SHARE))
    expect(d0.answer('bind_pirq', pirq(4, SHARE))).toBe('EEXIST')
    d0.fill()
    expect(d0.answer('bind_pirq', pirq(4, SHARE))).toBe('EEXIST')
  })

  it('EC-pirq-5 before EC-pirq-7: no port is left (ENOSPC), though the line is Xen’s own', () => {
    const { xen, d0 } = host(bits)
    worldOf(xen).irqs.claim(4)
    d0.fill()
    expect(d0.answer('bind_pirq', pirq(4))).toBe('ENOSPC')
    expect(d0.answer('bind_pirq', pirq(5))).toBe('ENOSPC')
  })

  it('EC-pirq-5, EC-port-14: the domain is dying (EINVAL), which comes after EEXIST would and before EBUSY', () => {
    const { xen, d0 } = host(bits)
    worldOf(xen).irqs.claim(4)
    xen.killDomain(xen.domain(0)!)
    expect(d0.inside('bind_pirq', pirq(4))).toBe('EINVAL')
  })

  it('EC-pirq-7, EC-pirq-8: the line is Xen’s own (EBUSY): the port is given back, and nothing is bound', () => {
    const { xen, d0 } = host(bits)
    worldOf(xen).irqs.claim(4)
    expect(d0.answer('bind_pirq', pirq(4, SHARE))).toBe('EBUSY')
    expect(inside(d0.domain).pirqs.find(4)?.port ?? 0).toBe(0)
    xen.sendPirq(xen.domain(0)!, 4)
    expect(d0.flag()).toBe(0)
    expect(d0.ipi()).toBe(1)
  })

  it.each([
    ['neither shares', 0, 0],
    ['the first does not share', 0, SHARE],
    ['the second does not share', SHARE, 0],
  ])('EC-pirq-7, EC-irq-2: a line of another domain, and %s (EBUSY)', (_, first, second) => {
    const { d0, d1 } = host(bits)
    permit(d1, 4)
    d0.must('bind_pirq', pirq(4, first))
    expect(d1.answer('bind_pirq', pirq(4, second))).toBe('EBUSY')
    d0.must('close', { port: 1 })
    expect(d1.answer('bind_pirq', pirq(4, second))).toBe('ok')
  })

  it('EC-pirq-8: an HVM guest needs no access and no host line', () => {
    const { xen, d1, d2 } = host(bits, {}, { type: 'hvm' })
    worldOf(xen).irqs.claim(4)
    expect(d1.answer('bind_pirq', pirq(4))).toBe('ok')
    expect(d2.answer('bind_pirq', pirq(4))).toBe('ok')
    expect(d1.answer('bind_pirq', pirq(4))).toBe('EEXIST')
  })

  it('EC-pirq-9: each new port is the head of vCPU 0’s list; status tells the PIRQ', () => {
    const { d0 } = host(bits)
    const ports = [7, 8, 9].map((irq) => d0.must('bind_pirq', pirq(irq)).port)
    expect(ports.map((port) => d0.state(port))).toEqual([ECS.PIRQ, ECS.PIRQ, ECS.PIRQ])
    expect(d0.status(ports[1]!)).toMatchObject({ status: 3, vcpu: 0, pirq: 8 })
    const list: number[] = []
    for (let port = inside(d0.domain.vcpu(0)).firstPirqPort; port; port = inside(d0.domain).ports.nextPirqPort(port))
      list.push(port)
    expect(list).toEqual([...ports].reverse())
    expect(list.map((port) => inside(d0.domain).ports.prevPirqPort(port))).toEqual([0, list[0], list[1]])
  })

  it('EC-op-3: the copy-out fails (EFAULT), and the PIRQ is bound all the same', () => {
    const { d0 } = host(bits)
    expect(d0.op('bind_pirq', pirq(4), { at: READ_ONLY })).toBe(-14)
    expect(d0.status(1)).toMatchObject({ status: 3, pirq: 4 })
    expect(d0.answer('bind_pirq', pirq(4))).toBe('EEXIST')
  })
})
