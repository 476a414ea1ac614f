/** EVTCHNOP_status (spec 2.12): every errno in the order of the checks, then what it says of each state. */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, VIRQ } from '../../src/abi/index.js'

import { ARGUMENT, END, type Guest, host, NOWHERE, READ_ONLY } from './raw.js'

/** The struct's bytes from `status` on, the caller's bytes having been 0xa5. */
function answered(guest: Guest, port: number, dom = DOMID_SELF): number[] {
  guest.bytes.fill(0xa5, ARGUMENT, ARGUMENT + 32)
  guest.must('status', { dom, port })
  return [...guest.bytes.subarray(ARGUMENT + 8, ARGUMENT + 24)]
}
const u32 = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24]
const KEPT = [0xa5, 0xa5, 0xa5, 0xa5]

describe.each([64, 32] as const)('status, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('status', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('status', {}, { at: END - 23 })).toBe('EFAULT')
    expect(d1.answer('status', { dom: DOMID_SELF, port: 0 }, { at: END - 24 })).toBe('ok')
  })

  it.each([9, 0x7ff1, 0x7fff, 0xffff])(
    'EC-stat-1 before EC-stat-2: domain %i does not exist (ESRCH), nor the port',
    (dom) => {
      const { d0, d1 } = host(bits)
      expect(d0.answer('status', { dom, port: 1 })).toBe('ESRCH')
      expect(d1.answer('status', { dom, port: 5000 })).toBe('ESRCH')
    },
  )

  it('EC-stat-2 before EC-stat-3: the port is not valid (EINVAL), and a stranger asks', () => {
    const { d0, d1 } = host(bits)
    for (const port of [64, 5000, 0x8000_0000, 0xffff_ffff]) {
      expect(d0.answer('status', { dom: 1, port })).toBe('EINVAL')
      expect(d1.answer('status', { dom: 2, port })).toBe('EINVAL')
      expect(d1.answer('status', { dom: DOMID_SELF, port })).toBe('EINVAL')
    }
  })

  it('EC-stat-3, EC-xsm-1: a stranger asks for a port that is valid (EPERM), be it free', () => {
    const { d1, d2 } = host(bits)
    const port = d2.ipi()
    for (const each of [0, port, 9]) expect(d1.answer('status', { dom: 2, port: each })).toBe('EPERM')
  })

  it('EC-stat-4: free ports and port 0 are closed, on vCPU 0', () => {
    const { d1 } = host(bits)
    for (const port of [0, 1, 63]) expect(answered(d1, port)).toEqual([...u32(0), ...u32(0), ...KEPT, ...KEPT])
  })

  it('EC-stat-4, EC-op-4: what is said of each state, and the caller’s bytes in the rest of the union', () => {
    const { d0, d2 } = host(bits)
    const unbound = d0.unbound(0x1234)
    d0.must('bind_vcpu', { port: unbound, vcpu: 1 })
    const [ours, theirs] = d0.connect(d2)
    const pirq = d0.must('bind_pirq', { pirq: 21, flags: 0 }).port
    const virq = d0.virq(VIRQ.XENPMU, 1)
    const ipi = d0.ipi(1)
    expect(answered(d0, unbound)).toEqual([...u32(1), ...u32(1), 0x34, 0x12, 0xa5, 0xa5, ...KEPT])
    expect(answered(d0, ours)).toEqual([...u32(2), ...u32(0), 2, 0, 0xa5, 0xa5, ...u32(theirs)])
    expect(answered(d0, pirq)).toEqual([...u32(3), ...u32(0), ...u32(21), ...KEPT])
    expect(answered(d0, virq)).toEqual([...u32(4), ...u32(1), ...u32(VIRQ.XENPMU), ...KEPT])
    expect(answered(d0, ipi)).toEqual([...u32(5), ...u32(1), ...KEPT, ...KEPT])
  })

  it('EC-stat-4: a control domain sees the ports of others', () => {
    const { d0, d1, d2 } = host(bits)
    const [ours, theirs] = d1.connect(d2)
    expect(answered(d0, ours, 1)).toEqual([...u32(2), ...u32(0), 2, 0, 0xa5, 0xa5, ...u32(theirs)])
  })

  it('EC-stat-5, EC-xen-2: Xen-attached ports are reported, to the guest too', () => {
    const { xen, d1 } = host(bits)
    const port = xen.allocXenPort(xen.domain(1)!, { vcpuId: 1, remoteDomid: 2, notify: () => {} })
    expect(d1.status(port)).toMatchObject({ status: 1, vcpu: 1, unbound_dom: 2 })
  })

  it('EC-op-3: the copy-out fails (EFAULT)', () => {
    expect(host(bits).d1.answer('status', { dom: DOMID_SELF, port: 1 }, { at: READ_ONLY })).toBe('EFAULT')
  })

  it('EC-op-3: nothing is copied back after an error', () => {
    const { d1 } = host(bits)
    d1.bytes.fill(0xa5, ARGUMENT, ARGUMENT + 24)
    expect(d1.answer('status', { dom: 2, port: 1 })).toBe('EPERM')
    expect([...d1.bytes.subarray(ARGUMENT + 8, ARGUMENT + 24)]).toEqual(Array(16).fill(0xa5))
  })
})
