/** SCHEDOP_poll (spec 6.4): every errno in the order of the checks, who wakes a poller, and who does not. */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, SCHEDOP, VIRQ } from '../../src/abi/index.js'
import { END, host, NOWHERE, nameOf } from '../ops/raw.js'
import { AWAKE, asleep, LIST, marks, poll, write } from './polling.js'

describe.each([64, 32] as const)('the checks of a poll, %i-bit', (bits) => {
  it('EC-poll-1: the struct cannot be read (EFAULT)', () => {
    const { d1 } = host(bits)
    const size = bits === 64 ? 24 : 16
    expect(poll(d1, { at: NOWHERE })).toBe('EFAULT')
    expect(poll(d1, { at: END - size + 1 })).toBe('EFAULT')
    d1.bytes.fill(0, END - size)
    expect(poll(d1, { at: END - size, vcpu: 1 })).toBe('ok')
  })

  it.each([129, 0x8000_0000, 0xffff_ffff])(
    'EC-poll-2 before EC-poll-3: %i ports are too many (EINVAL), wherever they are',
    (nrPorts) => {
      const { d1 } = host(bits)
      expect(poll(d1, { nrPorts })).toBe('EINVAL')
      expect(poll(d1, { nrPorts, list: NOWHERE })).toBe('EINVAL')
    },
  )

  it('EC-poll-2: 128 ports are not too many', () => {
    const { d1 } = host(bits)
    const port = d1.ipi()
    expect(poll(d1, { ports: Array(128).fill(port) })).toBe('ok')
    expect(d1.domain.vcpu(0).polling).toBe(true)
  })

  it('EC-poll-3 before EC-poll-5: the list is nowhere (EFAULT), though an upcall is due', () => {
    const { d1 } = host(bits)
    d1.setFlag(1)
    expect(poll(d1, { ports: [1], list: NOWHERE })).toBe('EFAULT')
    expect(poll(d1, { ports: [], list: NOWHERE })).toBe('ok')
  })

  it('EC-poll-5 before EC-poll-7: an upcall is due: 0 at once, whatever the ports', () => {
    const { d1 } = host(bits)
    d1.setFlag(1)
    expect(poll(d1, { ports: [5000] })).toBe('ok')
    expect(marks(d1.domain.vcpu(0))).toEqual(AWAKE)
  })

  it('EC-poll-5: a masked upcall is not due', () => {
    const { d1 } = host(bits)
    d1.setFlag(1)
    d1.setMask(1)
    expect(poll(d1, { ports: [5000] })).toBe('EINVAL')
    expect(poll(d1, { ports: [] })).toBe('ok')
    expect(marks(d1.domain.vcpu(0))).toEqual([true, -1, true])
  })

  it('EC-poll-6: the list vanishes between check and copy (EFAULT), and all marks with it', () => {
    let looks = 0
    const { d1 } = host(bits, {}, { translate: (_vcpu, gva) => (gva < END ? gva : looks-- > 0 ? gva - END : -1) })
    looks = 1
    expect(poll(d1, { ports: [], nrPorts: 1, list: END + LIST })).toBe('EFAULT')
    expect(marks(d1.domain.vcpu(0))).toEqual(AWAKE)
  })

  it('EC-poll-7: a port that is not valid, free, 0, or Xen-attached (EINVAL)', () => {
    const { xen, d1 } = host(bits)
    const attached = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {} })
    for (const port of [0, 9, 64, 4096, 0x8000_0000, 0xffff_ffff, attached])
      expect(poll(d1, { ports: [port] }), `port ${port}`).toBe('EINVAL')
    expect(marks(d1.domain.vcpu(0))).toEqual(AWAKE)
  })

  it('EC-poll-7, EC-poll-8: ports are looked at in order: the first that is bad or pending decides', () => {
    const { d1 } = host(bits)
    const [one, two] = [d1.ipi(), d1.ipi()]
    d1.setBit('pending', two)
    expect(poll(d1, { ports: [one, two, 5000] })).toBe('ok')
    expect(marks(d1.domain.vcpu(0))).toEqual(AWAKE)
    expect(poll(d1, { ports: [one, 5000, two] })).toBe('EINVAL')
  })

  it('EC-poll-8: a pending port is enough, masked or not', () => {
    const { d1 } = host(bits)
    const port = d1.ipi()
    d1.setBit('pending', port)
    d1.setBit('mask', port)
    expect(poll(d1, { ports: [port] })).toBe('ok')
    expect(marks(d1.domain.vcpu(0))).toEqual(AWAKE)
  })

  it('EC-poll-8: any usable port may be polled, a VIRQ of another vCPU too', () => {
    const { d1 } = host(bits)
    const port = d1.virq(VIRQ.TIMER, 1)
    expect(poll(d1, { ports: [port] })).toBe('ok')
    expect(marks(d1.domain.vcpu(0))).toEqual([true, port, true])
  })

  it('EC-poll-9: no early exit leaves a mark or a timer', () => {
    const { xen, d1 } = host(bits)
    const port = d1.ipi()
    d1.setBit('pending', port)
    for (const ports of [[port], [9], [5000]]) poll(d1, { ports, timeoutNs: 5n })
    d1.setFlag(1)
    poll(d1, { ports: [9], timeoutNs: 5n })
    expect([marks(d1.domain.vcpu(0)), xen.nextTimerNs]).toEqual([AWAKE, undefined])
  })
})

