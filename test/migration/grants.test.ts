/** A state by itself grants nothing: limits and rights are the new host’s; and what cannot be saved. */

import { describe, expect, it } from 'vitest'
import { VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'
import { Errno, GuestKernel, type SavedTransparent, siloPolicy } from '../../src/index.js'
import { domainFacts, throughJson } from './facts.js'
import { Host, machine } from './machines.js'
import { refused, transparent } from './refusing.js'

describe('a state grants nothing', () => {
  const edited = (state: SavedTransparent, edit: (state: SavedTransparent) => void): SavedTransparent => {
    const copy = throughJson(state)
    edit(copy)
    return copy
  }

  it('NL-mig-6: a forged peer gets an unbound port, and the victim keeps its channel', () => {
    const each = machine()
    const { xen } = each.host
    const two = xen.createDomain({ domid: 2 })
    const { port } = two.eventChannelOp('alloc_unbound', { dom: 2, remote_dom: 0 })
    const victims = [
      [2, port], // waits for dom0
      [0, each.ports[3]!.dom0 + 100], // does not exist
      [0, 0x7fff],
      [5, 1], // no such domain
    ] as const
    for (const [domid, remotePort] of victims) {
      const move = transparent(each.host)
      const state = edited(move.state, ({ ports }) => ports.interdomain.rows[0]!.splice(2, 2, domid, remotePort))
      const before = domainFacts(two)
      const restored = xen.restoreDomain(state, { domid: 9 })
      expect(restored.restored!.unbound[0]).toMatchObject({ domid, remotePort })
      expect(inside(restored).ports.remoteDomid(state.ports.interdomain.rows[0]![0]!)).toBe(domid)
      expect(domainFacts(two)).toEqual(before)
      expect(inside(xen.domain(0)!).ports.remoteDomid(each.ports[0]!.dom0)).toBe(1)
      xen.destroyDomain(xen.domain(9)!)
      move.abort()
    }
  })

  it('NL-mig-6: with `replaces` a channel of somebody else is not to be had either', () => {
    const each = machine()
    const { xen } = each.host
    const two = xen.createDomain({ domid: 2 })
    const { port } = two.eventChannelOp('alloc_unbound', { dom: 2, remote_dom: 0 })
    const { local_port } = xen.domain(0)!.eventChannelOp('bind_interdomain', { remote_dom: 2, remote_port: port })
    const replaces = transparent(each.host)
    const state = edited(replaces.state, ({ ports }) => ports.interdomain.rows[0]!.splice(3, 1, local_port))
    const restored = xen.restoreDomain(state, { replaces })
    expect(restored.restored!.unbound).toMatchObject([{ domid: 0, remotePort: local_port }])
    expect(inside(xen.domain(0)!).ports.remoteDomid(local_port)).toBe(2)
    // The rightful end was not named by the state: it is as if the domain had died.
    expect(inside(xen.domain(0)!).ports.state(each.ports[0]!.dom0)).toBe(2)
    expect(() => xen.restoreDomain(state, { replaces })).toThrow(/replaces/)
  })

  it('NL-mig-6: a peer that waits for the restored number is connected, and both ends are set pending once', () => {
    const each = machine({ channels: 3 })
    const move = transparent(each.host)
    const target = new Host()
    const dom0 = target.dom0()
    const heard: number[] = []
    const [first, ...others] = each.ports.map(({ dom0: port }) => port)
    expect(dom0.allocUnbound(1, { handler: (port) => void heard.push(port) })).toBe(first)
    expect(dom0.allocUnbound(4, { handler: () => {} })).toBe(others[0])
    const domain = target.xen.restoreDomain(throughJson(move.state))
    expect(domain.restored!.connected.map(({ port }) => port)).toEqual([each.ports[0]!.guest])
    expect(domain.restored!.unbound.map(({ reason }) => reason)).toEqual([
      'port 2 of d0 awaits d4',
      'port 3 of d0 is free',
    ])
    expect(heard).toEqual([first])
    target.attach(each.kernel, domain).moveTo(target.xen.platform(domain))
    target.xen.startDomain(target.xen.domain(1)!, move.commit())
    expect([...each.ran]).toEqual([['ring 0', 1]])
    dom0.send(first!)
    each.kernel.send(each.ports[0]!.guest)
    expect([...each.ran]).toEqual([['ring 0', 2]])
    expect(heard.length).toBe(2)
  })

  it('NL-mig-6: PIRQs need permission and a free line', () => {
    const { host, domain } = machine({ channels: 1 })
    inside(domain).pirqs.permitted.add(7)
    domain.eventChannelOp('bind_pirq', { pirq: 7 })
    const move = transparent(host)
    const target = new Host()
    expect(refused(target, move.state)).toMatchObject({ errno: Errno.EPERM, field: 'ports.pirq[0].pirq' })
    target.xen.createDomain({ domid: 0 }).eventChannelOp('bind_pirq', { pirq: 7 })
    expect(refused(target, move.state, { pirqs: [7] })).toMatchObject({ errno: Errno.EBUSY })
    const twice = edited(move.state, ({ ports }) => {
      ports.pirq.rows.push([40, 0, 7])
    })
    expect(refused(target, twice, { pirqs: [7] })).toMatchObject({ errno: Errno.EEXIST, field: 'ports.pirq[1].pirq' })
    // On the same host the line passes from the source to what replaces it.
    const restored = host.xen.restoreDomain(move.state, { replaces: move })
    expect(worldOf(host.xen).irqs.guests(7)).toEqual([1])
    host.xen.raiseIrq(7)
    expect(restored.isPending(inside(restored).pirqs.find(7)!.port)).toBe(true)
  })

  it('NL-mig-6: global VIRQs are the handler domain’s', () => {
    const { host, domain } = machine({ channels: 1 })
    host.xen.setGlobalVirqHandler(host.xen.domain(1)!, VIRQ.CONSOLE)
    const { port } = domain.eventChannelOp('bind_virq', { virq: VIRQ.CONSOLE, vcpu: 0 })
    domain.eventChannelOp('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 })
    const move = transparent(host)
    const target = new Host()
    const dom0 = target.xen.createDomain({ domid: 0 })
    expect(refused(target, move.state)).toMatchObject({ errno: Errno.EBUSY, field: 'ports.virq[0].virq' })
    const taken = dom0.eventChannelOp('bind_virq', { virq: VIRQ.CONSOLE, vcpu: 0 })
    const roles = { globalVirqs: [VIRQ.CONSOLE] }
    expect(refused(target, move.state, roles)).toMatchObject({ errno: Errno.EBUSY })
    const twice = edited(move.state, ({ ports }) => {
      ports.virq.rows.push([41, 0, VIRQ.TIMER])
    })
    dom0.eventChannelOp('close', { port: taken.port })
    expect(refused(target, twice, roles)).toMatchObject({ errno: Errno.EEXIST, field: 'ports.virq[2].virq' })
    const restored = target.xen.restoreDomain(move.state, roles)
    target.xen.sendGlobalVirq(VIRQ.CONSOLE)
    expect(restored.isPending(port)).toBe(true)
    // And where it was, the role passes to what replaces it.
    const again = host.xen.restoreDomain(move.state, { replaces: move })
    expect(worldOf(host.xen).virqs.handler(VIRQ.CONSOLE)).toBe(inside(again))
  })

  it('NL-mig-6: VIRQ_DOM_EXC: the record of changed domains passes to what replaces its owner', () => {
    const { host, domain } = machine({ channels: 0 })
    host.xen.setGlobalVirqHandler(host.xen.domain(1)!, VIRQ.DOM_EXC)
    domain.eventChannelOp('bind_virq', { virq: VIRQ.DOM_EXC, vcpu: 0 })
    while (worldOf(host.xen).virqs.takeChanged(inside(domain)) >= 0);
    const replaces = transparent(host)
    host.xen.createDomain({ domid: 5 })
    host.xen.destroyDomain(host.xen.domain(5)!)
    const restored = host.xen.restoreDomain(replaces.state, { replaces })
    expect(restored.restored!.raised.length).toBe(1)
    const changed: number[] = []
    for (
      let domid = worldOf(host.xen).virqs.takeChanged(inside(restored));
      domid >= 0;
      domid = worldOf(host.xen).virqs.takeChanged(inside(restored))
    )
      changed.push(domid)
    expect(changed).toContain(5)
  })

  it('NL-mig-6: Xen-attached ports are never restored', () => {
    const each = machine({ channels: 1 })
    const { xen } = each.host
    const port = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 0, notify: () => {} })
    xen.domain(0)!.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port })
    const move = transparent(each.host)
    expect(move.state.xenPorts).toEqual([port])
    const forged = edited(move.state, ({ ports }) => {
      for (const table of Object.values(ports)) {
        table.columns.push('consumer')
        for (const row of table.rows) row.push(1)
      }
    })
    expect(() => xen.restoreDomain(forged, { domid: 8 })).toThrow(/ports\.unbound\.columns/)
    const restored = xen.restoreDomain(move.state, { replaces: move })
    expect(inside(restored).ports.xenEvtchns).toBe(0)
    expect(inside(restored).ports.state(port)).toBe(0)
    expect(restored.restored!.xenPorts).toEqual([port])
  })

  it('NL-mig-6: the policy is asked for every port', () => {
    const each = machine({ channels: 1 })
    const { port } = each.domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 2 })
    const move = transparent(each.host)
    const silo = new Host({ xsm: siloPolicy })
    silo.xen.createDomain({ domid: 0 })
    silo.xen.createDomain({ domid: 2 })
    expect(refused(silo, move.state)).toMatchObject({ errno: Errno.EPERM, field: 'ports.unbound[0]' })
    expect(move.state.ports.unbound.rows[0]![0]).toBe(port)
    silo.xen.destroyDomain(silo.xen.domain(2)!)
    // As alloc_unbound answers for an unknown other end (EC-xsm-5).
    expect(refused(silo, move.state)).toMatchObject({ errno: Errno.ESRCH })
  })

  it('NL-mig-6: the number 0 and privilege are the caller’s to give', () => {
    const each = machine({ channels: 1 })
    const move = transparent(each.host)
    const state = edited(move.state, (copy) => {
      copy.domid = 0
    })
    const target = new Host()
    expect(refused(target, state)).toMatchObject({ errno: Errno.EPERM, field: 'domid' })
    expect(target.xen.restoreDomain(state, { domid: 3 }).privileged).toBe(false)
    expect(target.xen.restoreDomain(state, { domid: 0 }).privileged).toBe(false)
    const forged = { ...state, privileged: true }
    expect(() => target.xen.restoreDomain(forged, { domid: 4 })).toThrow(/privileged: is unknown/)
  })
})

