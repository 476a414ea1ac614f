/** From the upcall flag to the handler of an HVM guest (spec 3.2): vectors, callbacks, GSI and INTx, edges and levels. */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, SCHEDOP } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { ARGUMENT, type Guest, host, Guest as NewGuest, NOWHERE, READ_ONLY } from '../ops/raw.js'
import { clear, entering, GET_PARAM, GSI, INTX, ignore, SET_PARAM, setCallback, setVector, VECTOR } from './entering.js'

const { hvm_op, sched_op } = HYPERVISOR

describe.each([64, 32] as const)('an HVM guest, %i-bit', (bits) => {
  const hvm = (handler?: (vcpu: number, guest: Guest) => void) => entering(bits, { type: 'hvm' }, handler)

  it('EC-up-3: without vector and callback nobody is called, and a blocked vCPU sleeps on', () => {
    const { d1, entered, woken } = hvm()
    const [zero, one] = [d1.ipi(0), d1.ipi(1)]
    d1.call(sched_op, [SCHEDOP.block, 0], 1)
    for (const port of [zero, one]) d1.must('send', { port })
    expect([d1.flag(0), d1.flag(1), entered, woken]).toEqual([1, 1, [], []])
    expect(d1.domain.vcpu(1).blocked).toBe(true)
  })

  it('EC-up-3: a vCPU’s own vector comes first: that vCPU is called, any vCPU', () => {
    const { d1, entered } = hvm()
    expect(setVector(d1, 1, 0x30)).toBe('ok')
    const [zero, one] = [d1.ipi(0), d1.ipi(1)]
    d1.must('send', { port: zero })
    expect(entered).toEqual([])
    d1.must('send', { port: one })
    expect(entered).toEqual([1])
  })

  it('EC-up-3: the vector is an edge: no second call while the flag stays 1', () => {
    const { d1, entered } = hvm(ignore)
    setVector(d1, 0, 0x30)
    d1.must('send', { port: d1.ipi(0) })
    expect(entered).toEqual([0])
    d1.call(sched_op, [SCHEDOP.yield, 0])
    d1.must('send', { port: d1.ipi(0) })
    expect(entered).toEqual([0])
    d1.quiet()
    d1.must('send', { port: 1 })
    expect(entered).toEqual([0, 0])
  })

  it('EC-up-3, EC-up-4: the callback vector calls every vCPU', () => {
    const { d1, entered } = hvm()
    expect(setCallback(d1, VECTOR)).toBe('ok')
    d1.must('send', { port: d1.ipi(1) })
    d1.must('send', { port: d1.ipi(0) })
    expect(entered).toEqual([1, 0])
  })

  it('EC-up-4: it is injected at each entry while the flag is not 0', () => {
    const { d1, entered } = hvm(ignore)
    setCallback(d1, VECTOR)
    d1.must('send', { port: d1.ipi(0) })
    const calls = entered.length
    d1.call(sched_op, [SCHEDOP.yield, 0])
    expect(entered.length).toBe(calls + 1)
    d1.setFlag(0)
    d1.call(sched_op, [SCHEDOP.yield, 0])
    expect(entered.length).toBe(calls + 1)
  })

  it.each([
    ['a GSI', GSI],
    ['INTx', INTX],
  ])('EC-up-3, EC-up-5: with %s vCPU 0 is called while its flag is set, any other is not', (_, value) => {
    const { d1, entered } = hvm()
    expect(setCallback(d1, value)).toBe('ok')
    d1.must('send', { port: d1.ipi(1) })
    expect(entered).toEqual([])
    d1.must('send', { port: d1.ipi(0) })
    expect(entered).toEqual([0])
  })

  it('EC-up-5: the level falls when the guest has cleared the flag', () => {
    const { d1, xen, entered } = hvm()
    setCallback(d1, GSI)
    const port = d1.ipi()
    d1.must('send', { port })
    d1.setFlag(0)
    xen.deliverUpcalls(d1.domain.vcpu(0))
    expect(entered).toEqual([0])
  })

  it('EC-up-8, EC-odd-14: evtchn_upcall_mask is neither looked at nor written', () => {
    const masks: number[] = []
    const { d1, entered } = hvm((vcpu, guest) => {
      masks.push(guest.mask(vcpu))
      clear(vcpu, guest)
    })
    setCallback(d1, VECTOR)
    d1.setMask(0xff)
    d1.must('send', { port: d1.ipi() })
    d1.setMask(0)
    d1.must('send', { port: 1 })
    expect([entered, masks, d1.mask()]).toEqual([[0, 0], [0xff, 0], 0])
  })

  it('EC-up-8: SCHEDOP_block leaves the mask alone', () => {
    const { d1 } = hvm()
    d1.setMask(1)
    d1.call(sched_op, [SCHEDOP.block, 0])
    expect([d1.mask(), d1.domain.vcpu(0).blocked]).toEqual([1, true])
  })

  it.each([
    ['0', 0n],
    ['a GSI of number 0', 0x100n],
    ['a GSI beyond the last', 0xffn],
    ['type 3', 3n << 56n],
    ['type 255', 0xffn << 56n],
  ])('EC-up-9: a callback of %s is none', (_, value) => {
    const { d1, entered } = hvm()
    expect(setCallback(d1, value)).toBe('ok')
    d1.must('send', { port: d1.ipi() })
    expect(entered).toEqual([])
  })

  it('EC-up-9: setting the callback re-evaluates every vCPU that is online', () => {
    const { d1, entered } = hvm()
    for (const vcpu of [0, 1]) d1.must('send', { port: d1.ipi(vcpu) })
    expect(setCallback(d1, VECTOR)).toBe('ok')
    expect([...entered].sort()).toEqual([0, 1])
  })

  it('EC-up-9: a vCPU that sleeps with its flag set is woken by the callback', () => {
    const { d1, woken, entered } = hvm()
    d1.must('send', { port: d1.ipi(1) })
    d1.call(sched_op, [SCHEDOP.block, 0], 1)
    expect(d1.domain.vcpu(1).blocked).toBe(true)
    setCallback(d1, VECTOR)
    expect([woken, entered]).toEqual([[1], [1]])
  })

  it('EC-up-9: the parameter reads back, for its guest and a control domain, no other (EPERM, ESRCH)', () => {
    const { d0, d1, d2 } = hvm()
    setCallback(d1, INTX)
    const get = (guest: Guest, domid: number, at = ARGUMENT) => {
      guest.view.setUint16(at, domid, true)
      guest.view.setUint32(at + 4, 0, true)
      return guest.callAnswer(hvm_op, [GET_PARAM, at])
    }
    for (const [guest, domid] of [
      [d1, 0x7ff0],
      [d1, 1],
      [d0, 1],
    ] as const) {
      expect(get(guest, domid)).toBe('ok')
      expect(guest.view.getBigUint64(ARGUMENT + 8, true)).toBe(INTX)
    }
    expect(get(d2, 1)).toBe('EPERM')
    expect(get(d2, 9)).toBe('ESRCH')
    expect(get(d1, 1, READ_ONLY)).toBe('EFAULT')
    expect(d1.callAnswer(hvm_op, [GET_PARAM, NOWHERE])).toBe('EFAULT')
    expect(d1.callAnswer(hvm_op, [SET_PARAM, NOWHERE])).toBe('EFAULT')
  })

  it('EC-up-9: is a number that exists, of a domain that exists and is HVM (EINVAL, ESRCH, EINVAL), before EPERM', () => {
    const { d1, d2, xen } = hvm()
    new NewGuest(xen, { domid: 3, type: 'pv' })
    const get = (domid: number, index: number) => {
      d2.view.setUint16(ARGUMENT, domid, true)
      d2.view.setUint32(ARGUMENT + 4, index, true)
      return d2.callAnswer(hvm_op, [GET_PARAM, ARGUMENT])
    }
    expect([get(9, 39), get(9, 30), get(3, 0), get(1, 30), get(2, 30)]).toEqual([
      'EINVAL',
      'ESRCH',
      'EINVAL',
      'EPERM',
      'EINVAL',
    ])
    // The stub device model of a guest acts for it.
    xen.setTarget(xen.domain(2)!, xen.domain(1)!)
    expect([get(1, 0), inside(d1.domain).callbackVia]).toEqual(['ok', 0n])
    xen.setTarget(xen.domain(2)!, undefined)
    expect(get(1, 0)).toBe('EPERM')
  })

  it('EC-up-10: EFAULT, then a vector below 0x10 (EINVAL), then a missing vCPU (ENOENT)', () => {
    const { d1 } = hvm()
    expect(setVector(d1, 0, 0x30, NOWHERE)).toBe('EFAULT')
    expect(setVector(d1, 9, 0x0f)).toBe('EINVAL')
    expect(setVector(d1, 0, 0)).toBe('EINVAL')
    expect(setVector(d1, 2, 0x10)).toBe('ENOENT')
    expect(setVector(d1, 1, 0x10)).toBe('ok')
    expect(setVector(d1, 1, 0xff)).toBe('ok')
    expect(inside(d1.domain.vcpu(1)).upcallVector).toBe(0xff)
  })

  it('EC-up-10: a vector is re-evaluated at once: a flag that was set before calls now', () => {
    const { d1, entered } = hvm()
    d1.must('send', { port: d1.ipi(1) })
    expect(entered).toEqual([])
    setVector(d1, 1, 0x30)
    expect(entered).toEqual([1])
  })
})

describe('the callback of another domain', () => {
  it('EC-up-9: is set by a control domain, not by a stranger (EPERM), and PV guests have none (EINVAL)', () => {
    const { d0, d1, d2, xen } = host(64, {}, { type: 'hvm' })
    const set = (guest: Guest, domid: number, index = 0) => {
      guest.view.setUint16(ARGUMENT, domid, true)
      guest.view.setUint32(ARGUMENT + 4, index, true)
      guest.view.setBigUint64(ARGUMENT + 8, VECTOR, true)
      return guest.callAnswer(hvm_op, [SET_PARAM, ARGUMENT])
    }
    expect([set(d0, 1), set(d2, 1), set(d1, 1, 30)]).toEqual(['ok', 'EPERM', 'EINVAL'])
    expect(inside(d1.domain).callbackVia).toBe(VECTOR)
    xen.createDomain({ domid: 9, frames: 2 })
    expect(set(d0, 9)).toBe('EINVAL')
  })
})
