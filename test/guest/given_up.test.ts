/**
 * A binding that cannot be had leaves nothing behind. A resume tells owners their new numbers before any handler runs, and
 * leaves vCPUs alone that are offline.
 */

import { describe, expect, it } from 'vitest'
import { EVTCHNOP, EVTCHNSTAT, HYPERVISOR, VCPUOP } from '../../src/abi/index.js'
import { Faults, Hypervisor } from '../../src/index.js'

const ARGUMENT = 8192

describe('a binding that is given up', () => {
  it('NL-scan-4: leaves no filter behind: the next port of its number belongs to its own vCPU alone', () => {
    const faults = new Faults()
    const xen = Hypervisor.create({ faults })
    xen.boot({ domid: 0 })
    const guest = xen.boot({ domid: 1, vcpus: 3, levels: 3, nrPages: 1, frames: 64, maxEvtchnPort: Infinity })
    const domain = xen.domain(1)!
    faults.fail({ call: 'bind_vcpu', errno: 'ENOMEM' })
    expect(() => guest.allocUnbound(0, { vcpu: 1, handler: () => {} })).toThrow(/ENOMEM/)

    const ran: string[] = []
    const dom0 = xen.domain(0)!
    const bind = (name: string, vcpu: number) => {
      const port = guest.allocUnbound(0, { vcpu, handler: () => ran.push(name) })
      return { port, far: dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port }).local_port }
    }
    const again = bind('on vCPU 2', 2)
    expect(again.port).toBe(1)
    const beside = bind('on vCPU 1', 1)
    xen.hypercall(domain.vcpu(0), HYPERVISOR.vcpu_op, [VCPUOP.down, 2, 0])
    for (const { far } of [again, beside]) dom0.eventChannelOp('send', { port: far })
    expect(ran).toEqual(['on vCPU 1'])
    xen.hypercall(domain.vcpu(0), HYPERVISOR.vcpu_op, [VCPUOP.up, 2, 0])
    expect(ran).toEqual(['on vCPU 1', 'on vCPU 2'])
  })
})

describe('what a toolstack gives up', () => {
  it('NL-mig-3: a migration whose domain is destroyed is over: it cannot be committed, aborted or restored in place', () => {
    const xen = Hypervisor.create()
    const dom0 = xen.boot({ domid: 0 })
    const guest = xen.boot({ domid: 1 })
    const port = dom0.bindInterdomain(1, guest.allocUnbound(0))
    const move = xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
    xen.destroyDomain(xen.domain(1)!)
    expect(move.status).toBe('gone')
    for (const call of ['commit', 'abort'] as const) expect(() => move[call]()).toThrow(/EINVAL/)
    expect(() => xen.restoreDomain(move.state, { replaces: move })).toThrow()
    expect(xen.domids()).toEqual([0])
    // Its number is free, and its peer's port waits.
    xen.boot({ domid: 1 })
    expect(xen.domain(0)!.eventChannelOp('status', { dom: 0, port }).status).toBe(EVTCHNSTAT.unbound)
  })

  it('EC-reset-6, EC-die-3: a reset that nobody continues is ended by the death of its domain', () => {
    const xen = Hypervisor.create({ preempt: () => true })
    const { domain, dom0 } = hundred(xen)
    domain.memory.data.setUint16(ARGUMENT, domain.domid, true)
    const rest = xen.hypercallStep(domain.vcpu(0), HYPERVISOR.event_channel_op, [EVTCHNOP.reset, ARGUMENT])
    expect(typeof rest).toBe('object')
    expect(domain.openPorts).toBeGreaterThan(0)
    xen.destroyDomain(domain)
    expect(xen.domids()).toEqual([0])
    for (let port = 1; port <= 100; port++) expect(dom0.eventChannelOp('status', { dom: 0, port }).status).toBe(1)
    // The next of this number has all its ports.
    expect(hundred(xen).domain.openPorts).toBe(100)
  })
})

/** A domain of a hundred channels to domain 0. */
function hundred(xen: Hypervisor) {
  const dom0 = xen.domain(0) ?? xen.createDomain({ domid: 0 })
  const domain = xen.createDomain({ domid: 1 })
  for (let i = 0; i < 100; i++) {
    const { port } = domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 0 })
    dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port })
  }
  return { domain, dom0 }
}

describe('a resume', () => {
  it('NL-mig-2: tells every owner its new number before any handler runs', () => {
    const home = Hypervisor.create()
    home.boot({ domid: 0 })
    const guest = home.boot({ domid: 1 })
    const heard: string[] = []
    const unused = guest.allocUnbound(0, { handler: () => {} })
    const waits = guest.allocUnbound(1, {
      name: 'waits',
      handler: () => {},
      onRebound: (port) => heard.push(`waits is ${port}`),
    })
    guest.bindInterdomain(1, waits, {
      name: 'bound',
      handler: (port) => heard.push(`an event on ${port}`),
      onRebound: (port) => heard.push(`bound is ${port}`),
    })
    guest.bindIpi({ name: 'last', onRebound: (port) => heard.push(`last is ${port}`), handler: () => {} })
    guest.close(unused)
    heard.length = 0
    guest.suspend()
    const away = Hypervisor.create()
    away.boot({ domid: 0 })
    away.createDomain({ domid: 7 })
    const there = away.restoreDomain(home.saveDomain(home.domain(1)!))
    away.adopt(there, guest)
    // Port 2 of the same domain, which the second channel names, is another one now.
    there.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 7 })
    guest.resume(away.platform(there))
    expect(heard.findIndex((what) => what.startsWith('an event'))).not.toBeLessThan(
      heard.filter((what) => what.includes(' is ')).length,
    )
    expect(heard).toEqual(['waits is 2', 'bound is 3', 'last is 4', 'an event on 3'])
  })
})

describe('a guest that continues', () => {
  it('EC-up-6: runs no handler on a vCPU that is offline, until that one comes up', () => {
    const xen = Hypervisor.create()
    const dom0 = xen.boot({ domid: 0 })
    const guest = xen.boot({ domid: 1, vcpus: 2 })
    const domain = xen.domain(1)!
    let ran = 0
    const port = guest.allocUnbound(0, { vcpu: 1, handler: () => void ran++ })
    const far = dom0.bindInterdomain(1, port)
    xen.hypercall(domain.vcpu(0), HYPERVISOR.vcpu_op, [VCPUOP.down, 1, 0])
    dom0.send(far)
    guest.suspend()
    xen.resumeDomain(domain)
    guest.cancelSuspend()
    expect([ran, guest.isPending(port)]).toEqual([0, true])
    xen.hypercall(domain.vcpu(0), HYPERVISOR.vcpu_op, [VCPUOP.up, 1, 0])
    expect([ran, guest.isPending(port)]).toEqual([1, false])
  })
})