describe('what cannot be saved', () => {
  it('NL-mig-3: a domain in the middle of an upcall, a hypercall or a reset', () => {
    let during: () => void = () => {}
    const host = new Host()
    const each = machine({ channels: 1 }, host)
    const errors: string[] = []
    const attempt = () => {
      try {
        host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent' }).abort()
        errors.push('none')
      } catch (error) {
        errors.push((error as Error).message)
      }
    }
    each.kernel.bindVirq(VIRQ.TIMER, { handler: () => during() })
    during = attempt
    host.xen.sendVirq(host.xen.domain(1)!.vcpu(0), VIRQ.TIMER)
    const notify = () => attempt()
    const port = host.xen.allocXenPort(host.xen.domain(1)!, { remoteDomid: 0, notify })
    const { local_port } = host.xen.domain(0)!.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port })
    host.xen.domain(0)!.eventChannelOp('send', { port: local_port })
    inside(each.domain).nextEvtchn = 64
    attempt()
    inside(each.domain).nextEvtchn = 0
    attempt()
    host.xen.killDomain(host.xen.domain(1)!)
    attempt()
    expect(errors).toEqual([
      expect.stringMatching(/in the middle of an upcall \(EBUSY\)/),
      expect.stringMatching(/in the middle of a hypercall \(EBUSY\)/),
      expect.stringMatching(/in the middle of a reset, at port 64 \(EBUSY\)/),
      'none',
      expect.stringMatching(/is dead \(EINVAL\)/),
    ])
    const gone = host.xen.createDomain({ domid: 77 })
    host.xen.destroyDomain(gone)
    expect(() => host.xen.beginMigration(gone)).toThrow(/ESRCH/)
  })

  it('an ABI that has no part in the format', () => {
    const { host, domain } = machine({ channels: 1 })
    const ops = inside(domain).portOps
    inside(domain).useOps({ ...ops, levels: 2, bits: 64, maxEvtchns: 4096 } as typeof ops)
    expect(() => host.xen.saveDomain(host.xen.domain(1)!, { mode: 'transparent' })).toThrow(/EOPNOTSUPP/)
    expect(inside(domain).frozen).toBeNull()
    expect(host.xen.saveDomain(host.xen.domain(1)!).mode).toBe('cooperative')
  })
})