describe.each([64, 32] as const)('a poller, %i-bit', (bits) => {
  it('EC-poll-4: has its marks, and the dump names it', () => {
    const { xen, d1 } = host(bits)
    poll(d1, { ports: [], vcpu: 1 })
    expect(marks(d1.domain.vcpu(1))).toEqual([true, -1, true])
    expect([...xen.dump({ domid: 1 })]).toContain('Polling vCPUs: {1}')
  })

  it('EC-poll-10, EC-up-11: one port: that port wakes it, no other', () => {
    const { d1, woken, v1 } = asleep(bits)
    const [one, two] = [d1.ipi(0), d1.ipi(0)]
    poll(d1, { ports: [two], vcpu: 1 })
    expect(marks(v1)).toEqual([true, two, true])
    d1.must('send', { port: one })
    expect([woken, marks(v1)]).toEqual([[], [true, two, true]])
    d1.must('send', { port: two })
    expect([woken, marks(v1)]).toEqual([[1], AWAKE])
  })

  it.each([0, 2])('EC-poll-10, EC-poll-13: %i ports: any event of the domain wakes it', (count) => {
    const { d1, woken } = asleep(bits)
    const [one, two, three] = [d1.ipi(0), d1.ipi(0), d1.ipi(0)]
    expect(poll(d1, { ports: [one, two].slice(0, count), vcpu: 1 })).toBe('ok')
    d1.must('send', { port: three })
    expect(woken).toEqual([1])
  })

  it('EC-poll-10: a time-out is an absolute system time; 0 is for ever', () => {
    const { xen, d1, clock, woken, v0, v1 } = asleep(bits)
    clock.advance(1000)
    poll(d1, { timeoutNs: 5000n })
    poll(d1, { vcpu: 1 })
    expect(xen.nextTimerNs).toBe(5000n)
    clock.advance(3999)
    xen.runTimers()
    expect(woken).toEqual([])
    clock.advance(1)
    xen.runTimers()
    expect([woken, marks(v0), xen.nextTimerNs]).toEqual([[0], AWAKE, undefined])
    clock.advance(1e15)
    xen.runTimers()
    expect(marks(v1)).toEqual([true, -1, true])
  })

  it('EC-poll-10: the earliest of several time-outs is the next', () => {
    const { xen, d1, clock, woken } = asleep(bits)
    poll(d1, { timeoutNs: (1n << 63n) + 5n })
    poll(d1, { timeoutNs: 70n, vcpu: 1 })
    expect(xen.nextTimerNs).toBe(70n)
    clock.advance(70)
    xen.runTimers()
    expect([woken, xen.nextTimerNs]).toEqual([[1], (1n << 63n) + 5n])
  })

  it('EC-poll-11, EC-odd-15: event, upcall and time-out all answer 0', () => {
    const { xen, d1, clock } = asleep(bits)
    const port = d1.ipi(1)
    expect(poll(d1, { ports: [port], timeoutNs: 5n })).toBe('ok')
    clock.advance(5)
    xen.runTimers()
    d1.setBit('pending', port)
    expect(poll(d1, { ports: [port] })).toBe('ok')
    d1.setFlag(1)
    expect(poll(d1, { ports: [port] })).toBe('ok')
  })

  it('EC-poll-12, EC-odd-6: a masked port wakes too, but only when it becomes pending', () => {
    const { d1, woken } = asleep(bits)
    const port = d1.ipi(0)
    d1.setBit('mask', port)
    poll(d1, { ports: [port], vcpu: 1 })
    d1.must('send', { port })
    expect(woken).toEqual([1])
    const other = d1.ipi(0)
    poll(d1, { ports: [other], vcpu: 1 })
    d1.must('send', { port })
    expect(woken).toEqual([1])
  })

  it('EC-poll-12: its own upcall flag wakes it, though upcalls are masked', () => {
    const { d1, woken } = asleep(bits)
    const [polled, other] = [d1.ipi(1), d1.ipi(1)]
    d1.setMask(1, 1)
    poll(d1, { ports: [polled], vcpu: 1 })
    d1.must('send', { port: other })
    expect([woken, d1.mask(1)]).toEqual([[1], 1])
  })

  it('EC-poll-12: not woken: another port fires while the flag was 1 already and masked', () => {
    const { d1, woken } = asleep(bits)
    const [polled, other] = [d1.ipi(1), d1.ipi(1)]
    d1.setMask(1, 1)
    d1.setFlag(1, 1)
    poll(d1, { ports: [polled], vcpu: 1 })
    d1.must('send', { port: other })
    expect(woken).toEqual([])
    d1.must('send', { port: polled })
    expect(woken).toEqual([1])
  })

  it('EC-poll-13: the upcall mask is as it was', () => {
    const { d1 } = host(bits)
    d1.setMask(7)
    poll(d1, {})
    expect(d1.mask()).toBe(7)
  })

  it('EC-poll-14: whatever unblocks it ends the poll, its timer too', () => {
    const { xen, d1, v1, woken } = asleep(bits)
    const port = d1.ipi(1)
    poll(d1, { ports: [port], timeoutNs: 99n, vcpu: 1 })
    d1.must('send', { port })
    expect([woken, marks(v1), xen.nextTimerNs]).toEqual([[1], AWAKE, undefined])
  })

  it('EC-poll-14: a poll that replaces another takes its timer along', () => {
    const { xen, d1, clock, woken, v1 } = asleep(bits)
    const port = d1.ipi(0)
    poll(d1, { timeoutNs: 99n, vcpu: 1 })
    poll(d1, { ports: [port], vcpu: 1 })
    clock.advance(100)
    xen.runTimers()
    expect([woken, marks(v1), xen.nextTimerNs]).toEqual([[], [true, port, true], undefined])
  })

  it('EC-poll-9: a poll that ends early takes the timer of the one before along', () => {
    const { xen, d1, clock, woken } = asleep(bits)
    const port = d1.ipi(0)
    poll(d1, { timeoutNs: 99n, vcpu: 1 })
    d1.setBit('pending', port)
    expect(poll(d1, { ports: [port], vcpu: 1 })).toBe('ok')
    clock.advance(100)
    xen.runTimers()
    expect([woken, xen.nextTimerNs]).toEqual([[], undefined])
  })

  it('EC-poll-14: a block after a poll is no poll: neither its timer nor its port wakes it', () => {
    const { xen, d1, clock, woken, v1 } = asleep(bits)
    const port = d1.ipi(0)
    poll(d1, { ports: [port], timeoutNs: 99n, vcpu: 1 })
    expect(d1.call(HYPERVISOR.sched_op, [SCHEDOP.block], 1)).toBe(0)
    clock.advance(100)
    xen.runTimers()
    d1.must('send', { port })
    expect([woken, marks(v1), xen.nextTimerNs]).toEqual([[], [false, 0, true], undefined])
  })

  it('EC-up-7, EC-poll-14: a block that finds an upcall deliverable leaves nothing of an earlier poll', () => {
    const { xen, d1, woken, v1 } = asleep(bits)
    d1.setMask(1, 1)
    poll(d1, { timeoutNs: 99n, vcpu: 1 })
    d1.setFlag(1, 1)
    expect(d1.call(HYPERVISOR.sched_op, [SCHEDOP.block], 1)).toBe(0)
    expect([woken, marks(v1), xen.nextTimerNs]).toEqual([[], AWAKE, undefined])
  })

  it('EC-poll-14: a domain that dies leaves no poller and no timer behind', () => {
    const { xen, d1, clock, woken, v1 } = asleep(bits)
    poll(d1, { timeoutNs: 99n, vcpu: 1 })
    xen.killDomain(xen.domain(1)!)
    expect([marks(v1), xen.nextTimerNs, woken]).toEqual([AWAKE, undefined, []])
    clock.advance(100)
    xen.runTimers()
  })

  it('EC-poll-12: a poller of the remote end’s domain is woken by a send, one of the sender’s is not', () => {
    const { d1, d2, woken } = asleep(bits)
    const [theirs, ours] = d2.connect(d1)
    poll(d1, { ports: [ours], vcpu: 1 })
    d2.call(HYPERVISOR.sched_op, [SCHEDOP.poll, write(d2, { ports: [theirs] })], 1)
    d2.must('send', { port: theirs })
    expect([woken, d2.domain.vcpu(1).polling]).toEqual([[1], true])
  })

  it('EC-poll-10: all pollers of a port go on, in the order of the vCPUs', () => {
    const { d1, woken } = asleep(bits)
    const port = d1.ipi(0)
    for (const vcpu of [1, 0])
      expect(nameOf(d1.call(HYPERVISOR.sched_op, [SCHEDOP.poll, write(d1, { ports: [port] })], vcpu))).toBe('ok')
    d1.setMask(1)
    d1.setFlag(1)
    d1.must('send', { port })
    expect(woken).toEqual([0, 1])
  })
})
