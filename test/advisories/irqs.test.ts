/** Advisories about PIRQs and VIRQs, one regression test each. */

import { describe, expect, it } from 'vitest'
import { type Bits, HYPERVISOR, VIRQ } from '../../src/abi/index.js'
import { PHYSDEVOP } from '../../src/abi/physdev.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'

import { ARGUMENT, type Guest, host } from '../ops/raw.js'

const permit = (guest: Guest, ...pirqs: number[]) => {
  for (const pirq of pirqs) inside(guest.domain).pirqs.permitted.add(pirq)
}
const bind = (guest: Guest, pirq: number, flags = 0) => guest.answer('bind_pirq', { pirq, flags })
function eoi(guest: Guest, pirq: number): string {
  guest.view.setUint32(ARGUMENT, pirq, true)
  return guest.callAnswer(HYPERVISOR.physdev_op, [PHYSDEVOP.eoi, ARGUMENT])
}
/** physdev_op's map_pirq and unmap_pirq. */
const MAPPING = [13, 14]

describe.each([64, 32] as const)('physical interrupts, %i-bit', (bits: Bits) => {
  it('EC-XSA-46: a bind that fails gives no access, and an interrupt in use is not replaced', () => {
    const { xen, d1, d2 } = host(bits)
    permit(d1, 5)
    permit(d2, 5)
    expect(bind(d1, 5)).toBe('ok')
    expect(bind(d2, 5)).toBe('EBUSY')
    expect(worldOf(xen).irqs.guests(5)).toEqual([1])
    expect(eoi(d2, 5)).toBe('ok')
    xen.raiseIrq(5)
    expect([d1.bit('pending', 1), d2.bit('pending', 1), d2.flag()]).toEqual([1, 0, 0])
  })

  it('EC-XSA-83: after a bind that failed the line is as it was, and free once its owner lets go', () => {
    const { xen, d1, d2 } = host(bits)
    permit(d1, 5)
    permit(d2, 5)
    bind(d1, 5)
    for (let i = 0; i < 3; i++) expect(bind(d2, 5, 1)).toBe('EBUSY')
    d1.must('close', { port: 1 })
    expect([worldOf(xen).irqs.guests(5), bind(d2, 5, 1)]).toEqual([[], 'ok'])
    xen.raiseIrq(5)
    expect([d1.bit('pending', 1), d2.bit('pending', 1)]).toEqual([0, 1])
  })

  it('EC-XSA-83: a failed bind of a line that Xen uses leaves nothing that a close could let go of', () => {
    const { xen, d1 } = host(bits)
    worldOf(xen).irqs.claim(5)
    permit(d1, 5)
    expect(bind(d1, 5)).toBe('EBUSY')
    expect([inside(d1.domain).pirqs.find(5)?.port, inside(d1.domain).ports.activeEvtchns]).toEqual([0, 0])
    expect(d1.answer('close', { port: 1 })).toBe('EINVAL')
  })

  it('EC-XSA-237: a line goes to those only who were given it; no mapping call gives it (EPERM, ENOSYS)', () => {
    const { d1, d2 } = host(bits)
    permit(d2, 5)
    for (const cmd of MAPPING) expect(d1.callAnswer(HYPERVISOR.physdev_op, [cmd, ARGUMENT])).toBe('ENOSYS')
    expect([bind(d1, 5), bind(d2, 5)]).toEqual(['EPERM', 'ok'])
  })

  it('EC-XSA-360: unbinding leaves the record, so that an EOI that comes late finds it', () => {
    const { xen, d1 } = host(bits)
    permit(d1, 5)
    expect(eoi(d1, 5)).toBe('EINVAL')
    bind(d1, 5)
    const record = inside(d1.domain).pirqs.find(5)
    xen.raiseIrq(5)
    d1.must('close', { port: 1 })
    expect([inside(d1.domain).pirqs.find(5), eoi(d1, 5), d1.bit('pending', 1)]).toEqual([record, 'ok', 0])
    expect(bind(d1, 5)).toBe('ok')
  })
})

describe('VIRQ_DOM_EXC', () => {
  it('EC-XSA-496: a bind that finds no port leaves the record of changed domains to its owner', () => {
    const { xen, d0, d1, d2 } = host(64)
    d0.virq(VIRQ.DOM_EXC)
    while (worldOf(xen).virqs.takeChanged(inside(d0.domain)) >= 0);
    xen.destroyDomain(xen.domain(2)!)
    expect(d2.domain.dying).toBe('dead')
    d1.fill()
    expect(d1.answer('bind_virq', { virq: VIRQ.DOM_EXC, vcpu: 0 })).toBe('EBUSY')
    expect(d1.answer('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 })).toBe('ENOSPC')
    expect(worldOf(xen).virqs.takeChanged(inside(d0.domain))).toBe(2)
  })
})