describe('saveDomain', () => {
  it('freezes in transparent mode and copies in cooperative mode, unless told otherwise', () => {
    const each = machine({ channels: 1 })
    const { xen } = each.host
    xen.saveDomain(xen.domain(1)!)
    expect(inside(each.domain).frozen).toBeNull()
    xen.saveDomain(xen.domain(1)!, { mode: 'transparent', freeze: false })
    expect(inside(each.domain).frozen).toBeNull()
    const state = xen.saveDomain(xen.domain(1)!, { mode: 'transparent' })
    expect(inside(each.domain).frozen).toBe('saved')
    expect(xen.migrationOf(xen.domain(1)!)!.state).toBe(state)
    const source = xen.domain(1)!
    xen.destroyDomain(source)
    expect(xen.migrationOf(source)).toBeUndefined()
    expect(() => xen.saveDomain(xen.createDomain({ domid: 9 }), { mode: 'live' as 'transparent' })).toThrow(
      /mode is "live"/,
    )
    const restored = xen.restoreDomain(state)
    expect(inside(restored).frozen).toBe('restored')
    expect(() => restored.eventChannelOp('bind_ipi', { vcpu: 0 })).toThrow(/restored and not started \(EAGAIN\)/)
    expect(() => xen.saveDomain(xen.domain(1)!, { mode: 'transparent' })).toThrow(/has not been started \(EBUSY\)/)
    xen.startDomain(xen.domain(1)!)
    expect(() => xen.startDomain(xen.domain(1)!)).toThrow(/EINVAL/)
    expect(GuestKernel.boot(xen.platform(xen.createDomain({ domid: 6 }))).levels).toBe(2)
  })
})
