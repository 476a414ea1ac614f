/** Guests that are moved: the suspend handshake, windows of a shared memory, vCPUs beyond the legacy 32, files. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { EVTCHNOP, encode, HYPERVISOR, PAGE_SIZE, SELECTOR_AREA, SHUTDOWN } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'
import { GuestKernel } from '../../src/index.js'
import { sourceOf } from '../../src/migration/handle.js'
import { domainFacts, throughJson } from './facts.js'
import { Host, machine } from './machines.js'

describe('the suspend handshake', () => {
  /** The toolstack in dom0 asks over the suspend channel and is told over the same when it is done. */
  function handshake() {
    const each = machine({ channels: 2 })
    const told: string[] = []
    let wanted = true
    const port = each.kernel.offerSuspend(0, { wanted: () => wanted })
    const ask = each.dom0.bindInterdomain(1, port, {
      handler: () => {
        if (inside(each.domain).shutdownCode === SHUTDOWN.suspend) told.push('suspended')
      },
    })
    each.host.xen.subscribeSuspend(each.host.xen.domain(1)!, port)
    const refuse = () => {
      wanted = false
    }
    return { ...each, port, ask, told, refuse }
  }

  it('NL-mig-2: asked by an event, suspended by SCHEDOP_shutdown, told by an event, resumed on another host', () => {
    const { kernel, dom0, ask, told, host, domain, ports, ran } = handshake()
    dom0.send(ask)
    expect(kernel.suspended).toBe(true)
    expect(inside(domain).shutdownCode).toBe(SHUTDOWN.suspend)
    expect(told).toEqual(['suspended'])
    dom0.send(ports[0]!.dom0)
    expect(ran.size, 'no handler runs in a suspended guest').toBe(0)
    const move = host.xen.beginMigration(host.xen.domain(1)!)
    const target = new Host()
    const there = target.xen.restoreDomain(move.state)
    move.commit()
    const report = target.attach(kernel, there).resume(target.xen.platform(there))
    expect(kernel.suspended).toBe(false)
    expect(report.rebound.map(({ name }) => name)).toEqual(['ring 0', 'ring 1', 'suspend'])
    expect(kernel.rescan(), 'the suspend channel is no ring').toBe(2)
    expect(kernel.suspended).toBe(false)
  })

  it('EC-die-8: a suspend that comes to nothing leaves the channels, and what came in is handled', () => {
    const { kernel, dom0, ask, host, ports, ran, domain } = handshake()
    dom0.send(ask)
    dom0.send(ports[1]!.dom0)
    const move = host.xen.beginMigration(host.xen.domain(1)!)
    expect(() => new Host({ maxFrames: 4 }).xen.restoreDomain(move.state)).toThrow(/ENOMEM/)
    move.abort()
    host.xen.resumeDomain(host.xen.domain(1)!)
    kernel.cancelSuspend()
    expect(inside(domain).shutdownCode).toBe(-1)
    expect([...ran]).toEqual([['ring 1', 1]])
    kernel.send(ports[0]!.guest)
    dom0.send(ports[0]!.dom0)
    expect(ran.get('ring 0')).toBe(1)
  })

  it('NL-mig-6: the event to be safe on the suspend channel is no request', () => {
    const { kernel, host, refuse } = handshake()
    refuse()
    const replaces = host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent' })
    const restored = host.xen.restoreDomain(replaces.state, { replaces })
    kernel.moveTo(host.xen.platform(restored))
    host.xen.startDomain(host.xen.domain(1)!)
    expect(kernel.suspended).toBe(false)
    expect(inside(restored).suspendEvtchn).toBeGreaterThan(0)
  })

  it('EC-vclass-6: without a suspend channel VIRQ_DOM_EXC tells', () => {
    const { kernel, dom0, host, domain } = machine({ channels: 1 })
    const changed: number[] = []
    dom0.bindVirq(3, {
      handler: () => void changed.push(worldOf(host.xen).virqs.takeChanged(inside(host.xen.domain(0)!))),
    })
    while (worldOf(host.xen).virqs.takeChanged(inside(host.xen.domain(0)!)) >= 0);
    kernel.suspend()
    expect(inside(domain).shutdownCode).toBe(SHUTDOWN.suspend)
    expect(changed).toEqual([1])
    kernel.suspend()
    expect(changed).toEqual([1])
  })

  it('a suspended guest that is moved transparently goes on there', () => {
    const { kernel, dom0, ask, host, ran } = handshake()
    dom0.send(ask)
    const move = host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent' })
    const target = new Host()
    const there = target.xen.restoreDomain(throughJson(move.state))
    expect(inside(there).shutdownCode).toBe(SHUTDOWN.suspend)
    target.attach(kernel, there).moveTo(target.xen.platform(there))
    target.xen.startDomain(target.xen.domain(1)!, move.commit())
    target.xen.resumeDomain(target.xen.domain(1)!)
    expect(ran.size).toBe(0)
    kernel.cancelSuspend()
    expect(kernel.op('bind_ipi', { vcpu: 0, port: 0 }).port).toBeGreaterThan(0)
  })
})

