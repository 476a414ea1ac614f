/** EVTCHNOP_bind_virq (spec 2.7): every errno in the order of the checks, then what it does. */

import { describe, expect, it } from 'vitest'
import { ECS, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'

import { END, host, NOWHERE, READ_ONLY } from './raw.js'

const PER_VCPU = [VIRQ.TIMER, VIRQ.DEBUG, VIRQ.XENOPROF, VIRQ.XENPMU]
const GLOBAL = [2, 3, 4, 5, 6, 8, 9, 10, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]
const NEGATIVE = [24, 25, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]

describe.each([64, 32] as const)('bind_virq, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('bind_virq', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('bind_virq', {}, { at: END - 11 })).toBe('EFAULT')
    expect(d1.answer('bind_virq', { virq: 24, vcpu: 0 }, { at: END - 12 })).toBe('EINVAL')
  })

  it.each(NEGATIVE)(
    'EC-virq-1 before EC-virq-3: there is no VIRQ %i, and it is found before the missing vCPU (EINVAL)',
    (virq) => {
      const { d0 } = host(bits)
      expect(d0.answer('bind_virq', { virq, vcpu: 0 })).toBe('EINVAL')
      expect(d0.answer('bind_virq', { virq, vcpu: 99 })).toBe('EINVAL')
    },
  )

  it.each([...GLOBAL, VIRQ.ARGO])('EC-virq-2 before EC-virq-3, -4: VIRQ %i goes with vCPU 0 only (EINVAL)', (virq) => {
    const { d0, d1 } = host(bits)
    for (const vcpu of [1, 99, 0xffff_ffff]) {
      expect(d0.answer('bind_virq', { virq, vcpu })).toBe('EINVAL')
      expect(d1.answer('bind_virq', { virq, vcpu })).toBe('EINVAL')
    }
  })

  it.each(PER_VCPU)(
    'EC-virq-3 before EC-virq-7: VIRQ %i on a vCPU that does not exist (ENOENT), full table or not',
    (virq) => {
      const { d1 } = host(bits)
      expect(d1.answer('bind_virq', { virq, vcpu: 2 })).toBe('ENOENT')
      d1.fill()
      expect(d1.answer('bind_virq', { virq, vcpu: 0xffff_ffff })).toBe('ENOENT')
    },
  )

  it.each(GLOBAL)('EC-virq-4, EC-virq-9 before EC-virq-7: global VIRQ %i is another domain’s (EBUSY)', (virq) => {
    const { d0, d1 } = host(bits)
    expect(d1.answer('bind_virq', { virq, vcpu: 0 })).toBe('EBUSY')
    d1.fill()
    expect(d1.answer('bind_virq', { virq, vcpu: 0 })).toBe('EBUSY')
    expect(d0.answer('bind_virq', { virq, vcpu: 0 })).toBe('ok')
  })

  it('EC-virq-4 before EC-port-14: a dying domain that is not the handler (EBUSY), and one that is (EINVAL)', () => {
    const { xen, d0, d1 } = host(bits)
    xen.killDomain(xen.domain(1)!)
    expect(d1.inside('bind_virq', { virq: VIRQ.CONSOLE, vcpu: 0 })).toBe('EBUSY')
    expect(d1.inside('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 })).toBe('EINVAL')
    xen.killDomain(xen.domain(0)!)
    expect(d0.inside('bind_virq', { virq: VIRQ.CONSOLE, vcpu: 0 })).toBe('EINVAL')
  })

  it('EC-virq-5 before EC-virq-7: bound on that vCPU already (EEXIST), full table or not', () => {
    const { d0 } = host(bits)
    for (const virq of [VIRQ.TIMER, VIRQ.ARGO, VIRQ.DOM_EXC]) d0.virq(virq)
    for (const full of [false, true]) {
      if (full) d0.fill()
      for (const virq of [VIRQ.TIMER, VIRQ.ARGO, VIRQ.DOM_EXC])
        expect(d0.answer('bind_virq', { virq, vcpu: 0 })).toBe('EEXIST')
    }
  })

  it.each([VIRQ.TIMER, VIRQ.ARGO, VIRQ.CONSOLE, VIRQ.DOM_EXC])(
    'EC-virq-7: no port is left for VIRQ %i (ENOSPC)',
    (virq) => {
      const { d0 } = host(bits)
      d0.fill()
      expect(d0.answer('bind_virq', { virq, vcpu: 0 })).toBe('ENOSPC')
      d0.must('close', { port: 7 })
      expect(d0.virq(virq)).toBe(7)
    },
  )

  it('EC-virq-6, EC-XSA-496: no domain counts as changed after a bind that found no port', () => {
    const { xen, d0 } = host(bits)
    d0.fill()
    expect(d0.answer('bind_virq', { virq: VIRQ.DOM_EXC, vcpu: 0 })).toBe('ENOSPC')
    expect(worldOf(xen).virqs.takeChanged(inside(d0.domain))).toBe(-1)
  })

  it('EC-virq-6, EC-vclass-6: binding VIRQ_DOM_EXC marks every domain that exists as changed', () => {
    const { xen, d0 } = host(bits)
    d0.virq(VIRQ.DOM_EXC)
    expect([1, 2, 3, 4].map(() => worldOf(xen).virqs.takeChanged(inside(d0.domain)))).toEqual([0, 1, 2, -1])
  })

  it('EC-virq-8: the port is on the vCPU that was asked for, and the VIRQ comes there', () => {
    const { xen, d1 } = host(bits)
    const [one, two] = [d1.virq(VIRQ.TIMER, 1), d1.virq(VIRQ.TIMER, 0)]
    expect(d1.state(one)).toBe(ECS.VIRQ)
    expect(d1.status(one)).toMatchObject({ status: 4, vcpu: 1, virq: VIRQ.TIMER })
    expect([d1.bit('pending', one), d1.bit('pending', two)]).toEqual([0, 0])
    xen.sendVirq(xen.domain(1)!.vcpu(1), VIRQ.TIMER)
    expect([d1.bit('pending', one), d1.bit('pending', two), d1.flag(0), d1.flag(1)]).toEqual([1, 0, 0, 1])
  })

  it('EC-virq-8: what was pending there before the bind stays, for the guest cleans its own words', () => {
    const { d1 } = host(bits)
    d1.setBit('pending', 1)
    d1.setBit('mask', 1)
    expect(d1.virq(VIRQ.DEBUG)).toBe(1)
    expect([d1.bit('pending', 1), d1.bit('mask', 1)]).toEqual([1, 1])
  })

  it('EC-virq-9: the unassigned numbers 5, 14 and 15 are global, and the handler domain may bind them', () => {
    const { d0, d1 } = host(bits)
    for (const virq of [5, 14, 15]) {
      expect(d1.answer('bind_virq', { virq, vcpu: 0 })).toBe('EBUSY')
      expect(d0.status(d0.virq(virq))).toMatchObject({ status: 4, virq })
    }
  })

  it('EC-virq-9: no policy is asked: one that refuses all it can does not refuse this', () => {
    const no = () => -1
    const xsm = {
      name: 'no',
      evtchnUnbound: no,
      evtchnInterdomain: no,
      evtchnSend: no,
      evtchnStatus: no,
      evtchnReset: no,
    }
    expect(host(bits, { xsm }).d1.virq(VIRQ.TIMER)).toBe(1)
  })

  it('EC-op-3: the copy-out fails (EFAULT), the VIRQ is bound and a second bind finds it (EEXIST)', () => {
    const { d1 } = host(bits)
    expect(d1.op('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 }, { at: READ_ONLY })).toBe(-14)
    expect(d1.answer('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 })).toBe('EEXIST')
    expect(d1.status(1)).toMatchObject({ status: 4, virq: VIRQ.TIMER })
  })
})
