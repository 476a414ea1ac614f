/** EVTCHNOP_bind_interdomain (spec 2.6): every errno in the order of the checks, then what it does. */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, ECS, HYPERVISOR, SCHEDOP } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { siloPolicy, type XsmPolicy } from '../../src/index.js'
import { ARGUMENT, END, FREE_GFN, host, NOWHERE, READ_ONLY } from './raw.js'

const bind = (remote_dom: number, remote_port: number) => ({ remote_dom, remote_port })

/** Refuses every connection, in FLASK's way. */
const refusing: XsmPolicy = {
  name: 'refusing',
  evtchnUnbound: () => 0,
  evtchnInterdomain: () => -13,
  evtchnSend: () => 0,
  evtchnStatus: () => 0,
  evtchnReset: () => 0,
}

describe.each([64, 32] as const)('bind_interdomain, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('bind_interdomain', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('bind_interdomain', {}, { at: END - 11 })).toBe('EFAULT')
    expect(d1.answer('bind_interdomain', bind(9, 1), { at: END - 12 })).toBe('ESRCH')
  })

  it.each([9, 0x7ff1, 0x7ff4, 0xffff])('EC-inter-1: remote domain %i does not exist (ESRCH)', (remote) => {
    expect(host(bits).d1.answer('bind_interdomain', bind(remote, 1))).toBe('ESRCH')
  })

  it('EC-inter-1 before EC-inter-2: also for a caller without a free port (ESRCH, not ENOSPC)', () => {
    const { d1 } = host(bits)
    d1.fill()
    expect(d1.answer('bind_interdomain', bind(9, 1))).toBe('ESRCH')
  })

  it('EC-inter-2 before EC-inter-3: the caller’s ports are all taken, the remote port does not exist (ENOSPC)', () => {
    const { d1, d2 } = host(bits)
    d1.fill()
    expect(d1.answer('bind_interdomain', bind(2, 5000))).toBe('ENOSPC')
    expect(d1.answer('bind_interdomain', bind(2, d2.unbound(1)))).toBe('ENOSPC')
  })

  it('EC-inter-2, EC-port-14: the caller is dying (EINVAL)', () => {
    const { xen, d1, d2 } = host(bits)
    const port = d2.unbound(1)
    xen.killDomain(xen.domain(1)!)
    expect(d1.inside('bind_interdomain', bind(2, port))).toBe('EINVAL')
    expect(d2.state(port)).toBe(ECS.UNBOUND)
  })

  it.each([64, 4096, 0x8000_0000, 0xffff_ffff])('EC-inter-3: remote port %i is not valid (EINVAL)', (port) => {
    expect(host(bits).d1.answer('bind_interdomain', bind(2, port))).toBe('EINVAL')
  })

  it('EC-inter-4: the remote port is free, reserved, bound to something else, or taken already (EINVAL)', () => {
    const { d1, d2 } = host(bits)
    const [, taken] = d1.connect(d2)
    for (const port of [0, taken, d2.ipi(), d2.virq(0), 60])
      expect(d1.answer('bind_interdomain', bind(2, port)), `port ${port}`).toBe('EINVAL')
  })

  it('EC-inter-4: the remote port awaits another domain (EINVAL)', () => {
    const { d0, d1, d2 } = host(bits)
    const port = d2.unbound(0)
    expect(d1.answer('bind_interdomain', bind(2, port))).toBe('EINVAL')
    expect(d0.answer('bind_interdomain', bind(2, port))).toBe('ok')
  })

  it('EC-inter-3, EC-inter-4 before EC-inter-5: a policy that refuses everything is asked last (EINVAL)', () => {
    const { d1, d2 } = host(bits, { xsm: refusing })
    expect(d1.answer('bind_interdomain', bind(2, 5000))).toBe('EINVAL')
    expect(d1.answer('bind_interdomain', bind(2, 9))).toBe('EINVAL')
    expect(d1.answer('bind_interdomain', bind(2, d2.unbound(0)))).toBe('EINVAL')
  })

  it('EC-inter-5: a policy refuses with an errno of its own (EACCES), SILO with EPERM', () => {
    const flask = host(bits, { xsm: refusing })
    expect(flask.d1.answer('bind_interdomain', bind(2, flask.d2.unbound(1)))).toBe('EACCES')
    const silo = host(bits, { xsm: siloPolicy })
    const port = silo.d0.must('alloc_unbound', { dom: 2, remote_dom: 1 }).port
    expect(silo.d1.answer('bind_interdomain', bind(2, port))).toBe('EPERM')
  })

  it('EC-inter-6: after any failure the local port is free again', () => {
    const { d1, d2 } = host(bits, { xsm: refusing })
    for (const port of [5000, 9, d2.unbound(0), d2.unbound(1)]) {
      expect(d1.answer('bind_interdomain', bind(2, port))).not.toBe('ok')
      expect([inside(d1.domain).ports.activeEvtchns, inside(d1.domain).ports.lowestFree(1)]).toEqual([0, 1])
    }
    expect(d1.ipi()).toBe(1)
  })

  it('EC-inter-7: both ends know each other; the remote one keeps its vCPU, its mask and its pending bit', () => {
    const { d1, d2 } = host(bits)
    const remote = d2.unbound(1)
    d2.must('bind_vcpu', { port: remote, vcpu: 1 })
    d2.setBit('mask', remote)
    d2.setBit('pending', remote)
    const local = d1.must('bind_interdomain', bind(2, remote)).local_port
    expect(d1.status(local)).toMatchObject({ status: 2, vcpu: 0, interdomain_dom: 2, interdomain_port: remote })
    expect(d2.status(remote)).toMatchObject({ status: 2, vcpu: 1, interdomain_dom: 1, interdomain_port: local })
    expect([d2.bit('mask', remote), d2.bit('pending', remote)]).toEqual([1, 1])
    expect([d2.flag(0), d2.flag(1), d2.sel(0), d2.sel(1)]).toEqual([0, 0, 0n, 0n])
  })

  it('EC-inter-8, EC-odd-2: the binder gets one event to be safe, the allocator none', () => {
    const told: number[] = []
    const { d1, d2 } = host(bits, { trace: { upcall: (vcpu) => void told.push(vcpu.domid) } })
    const remote = d2.unbound(1)
    const local = d1.must('bind_interdomain', bind(2, remote)).local_port
    expect([d1.bit('pending', local), d1.sel(), d1.flag()]).toEqual([1, 1n, 1])
    expect([d2.bit('pending', remote), d2.sel(), d2.flag()]).toEqual([0, 0n, 0])
    expect(told).toEqual([1])
  })

  it('EC-inter-8: a masked local port becomes pending without an upcall and wakes a poller', () => {
    const { d1, d2 } = host(bits)
    d1.setBit('mask', 1)
    expect(d1.call(HYPERVISOR.sched_op, [SCHEDOP.poll, FREE_GFN * 4096], 1)).toBe(0)
    expect(d1.domain.vcpu(1).polling).toBe(true)
    expect(d1.must('bind_interdomain', bind(2, d2.unbound(1))).local_port).toBe(1)
    expect([d1.bit('pending', 1), d1.flag(), d1.domain.vcpu(1).polling]).toEqual([1, 0, false])
  })

  it.each([DOMID_SELF, 1])('EC-inter-9, EC-lay-1: a domain may connect to itself, named %i', (self) => {
    const { d1 } = host(bits)
    const remote = d1.unbound(self)
    const local = d1.must('bind_interdomain', bind(self, remote)).local_port
    expect(d1.status(local)).toMatchObject({ status: 2, interdomain_dom: 1, interdomain_port: remote })
    expect(d1.status(remote)).toMatchObject({ status: 2, interdomain_dom: 1, interdomain_port: local })
    d1.quiet()
    d1.must('send', { port: local })
    expect([d1.bit('pending', remote), d1.bit('pending', local)]).toEqual([1, 0])
  })

  it('EC-inter-9: a port cannot connect to itself, for it is still free then (EINVAL)', () => {
    expect(host(bits).d1.answer('bind_interdomain', bind(DOMID_SELF, 1))).toBe('EINVAL')
  })

  it('EC-inter-10: the remote end may be attached to Xen', () => {
    const { xen, d1, d2 } = host(bits)
    const port = xen.allocXenPort(xen.domain(2)!, { remoteDomid: 1, notify: () => {} })
    const local = d1.must('bind_interdomain', bind(2, port)).local_port
    expect(d1.status(local)).toMatchObject({ status: 2, interdomain_dom: 2, interdomain_port: port })
    expect(d2.status(port)).toMatchObject({ status: 2, interdomain_dom: 1, interdomain_port: local })
  })

  it('EC-op-3: the copy-out fails (EFAULT), the channel is connected and the binder has its event', () => {
    const { d1, d2 } = host(bits)
    const remote = d2.unbound(1)
    expect(d1.op('bind_interdomain', bind(2, remote), { at: READ_ONLY })).toBe(-14)
    expect(d2.status(remote)).toMatchObject({ status: 2, interdomain_dom: 1, interdomain_port: 1 })
    expect(d1.bit('pending', 1)).toBe(1)
  })

  it('EC-lay-1: the pad between remote_dom and remote_port says nothing and is kept', () => {
    const { d1, d2 } = host(bits)
    const remote_port = d2.unbound(1)
    d1.view.setUint16(ARGUMENT + 2, 0xbeef, true)
    d1.must('bind_interdomain', bind(2, remote_port))
    expect(d1.view.getUint16(ARGUMENT + 2, true)).toBe(0xbeef)
  })
})