describe('where a domain may be moved to', () => {
  it.each([2, 3, 4] as const)(
    'NL-mig-3: a window of a shared memory, elsewhere than before, with %i levels',
    (levels) => {
      const frames = 1300
      const memory = new WebAssembly.Memory({ initial: 240, maximum: 240, shared: true })
      const host = new Host()
      host.dom0()
      const make = { domid: 1, frames, vcpus: 2, memory, base: 16 * PAGE_SIZE, maxEvtchnPort: Infinity }
      const kernel = GuestKernel.boot(host.xen.platform(host.xen.createDomain(make)), { levels })
      host.kernels.set(1, kernel)
      const ran: number[] = []
      const ports = Array.from({ length: 20 }, (_, i) =>
        kernel.allocUnbound(0, { vcpu: i % 2, handler: (port) => void ran.push(port) }),
      )
      const dom0 = host.kernels.get(0)!
      const ends = ports.map((port) => dom0.bindInterdomain(1, port, { handler: () => {} }))
      for (const base of [2400 * PAGE_SIZE, 0, 1500 * PAGE_SIZE]) {
        const replaces = host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent' })
        dom0.send(ends[7]!)
        const domain = host.xen.restoreDomain(throughJson(replaces.state), { replaces, memory, base })
        // Whatever is left of it where it was must not matter.
        const old = sourceOf(replaces).domain.memory
        if (base !== old.base) new Uint8Array(memory.buffer, old.base, old.bytes).fill(0xff)
        new Uint8Array(memory.buffer).set(domain.memory.view(), base)
        kernel.moveTo(host.xen.platform(domain))
        ran.length = 0
        host.xen.startDomain(host.xen.domain(1)!)
        expect(ran.sort((a, b) => a - b)).toEqual(ports)
        ran.length = 0
        for (const end of ends) dom0.send(end)
        expect(ran.sort((a, b) => a - b)).toEqual(ports)
        kernel.moveToVcpu(ports[0]!, 1)
        kernel.mask(ports[3]!)
        dom0.send(ends[3]!)
        kernel.unmask(ports[3]!)
        expect(ran.at(-1)).toBe(ports[3])
      }
    },
  )

  it('NL-mig-3: vCPUs beyond the legacy 32, on areas of their own', () => {
    const each = machine({ vcpus: 40, channels: 80, frames: 200 })
    const move = each.host.xen.beginMigration(each.host.xen.domain(1)!, { mode: 'transparent' })
    const target = new Host()
    const there = target.xen.restoreDomain(throughJson(move.state))
    const facts = domainFacts(there)
    expect(facts.vcpus).toEqual(domainFacts(each.domain).vcpus)
    target.attach(each.kernel, there).moveTo(target.xen.platform(there))
    target.xen.startDomain(target.xen.domain(1)!, move.commit())
    const port = each.kernel.bindIpi({ vcpu: 39, handler: () => void each.ran.set('ipi', 1) })
    each.kernel.send(port)
    expect(each.ran.get('ipi')).toBe(1)
  })

  it('NL-sel-4: a vCPU on the dummy, its selectors recorded, registers its vcpu_info where it was moved to', () => {
    const host = new Host()
    const domain = host.xen.createDomain({ domid: 1, vcpus: 33, frames: 128 })
    const kernel = GuestKernel.boot(host.xen.platform(domain), { levels: 3, nrPages: 1 })
    inside(domain).useLegacyInfo(inside(domain.vcpu(32)))
    domain.eventChannelOp('bind_ipi', { vcpu: 32 })
    expect(inside(domain.vcpu(32)).onDummy).toBe(true)
    const move = host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent' })
    const target = new Host()
    const there = target.xen.restoreDomain(throughJson(move.state))
    expect(inside(there.vcpu(32))).toMatchObject({ onDummy: true, activeDepth: 0 })
    expect(inside(there.vcpu(32)).recorded?.levels).toBe(3)
    target.xen.startDomain(target.xen.domain(1)!)
    const gpa = kernel.frames.allocate(1)![0]! * PAGE_SIZE
    const view = new DataView(there.memory.memory.buffer, there.memory.base + gpa)
    view.setBigUint64(0, BigInt(gpa / PAGE_SIZE), true)
    view.setUint32(8, 64, true)
    expect(target.xen.hypercall(there.vcpu(32), HYPERVISOR.vcpu_op, [10, 32, gpa])).toBe(0)
    expect(inside(there.vcpu(32)).activeDepth).toBe(3)
  })

  it('NL-mig-4: a file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'evtchn-'))
    try {
      const each = machine({ channels: 5 })
      each.dom0.send(each.ports[2]!.dom0)
      const file = join(folder, 'domain.json')
      writeFileSync(file, JSON.stringify(each.host.xen.saveDomain(each.host.xen.domain(1)!, { mode: 'transparent' })))
      each.host.xen.destroyDomain(each.host.xen.domain(1)!)
      const again = each.host.xen.restoreDomain(JSON.parse(readFileSync(file, 'utf8')))
      expect(again.restored!.unbound.length + again.restored!.connected.length).toBe(5)
      // dom0's ends wait for the number 1 since the domain went away.
      expect(again.restored!.connected.length).toBe(5)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('NL-mig-3: RAM without its zero frames', () => {
    const host = new Host()
    const domain = host.xen.createDomain({ domid: 1, frames: 2000 })
    for (const gfn of [5, 6, 700, 1999]) domain.memory.view()[gfn * PAGE_SIZE + 77] = gfn & 0xff
    const { ram } = host.xen.saveDomain(host.xen.domain(1)!)
    expect(ram!.map(({ gfn, bytes }) => [gfn, bytes.length])).toEqual([
      [1, 4096],
      [5, 8192],
      [700, 4096],
      [1999, 4096],
    ])
  })

  it('a window that held something else is zero where the state has nothing', () => {
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 4 })
    new Uint8Array(memory.buffer).fill(0xee)
    const host = new Host()
    host.xen.createDomain({ domid: 1, frames: 32 })
    const state = host.xen.saveDomain(host.xen.domain(1)!, { mode: 'transparent' })
    const there = new Host().xen.restoreDomain(state, { memory, base: 16 * PAGE_SIZE })
    expect(
      there.memory
        .view()
        .subarray(2 * PAGE_SIZE)
        .every((byte) => byte === 0),
    ).toBe(true)
    expect(new Uint8Array(memory.buffer, 0, 16 * PAGE_SIZE).every((byte) => byte === 0xee)).toBe(true)
  })
})

