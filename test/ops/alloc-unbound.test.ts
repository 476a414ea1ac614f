/** EVTCHNOP_alloc_unbound (spec 2.5): every errno in the order of the checks, then what it does. */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, ECS } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'

import { END, host, NOWHERE, READ_ONLY } from './raw.js'

const RESERVED = [0x7ff1, 0x7ff2, 0x7ff3, 0x7ff4, 0x7ff5, 0x7fff, 0x8000, 0xffff]

describe.each([64, 32] as const)('alloc_unbound, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('alloc_unbound', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('alloc_unbound', {}, { at: END - 7 })).toBe('EFAULT')
    expect(d1.answer('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 }, { at: END - 8 })).toBe('ok')
  })

  it.each([9, ...RESERVED])('EC-unbound-1, EC-lay-1: domain %i does not exist (ESRCH)', (dom) => {
    const { d0 } = host(bits)
    expect(d0.answer('alloc_unbound', { dom, remote_dom: 1 })).toBe('ESRCH')
  })

  it('EC-unbound-1 before EC-unbound-3: a caller who may do nothing learns that the domain does not exist (ESRCH)', () => {
    expect(host(bits).d1.answer('alloc_unbound', { dom: 9, remote_dom: 1 })).toBe('ESRCH')
  })

  it('EC-unbound-2, EC-port-14: the domain is dying (EINVAL), which is found before the policy is asked', () => {
    const { xen, d0, d1 } = host(bits)
    xen.killDomain(xen.domain(2)!)
    expect(d0.answer('alloc_unbound', { dom: 2, remote_dom: 1 })).toBe('EINVAL')
    expect(d1.answer('alloc_unbound', { dom: 2, remote_dom: 1 })).toBe('EINVAL')
  })

  it('EC-unbound-2, EC-port-10, EC-port-16: all ports up to the limit, inclusive, are taken (ENOSPC)', () => {
    const { d1 } = host(bits)
    for (let port = 1; port <= 100; port++) expect(d1.unbound(0)).toBe(port)
    expect(d1.answer('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 })).toBe('ENOSPC')
  })

  it('EC-unbound-2 before EC-unbound-3: a full domain refuses a stranger with ENOSPC, not EPERM', () => {
    const { d1, d2 } = host(bits)
    d2.fill()
    expect(d1.answer('alloc_unbound', { dom: 2, remote_dom: 1 })).toBe('ENOSPC')
  })

  it('EC-unbound-3: a stranger may not allocate in another domain, and the port is given back (EPERM)', () => {
    const { d1, d2 } = host(bits)
    expect(d1.answer('alloc_unbound', { dom: 2, remote_dom: 1 })).toBe('EPERM')
    expect(inside(d2.domain).ports.activeEvtchns).toBe(0)
    expect(d2.unbound(1)).toBe(1)
  })

  it('EC-unbound-3, EC-port-18: the bucket that grew for a refused port is kept', () => {
    const { d1, d2 } = host(bits)
    for (let port = 1; port < 64; port++) d2.unbound(1)
    expect(inside(d2.domain).ports.validEvtchns).toBe(64)
    expect(d1.answer('alloc_unbound', { dom: 2, remote_dom: 1 })).toBe('EPERM')
    expect(inside(d2.domain).ports.validEvtchns).toBe(128)
    expect(inside(d2.domain).ports.activeEvtchns).toBe(63)
    expect(d2.unbound(1)).toBe(64)
  })

  it('EC-unbound-4: the port waits for the remote domain, on vCPU 0, and nobody gets an event', () => {
    const { d1, xen } = host(bits)
    const port = d1.unbound(2)
    expect(d1.state(port)).toBe(ECS.UNBOUND)
    expect(d1.status(port)).toMatchObject({ status: 1, vcpu: 0, unbound_dom: 2 })
    expect([d1.flag(), d1.sel(), d1.bit('pending', port)]).toEqual([0, 0n, 0])
    expect([...xen.dump({ domid: 1 })].at(-1)).toBe('       1 [0/0/0]: s=2 n=0 x=0 d=2')
  })

  it('EC-unbound-4: a control domain allocates in another, for a third', () => {
    const { d0, d1, d2 } = host(bits)
    const { port } = d0.must('alloc_unbound', { dom: 1, remote_dom: 2 })
    expect(d1.status(port)).toMatchObject({ status: 1, unbound_dom: 2 })
    d2.must('bind_interdomain', { remote_dom: 1, remote_port: port })
  })

  it('EC-unbound-5, EC-odd-8: DOMID_SELF as remote is the caller, also when the port is another domain’s', () => {
    const { d0, d1 } = host(bits)
    const { port } = d0.must('alloc_unbound', { dom: 1, remote_dom: DOMID_SELF })
    expect(d1.status(port)).toMatchObject({ status: 1, unbound_dom: 0 })
  })

  it.each([7, 0x7ff1, 0xffff])('EC-unbound-6: the remote domain %i need not exist', (remote) => {
    const { d1 } = host(bits)
    const port = d1.unbound(remote)
    expect(d1.status(port)).toMatchObject({ status: 1, unbound_dom: remote })
  })

  it('EC-unbound-7: pending and mask bits stay as the guest has them', () => {
    const { d1 } = host(bits)
    d1.setBit('pending', 1)
    d1.setBit('mask', 1)
    d1.setBit('mask', 2)
    expect([d1.unbound(0), d1.unbound(0)]).toEqual([1, 2])
    expect([1, 2].map((port) => [d1.bit('pending', port), d1.bit('mask', port)])).toEqual([
      [1, 1],
      [0, 1],
    ])
  })

  it('EC-op-3, EC-odd-11: the copy-out fails (EFAULT) and the port is open all the same', () => {
    const { d1 } = host(bits)
    d1.write('alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 }, READ_ONLY)
    expect(d1.op('alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 }, { at: READ_ONLY })).toBe(-14)
    expect(d1.status(1)).toMatchObject({ status: 1, unbound_dom: 2 })
    expect(d1.unbound(2)).toBe(2)
  })

  it('EC-port-17, EC-odd-1: the lowest free number always wins, and never 0', () => {
    const { d1 } = host(bits)
    for (let i = 1; i <= 70; i++) expect(d1.unbound(0)).toBe(i)
    for (const port of [65, 3, 64, 17]) d1.must('close', { port })
    expect([1, 2, 3, 4, 5].map(() => d1.unbound(0))).toEqual([3, 17, 64, 65, 71])
  })
})
