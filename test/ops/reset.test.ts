/** EVTCHNOP_reset and reset_cont (spec 2.15): every errno in the order of the checks, progress, and what is left alone. */

import { describe, expect, it } from 'vitest'
import { type Bits, DOMID_SELF, ECS, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'
import { type HypervisorOptions, SOFTIRQ } from '../../src/index.js'
import { END, Guest, host, NOWHERE } from './raw.js'

const SELF = { dom: DOMID_SELF }

/** A host whose resets are preempted at the checks with these numbers, and on which `meanwhile` runs then. */
function preempted(bits: Bits, checks: readonly number[], options: HypervisorOptions = {}) {
  let check = 0
  const all = host(bits, {
    ...options,
    preempt: () => {
      const due = checks.includes(++check)
      if (due) all.xen.softirqs.raise(SOFTIRQ.TASKLET)
      return due
    },
  })
  const meanwhile = (body: () => void) => all.xen.softirqs.open(SOFTIRQ.TASKLET, body)
  return { ...all, meanwhile, checks: () => check }
}

const open = (guest: Guest, count: number) => {
  for (let i = 0; i < count; i++) guest.ipi()
}

describe.each([64, 32] as const)('reset, %i-bit', (bits) => {
  it.each(['reset', 'reset_cont'] as const)('EC-reset-1: the struct of %s cannot be read (EFAULT)', (op) => {
    const { d1 } = host(bits)
    expect(d1.answer(op, {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer(op, {}, { at: END - 1 })).toBe('EFAULT')
    expect(d1.answer(op, { dom: 9 }, { at: END - 2 })).toBe('ESRCH')
  })

  it.each(['reset', 'reset_cont'] as const)('EC-reset-2: the domain of %s does not exist (ESRCH)', (op) => {
    const { d0, d1 } = host(bits)
    for (const dom of [9, 0x7ff1, 0x7fff, 0xffff]) {
      expect(d0.answer(op, { dom })).toBe('ESRCH')
      expect(d1.answer(op, { dom })).toBe('ESRCH')
    }
  })

  it('EC-reset-3 before EC-reset-4: a stranger asks for a domain that is not paused (EPERM)', () => {
    const { xen, d1 } = host(bits)
    expect(d1.answer('reset', { dom: 2 })).toBe('EPERM')
    xen.pauseDomain(xen.domain(2)!)
    expect(d1.answer('reset', { dom: 2 })).toBe('EPERM')
  })

  it('EC-reset-4 before EC-reset-6: a control domain asks for one that is not paused (EINVAL)', () => {
    const { xen, d0, d2 } = host(bits)
    d2.ipi()
    expect(d0.answer('reset', { dom: 2 })).toBe('EINVAL')
    expect(d0.answer('reset_cont', { dom: 2 })).toBe('EINVAL')
    xen.pauseDomain(xen.domain(2)!)
    expect(d0.answer('reset', { dom: 2 })).toBe('ok')
    xen.unpauseDomain(xen.domain(2)!)
    expect(d0.answer('reset', { dom: 2 })).toBe('EINVAL')
  })

  it('EC-reset-4: the pauses are counted', () => {
    const { xen, d0 } = host(bits)
    for (const step of ['pauseDomain', 'pauseDomain', 'unpauseDomain'] as const) xen[step](xen.domain(2)!)
    expect(d0.answer('reset', { dom: 2 })).toBe('ok')
  })

  it('EC-reset-4: one’s own domain need not be paused, by number or as DOMID_SELF', () => {
    const { d1 } = host(bits)
    expect(d1.answer('reset', { dom: 1 })).toBe('ok')
    expect(d1.answer('reset', SELF)).toBe('ok')
  })

  it('EC-reset-4 before EC-reset-5; EC-reset-5, EC-odd-13: a reset is in progress (EINVAL if not paused, else EBUSY)', () => {
    const { xen, d0, d1, meanwhile } = preempted(bits, [1])
    open(d1, 70)
    const seen: string[] = []
    meanwhile(() => {
      expect(inside(d1.domain).nextEvtchn).toBe(64)
      seen.push(d0.answer('reset', { dom: 1 }))
      xen.pauseDomain(xen.domain(1)!)
      seen.push(d0.answer('reset', { dom: 1 }), d1.answer('reset', SELF))
    })
    expect(d1.answer('reset', SELF)).toBe('ok')
    expect(seen).toEqual(['EINVAL', 'EBUSY', 'EBUSY'])
  })

  it('EC-reset-6: reset_cont while none is in progress (EBUSY), as a guest may try', () => {
    const { d1 } = host(bits)
    open(d1, 3)
    expect(d1.answer('reset_cont', SELF)).toBe('EBUSY')
    expect(d1.answer('reset', SELF)).toBe('ok')
    expect(d1.answer('reset_cont', SELF)).toBe('EBUSY')
  })

  it('EC-reset-6: another vCPU’s reset_cont ends a reset in progress; the first caller finds none (EBUSY)', () => {
    const { d1, meanwhile } = preempted(bits, [1])
    open(d1, 70)
    let other = ''
    meanwhile(() => {
      other = d1.answer('reset_cont', SELF, { vcpu: 1 })
    })
    expect(d1.op('reset', SELF)).toBe(-16)
    expect([other, inside(d1.domain).ports.activeEvtchns, inside(d1.domain).nextEvtchn]).toEqual(['ok', 0, 0])
  })

  it('EC-reset-7: closes every port of the guest, in every state, and peers find theirs unbound', () => {
    const { xen, d0, d2 } = host(bits)
    const [, theirs] = d0.connect(d2)
    d0.unbound(2)
    for (const virq of [VIRQ.TIMER, VIRQ.ARGO, VIRQ.CONSOLE]) d0.virq(virq)
    d0.must('bind_pirq', { pirq: 4, flags: 0 })
    open(d0, 20)
    d0.must('reset', SELF)
    expect(inside(d0.domain).ports.activeEvtchns).toBe(0)
    expect(d2.status(theirs)).toMatchObject({ status: 1, unbound_dom: 0 })
    expect(worldOf(xen).irqs.guests(4)).toEqual([])
    for (const virq of [VIRQ.TIMER, VIRQ.ARGO, VIRQ.CONSOLE])
      expect(worldOf(xen).virqs.enabled(inside(d0.domain), 0, virq)).toBe(false)
  })

  it('EC-reset-7, EC-xen-2: Xen-attached ports survive, connected or not', () => {
    let notified = 0
    const { xen, d1, d2 } = host(bits)
    const notify = () => void notified++
    d1.ipi()
    const [one, two] = [1, 2].map(() => xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify }))
    open(d1, 80)
    const port = d2.must('bind_interdomain', { remote_dom: 1, remote_port: one! }).local_port
    d1.must('reset', SELF)
    expect([inside(d1.domain).ports.activeEvtchns, inside(d1.domain).ports.xenEvtchns]).toEqual([2, 2])
    expect([d1.state(one!), d1.state(two!)]).toEqual([ECS.INTERDOMAIN, ECS.UNBOUND])
    d2.must('send', { port })
    expect(notified).toBe(1)
  })

  it('EC-reset-8: preempted at the ports 64, 128, …, it goes on where it was, and asks no more than once a bucket', () => {
    const { xen, checks, meanwhile } = preempted(bits, [1, 2, 3, 4, 5, 6, 7])
    const wide = new Guest(xen, { domid: 3, bits, maxEvtchnPort: 300 })
    const seen: number[] = []
    meanwhile(() => void seen.push(inside(wide.domain).nextEvtchn))
    open(wide, 300)
    expect(wide.answer('reset', SELF)).toBe('ok')
    expect(seen).toEqual([64, 128, 192, 256])
    expect(checks()).toBe(4)
    expect([inside(wide.domain).ports.activeEvtchns, inside(wide.domain).nextEvtchn]).toEqual([0, 0])
  })

  it('EC-reset-9, EC-XSA-343: ports that were opened meanwhile: EAGAIN, and a second reset does it', () => {
    const { d1, meanwhile } = preempted(bits, [1])
    open(d1, 70)
    meanwhile(() => void d1.ipi())
    expect(d1.op('reset', SELF)).toBe(-11)
    expect([inside(d1.domain).ports.activeEvtchns, inside(d1.domain).nextEvtchn]).toEqual([1, 0])
    expect(d1.state(1)).toBe(ECS.IPI)
    expect(d1.answer('reset', SELF)).toBe('ok')
    expect(inside(d1.domain).ports.activeEvtchns).toBe(0)
  })

  it('EC-reset-8, EC-reset-9: opened meanwhile, the port at hand and those ahead are closed, those behind stay (EAGAIN)', () => {
    const { d1, meanwhile } = preempted(bits, [1])
    open(d1, 70)
    meanwhile(() => {
      // 1 to 64 are free again, 65 to 70 still open.
      for (let port = 1; port <= 64; port++) expect(d1.ipi()).toBe(port)
      expect(d1.ipi()).toBe(71)
    })
    expect(d1.op('reset', SELF)).toBe(-11)
    expect([63, 64, 65, 71].map((port) => d1.state(port))).toEqual([ECS.IPI, ECS.FREE, ECS.FREE, ECS.FREE])
  })

  it('EC-reset-10: mask bits, selectors, flags, other memory and the registered vcpu_info stay', () => {
    const { d1 } = host(bits)
    const [one, two] = [d1.ipi(0), d1.ipi(1)]
    d1.setBit('mask', one)
    for (const port of [one, two]) d1.must('send', { port })
    d1.bytes.fill(0x77, 5 * 4096, 6 * 4096)
    const before = d1.bytes.slice()
    const at = 4096 + 2048
    d1.must('reset', SELF)
    const after = d1.bytes.slice()
    // The two pending bits are cleared by the closes; the struct's two bytes are the call's own.
    before[at] = before[at]! & ~0b110
    before.fill(0, 8192, 8194)
    after.fill(0, 8192, 8194)
    expect(Buffer.compare(before, after)).toBe(0)
    expect([d1.sel(1), d1.flag(1), d1.bit('mask', one)]).toEqual([1n, 1, 1])
  })

  it('EC-reset-9: an empty domain resets to what it was', () => {
    const { d1, xen } = host(bits)
    const before = [...xen.dump()]
    expect(d1.answer('reset', SELF)).toBe('ok')
    expect([...xen.dump()]).toEqual(before)
    expect(d1.ipi()).toBe(1)
  })
})
