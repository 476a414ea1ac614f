/** Events around a move: pending when the state is saved, raised while the source is frozen, sent afterwards. Counted. */

import { describe, expect, it } from 'vitest'
import { ECS, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { Hypervisor } from '../../src/index.js'
import { throughJson } from './facts.js'
import { Host, type Machine, machine } from './machines.js'

const CHANNELS = 600

/** Holds a third of the channels pending, as on a busy vCPU: they are masked while dom0 sends. */
function pend({ kernel, dom0, ports }: Machine): Set<string> {
  const names = new Set<string>()
  for (const [i, { guest, dom0: back }] of ports.entries()) {
    if (i % 3) continue
    kernel.mask(guest)
    dom0.send(back)
    names.add(`ring ${i}`)
  }
  return names
}

/** Raises events on every fifth channel; the domain stands still. */
function raise({ dom0, ports }: Machine): Set<string> {
  const names = new Set<string>()
  for (const [i, { dom0: back }] of ports.entries()) {
    if (i % 5) continue
    dom0.send(back)
    names.add(`ring ${i}`)
  }
  return names
}

const unmaskAll = ({ kernel, ports }: Machine) => {
  for (const { guest } of ports) if (kernel.isMasked(guest)) kernel.unmask(guest)
}

/** Every name has run; names that ran although nothing was sent to them. */
function accounted(ran: ReadonlyMap<string, number>, sent: ReadonlySet<string>): number {
  for (const name of sent) expect(ran.get(name), `${name} was signalled`).toBeGreaterThanOrEqual(1)
  return [...ran.keys()].filter((name) => !sent.has(name)).length
}

describe.each([
  [64, 2, 1],
  [64, 3, 2],
  [64, 4, 1],
  [32, 2, 1],
  [32, 3, 2],
  [32, 4, 1],
  [64, 'fifo', 2],
  [32, 'fifo', 1],
] as const)('%i bits, %s levels, %i vCPUs', (bits, levels, vcpus) => {
  const shape = { bits, levels, vcpus, channels: CHANNELS, frames: 1300 }

  it('NL-mig-5: an aborted move loses nothing: pending, raised meanwhile and sent afterwards all arrive', () => {
    const each = machine(shape)
    const sent = pend(each)
    const move = each.host.xen.beginMigration(each.host.xen.domain(1)!, { mode: 'transparent' })
    for (const name of raise(each)) sent.add(name)
    expect(each.ran.size, 'nothing runs in a frozen domain').toBe(0)
    expect(() => each.kernel.send(each.ports[0]!.guest)).toThrow(/EAGAIN/)
    move.abort()
    unmaskAll(each)
    expect(accounted(each.ran, sent), 'spurious').toBe(0)
    each.ran.clear()
    for (const { dom0: back } of each.ports) each.dom0.send(back)
    expect([...each.ran.values()]).toEqual(Array(CHANNELS).fill(1))
  })

  it('NL-mig-5, NL-mig-6: replaced on the same host, every event arrives, and both ends get one more to be safe', () => {
    const each = machine(shape)
    const { host, kernel } = each
    const sent = pend(each)
    const replaces = host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent' })
    const late = raise(each)
    for (const name of late) sent.add(name)
    const domain = host.xen.restoreDomain(throughJson(replaces.state), { replaces })
    // Every third one was pending already when it was saved, and is so in the state.
    expect(domain.restored!.raised.length).toBe([...late].filter((name) => Number(name.slice(5)) % 3).length)
    expect(domain.restored!.connected.length).toBe(CHANNELS)
    kernel.moveTo(host.xen.platform(domain))
    host.xen.startDomain(host.xen.domain(1)!)
    unmaskAll(each)
    accounted(each.ran, sent)
    expect([...each.ran.values()]).toEqual(Array(CHANNELS).fill(1))
    expect([...each.heard.values()], 'dom0 hears each once').toEqual(Array(CHANNELS).fill(1))
    each.ran.clear()
    for (const { dom0: back, guest } of each.ports) {
      each.dom0.send(back)
      kernel.send(guest)
    }
    expect([...each.ran.values()]).toEqual(Array(CHANNELS).fill(1))
    expect([...each.heard.values()]).toEqual(Array(CHANNELS).fill(2))
  })

  it('NL-mig-5: on another host every event arrives, those of channels whose other end is absent too', () => {
    const each = machine(shape)
    const sent = pend(each)
    const there = new Host()
    const move = each.host.xen.beginMigration(each.host.xen.domain(1)!, { mode: 'transparent' })
    const domain = there.xen.restoreDomain(throughJson(move.state), { maxLeafPages: 1024 })
    const late = raise(each)
    for (const name of late) sent.add(name)
    const { raised } = move.commit()
    expect(each.host.xen.domain(1)).toBeUndefined()
    expect(raised.length).toBe([...late].filter((name) => Number(name.slice(5)) % 3).length)
    each.kernel.moveTo(there.xen.platform(there.xen.domain(1)!))
    there.attach(each.kernel, domain)
    expect(there.xen.startDomain(there.xen.domain(1)!, { raised })).toBe(raised.length)
    unmaskAll(each)
    expect(accounted(each.ran, sent), 'spurious').toBe(0)
    // Absent: unbound towards dom0, as when a peer dies, and its sends are dropped.
    expect(domain.restored!.unbound.length).toBe(CHANNELS)
    expect(inside(domain).ports.state(each.ports[0]!.guest)).toBe(ECS.UNBOUND)
    expect(inside(domain).ports.remoteDomid(each.ports[0]!.guest)).toBe(0)
    each.kernel.send(each.ports[0]!.guest)
  })
})

describe('while the source is frozen', () => {
  /** dom0's end of channel 0 was closed and bound anew. */
  const rebind = ({ dom0, ports }: Machine): number => {
    dom0.close(ports[0]!.dom0)
    dom0.allocUnbound(0, { handler: () => {} }) // takes the number that was free
    return dom0.bindInterdomain(1, ports[0]!.guest, { name: 'again', handler: () => {} })
  }
  const replace = (xen: Hypervisor, begun: ReturnType<Hypervisor['beginMigration']>) => {
    const domain = xen.restoreDomain(begun.state, { replaces: begun })
    xen.startDomain(xen.domain(1)!)
    return domain
  }

  it('NL-mig-6: a peer that closes and binds again is connected by its new port', () => {
    const each = machine()
    const begun = each.host.xen.beginMigration(each.host.xen.domain(1)!, { mode: 'transparent' })
    const port = rebind(each)
    const domain = replace(each.host.xen, begun)
    expect(inside(domain).ports.remotePort(each.ports[0]!.guest)).toBe(port)
    expect(inside(each.host.xen.domain(0)!).ports.remotePort(port)).toBe(each.ports[0]!.guest)
    expect(domain.restored!.unbound).toEqual([])
  })

  it('NL-mig-6: a peer that binds to a waiting port is connected', () => {
    const each = machine()
    const waiting = each.kernel.allocUnbound(0, { handler: () => {} })
    const begun = each.host.xen.beginMigration(each.host.xen.domain(1)!, { mode: 'transparent' })
    const port = each.dom0.bindInterdomain(1, waiting, { handler: () => {} })
    const domain = replace(each.host.xen, begun)
    expect(inside(domain).ports.state(waiting)).toBe(ECS.INTERDOMAIN)
    expect(inside(domain).ports.remotePort(waiting)).toBe(port)
  })

  it('NL-mig-6: a peer that closes is reported, and the port waits for it', () => {
    const each = machine()
    const begun = each.host.xen.beginMigration(each.host.xen.domain(1)!, { mode: 'transparent' })
    each.dom0.close(each.ports[2]!.dom0)
    const domain = replace(each.host.xen, begun)
    const { guest, dom0: remotePort } = each.ports[2]!
    expect(domain.restored!.unbound).toMatchObject([{ port: guest, domid: 0, remotePort }])
    expect(inside(domain).ports.state(guest)).toBe(ECS.UNBOUND)
  })

  it('NL-mig-6: connected guests that are both moved on one host, to new numbers, stay connected', () => {
    const each = machine({ channels: 1 })
    const { xen } = each.host
    const other = xen.createDomain({ domid: 2 })
    const { port } = each.domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 2 })
    const { local_port } = other.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port })
    const [one, two] = [1, 2].map((domid) => xen.beginMigration(xen.domain(domid)!, { mode: 'transparent' }))
    const eleven = xen.restoreDomain(throughJson(one!.state), { replaces: one!, domid: 11 })
    const twelve = xen.restoreDomain(throughJson(two!.state), { replaces: two!, domid: 12 })
    expect(xen.domids()).toEqual([0, 11, 12])
    expect([inside(eleven).ports.remoteDomid(port), inside(eleven).ports.remotePort(port)]).toEqual([12, local_port])
    expect([inside(twelve).ports.remoteDomid(local_port), inside(twelve).ports.remotePort(local_port)]).toEqual([
      11,
      port,
    ])
    expect(inside(xen.domain(0)!).ports.remoteDomid(each.ports[0]!.dom0)).toBe(11)
  })

  it('NL-mig-5: VIRQs and PIRQs that are raised meanwhile arrive', () => {
    const each = machine({ channels: 1 })
    const { xen } = each.host
    inside(each.domain).pirqs.permitted.add(7)
    const ran: string[] = []
    each.kernel.bindVirq(VIRQ.TIMER, { handler: () => void ran.push('timer') })
    const { port } = each.domain.eventChannelOp('bind_pirq', { pirq: 7 })
    each.kernel.bindHandler(port, { handler: () => void ran.push('pirq') })
    const begun = xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
    xen.sendVirq(xen.domain(1)!.vcpu(0), VIRQ.TIMER)
    xen.raiseIrq(7)
    const domain = xen.restoreDomain(begun.state, { replaces: begun })
    each.kernel.moveTo(xen.platform(domain))
    expect(ran).toEqual([])
    expect(domain.restored!.raised.length).toBe(2)
    xen.startDomain(xen.domain(1)!)
    expect(ran.sort()).toEqual(['pirq', 'timer'])
    xen.raiseIrq(7)
    expect(ran.length).toBe(3)
  })

  it('NL-mig-6: neither dom0 nor a device model changes the port table of a frozen domain', () => {
    const { host, domain } = machine()
    const begun = host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent' })
    const valid = inside(domain).ports.activeEvtchns
    const dom0 = host.xen.domain(0)!
    expect(() => dom0.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 0 })).toThrow(/frozen.*EAGAIN/)
    expect(() =>
      host.xen.allocXenPort(host.xen.domain(1)!, { remoteDomid: 0, notify: () => {}, caller: host.xen.domain(0)! }),
    ).toThrow(/EAGAIN/)
    host.xen.pauseDomain(host.xen.domain(1)!)
    expect(() => dom0.eventChannelOp('reset', { dom: 1 })).toThrow(/frozen.*EAGAIN/)
    expect(() => host.xen.resumeDomain(host.xen.domain(1)!)).toThrow(/EAGAIN/)
    expect(() => host.xen.beginMigration(host.xen.domain(1)!)).toThrow(/EBUSY/)
    expect(inside(domain).ports.activeEvtchns).toBe(valid)
    expect(host.xen.migrationOf(host.xen.domain(1)!)).toBe(begun)
    begun.abort()
    expect(host.xen.migrationOf(host.xen.domain(1)!)).toBeUndefined()
    expect(() => begun.abort()).toThrow(/aborted.*EINVAL/)
    expect(() => begun.commit()).toThrow(/EINVAL/)
  })

  it('a vCPU that polls is woken by what comes in, when its domain goes on', () => {
    const woken: string[] = []
    const host = new Host({ onUnblock: (vcpu) => void woken.push(`d${vcpu.domid}v${vcpu.vcpuId}`) })
    const each = machine({ channels: 2 }, host)
    each.kernel.mask(each.ports[0]!.guest)
    inside(each.domain).startPoll(inside(each.domain.vcpu(0)), each.ports[0]!.guest)
    const begun = host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent' })
    each.dom0.send(each.ports[0]!.dom0)
    expect(woken).toEqual([])
    // Elsewhere the state's vCPU still polls, and what came in wakes it there.
    const domain = new Host().xen.restoreDomain(throughJson(begun.state))
    expect(domain.vcpu(0).polling).toBe(true)
    begun.abort()
    expect(woken).toEqual(['d1v0'])
  })
})
