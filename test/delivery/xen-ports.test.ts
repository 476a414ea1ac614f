/** Ports that Xen itself owns (spec 6.3). */

import { describe, expect, it } from 'vitest'
import { ECS, HYPERVISOR, SCHEDOP, VIRQ } from '../../src/abi/index.js'
import { type Domain, inside } from '../../src/domain/handles.js'

import { ARGUMENT, codeOf, FREE_GFN, host } from '../ops/raw.js'

const quiet = () => {}

describe.each([64, 32] as const)('a Xen-attached port, %i-bit', (bits) => {
  it('EC-xen-1: is unbound for the remote domain, on its vCPU, counted as Xen’s, and numbered like any other', () => {
    const { xen, d1 } = host(bits)
    d1.ipi()
    const port = xen.allocXenPort(xen.domain(1)!, { vcpuId: 1, remoteDomid: 2, notify: quiet })
    expect([port, d1.state(port), inside(d1.domain).ports.xenEvtchns, inside(d1.domain).ports.activeEvtchns]).toEqual([
      2,
      ECS.UNBOUND,
      1,
      2,
    ])
    expect(d1.status(port)).toMatchObject({ status: 1, vcpu: 1, unbound_dom: 2 })
    expect([...xen.dump({ domid: 1 })].at(-1)).toBe('       2 [0/1/0]: s=2 n=1 x=1 d=2')
  })

  it('EC-xen-1: its errors are those of an allocation: no domain, dying, full, and the policy last', () => {
    const { xen, d1, d2 } = host(bits)
    const gone = xen.createDomain({ domid: 9 })
    xen.destroyDomain(gone)
    const alloc =
      (domain: Domain, caller: Domain | undefined = domain) =>
      () =>
        xen.allocXenPort(domain, { remoteDomid: 0, notify: quiet, caller })
    expect(codeOf(alloc(gone))).toBe('ESRCH')
    expect(codeOf(alloc(d1.domain, d2.domain))).toBe('EPERM')
    expect([inside(d1.domain).ports.activeEvtchns, inside(d1.domain).ports.xenEvtchns]).toEqual([0, 0])
    expect(codeOf(alloc(d1.domain, xen.domain(0)))).toBe('ok')
    d1.fill()
    expect(codeOf(alloc(d1.domain, d2.domain))).toBe('ENOSPC')
    xen.killDomain(xen.domain(2)!)
    expect(codeOf(alloc(d2.domain, d1.domain))).toBe('EINVAL')
    expect(inside(d2.domain).ports.xenEvtchns).toBe(0)
  })

  it('EC-xen-1: at most seven functions; one that is in use already costs nothing more', () => {
    const { xen, d1 } = host(bits)
    const functions = Array.from({ length: 8 }, (_, i) => () => void i)
    const alloc = (i: number) => () => xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: functions[i]! })
    for (const i of [0, 1, 2, 3, 4, 5, 6, 0, 3]) expect(codeOf(alloc(i))).toBe('ok')
    expect(codeOf(alloc(7))).toBe('ENOSPC')
    expect([8, 9].map((port) => inside(d1.domain).ports.consumer(port))).toEqual([1, 4])
    expect(inside(d1.domain).ports.activeEvtchns).toBe(9)
  })

  it('EC-xen-2: the guest cannot close it, move it, send on it or poll it (EINVAL); unmask is 0, status works', () => {
    const { xen, d1 } = host(bits)
    const port = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: quiet })
    expect(d1.answer('close', { port })).toBe('EINVAL')
    expect(d1.answer('bind_vcpu', { port, vcpu: 1 })).toBe('EINVAL')
    expect(d1.answer('send', { port })).toBe('EINVAL')
    d1.bytes.fill(0, ARGUMENT, ARGUMENT + 32)
    d1.view.setUint32(ARGUMENT, FREE_GFN * 4096, true)
    d1.view.setUint32(ARGUMENT + (bits === 64 ? 8 : 4), 1, true)
    d1.view.setUint32(FREE_GFN * 4096, port, true)
    expect(d1.callAnswer(HYPERVISOR.sched_op, [SCHEDOP.poll, ARGUMENT])).toBe('EINVAL')
    expect(d1.answer('unmask', { port })).toBe('ok')
    expect(d1.status(port).status).toBe(1)
  })

  it('EC-xen-2: a guest may connect to it, if the id is its own', () => {
    const { xen, d0, d2 } = host(bits)
    const port = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: quiet })
    expect(d0.answer('bind_interdomain', { remote_dom: 1, remote_port: port })).toBe('EINVAL')
    expect(d2.answer('bind_interdomain', { remote_dom: 1, remote_port: port })).toBe('ok')
  })

  it('EC-xen-3: Xen’s own signal sets the peer pending, masked or not, and does nothing in any other state', () => {
    const { xen, d1, d2 } = host(bits)
    const port = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: quiet })
    xen.notifyViaXenPort(xen.domain(1)!, port)
    const peer = d2.must('bind_interdomain', { remote_dom: 1, remote_port: port }).local_port
    d2.must('bind_vcpu', { port: peer, vcpu: 1 })
    d2.quiet()
    xen.notifyViaXenPort(xen.domain(1)!, port)
    expect([d2.bit('pending', peer), d2.flag(1), d1.flag()]).toEqual([1, 1, 0])
    d2.quiet()
    d2.must('close', { port: peer })
    for (const each of [port, 0, 9, d1.ipi(), d1.virq(VIRQ.TIMER)]) xen.notifyViaXenPort(xen.domain(1)!, each)
    expect([d1.flag(), d2.flag(), d2.flag(1)]).toEqual([0, 0, 0])
  })

  it('EC-xen-3, EC-xen-4: an invalid port is let pass for a dying domain only (EINVAL)', () => {
    let preempt = false
    const { xen, d1 } = host(bits, { preempt: () => preempt })
    const port = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: quiet })
    for (let i = 0; i < 80; i++) d1.ipi()
    expect(codeOf(() => xen.notifyViaXenPort(xen.domain(1)!, 5000))).toBe('EINVAL')
    expect(codeOf(() => xen.freeXenPort(xen.domain(1)!, 5000))).toBe('EINVAL')
    preempt = true
    expect(xen.killStep(xen.domain(1)!)).toBe(false)
    expect([inside(d1.domain).ports.isValid(70), inside(d1.domain).ports.isValid(port)]).toEqual([false, true])
    expect(codeOf(() => xen.notifyViaXenPort(xen.domain(1)!, 70))).toBe('ok')
    expect(codeOf(() => xen.freeXenPort(xen.domain(1)!, 70))).toBe('ok')
    expect(codeOf(() => xen.freeXenPort(xen.domain(1)!, port))).toBe('ok')
  })

  it('EC-xen-4: Xen closes its port; the peer finds its own unbound', () => {
    const { xen, d1, d2 } = host(bits)
    const port = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: quiet })
    const peer = d2.must('bind_interdomain', { remote_dom: 1, remote_port: port }).local_port
    xen.freeXenPort(xen.domain(1)!, port)
    expect([d1.state(port), inside(d1.domain).ports.xenEvtchns, inside(d1.domain).ports.consumer(port)]).toEqual([
      ECS.FREE,
      0,
      0,
    ])
    expect(d2.status(peer)).toMatchObject({ status: 1, unbound_dom: 1 })
    expect(d1.ipi()).toBe(port)
    expect(d1.answer('close', { port })).toBe('ok')
  })

  it('EC-xen-6: a device model hears of each send, in order, with the port it is to serve', () => {
    const heard: string[] = []
    const { xen, d1, d2 } = host(bits)
    const [ioreq, ring] = [
      xen.allocXenPort(xen.domain(2)!, {
        vcpuId: 1,
        remoteDomid: 1,
        notify: (vcpu, port) => void heard.push(`ioreq v${vcpu.vcpuId} ${port}`),
      }),
      xen.allocXenPort(xen.domain(2)!, {
        remoteDomid: 1,
        notify: (vcpu, port) => void heard.push(`ring v${vcpu.vcpuId} ${port}`),
      }),
    ]
    const ports = [ring, ioreq].map(
      (remote_port) => d1.must('bind_interdomain', { remote_dom: 2, remote_port }).local_port,
    )
    for (const port of [...ports, ...ports]) d1.must('send', { port })
    expect(heard).toEqual(['ring v0 2', 'ioreq v1 1', 'ring v0 2', 'ioreq v1 1'])
    expect(d2.flag()).toBe(0)
  })
})