describe('the width', () => {
  it('NL-tree-3: selectors that were recorded at one width are not committed at the other', () => {
    const { xen } = new Host()
    const domain = xen.createDomain({ domid: 1, bits: 32, frames: 32 })
    const view = new DataView(domain.memory.memory.buffer)
    const call = (op: 'set_nlevel_selectors' | 'register_nlevel') =>
      xen.hypercall(domain.vcpu(0), HYPERVISOR.event_channel_op, [EVTCHNOP[op], 3 * PAGE_SIZE])
    // 128 bytes of level 2 at 32 bits, at the end of frame 10. At 64 bits it would be 512, into frame 11.
    view.setBigUint64(4 * PAGE_SIZE, 10n, true)
    encode(SELECTOR_AREA, view, { gfns: 4 * PAGE_SIZE, nr_pages: 1, offset: PAGE_SIZE - 128 }, 5 * PAGE_SIZE)
    for (const [i, value] of [0, 3, 1, 0, 5 * PAGE_SIZE, 0].entries())
      view.setUint32(3 * PAGE_SIZE + 4 * i, value, true)
    expect(call('set_nlevel_selectors')).toBe(0)
    inside(domain).latchWidth(64)
    view.setBigUint64(6 * PAGE_SIZE, 20n, true)
    view.setBigUint64(7 * PAGE_SIZE, 21n, true)
    const args = [3, 1, 6 * PAGE_SIZE, 0, 7 * PAGE_SIZE, 0, 0, 0]
    for (const [i, value] of args.entries()) view.setUint32(3 * PAGE_SIZE + 4 * i, value, true)
    expect(call('register_nlevel')).toBe(-22)
    expect(
      domain.memory
        .view()
        .subarray(11 * PAGE_SIZE, 12 * PAGE_SIZE)
        .every((byte) => byte === 0),
    ).toBe(true)
    // A state carries them as they are.
    const there = new Host().xen.restoreDomain(xen.saveDomain(xen.domain(1)!, { mode: 'transparent' }))
    expect(inside(there.vcpu(0)).recorded).toMatchObject({ bits: 32, levels: 3 })
  })
})
