/** Targets that cannot, or may not, take the domain: every path, in both modes; and what a state may not bring along. */

import { afterEach, describe, expect, it, vi } from 'vitest'
import { VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'
import { Errno, errnoName, type HypervisorOptions, type RestoreOptions } from '../../src/index.js'
import { domainFacts, throughJson } from './facts.js'
import { Host, machine } from './machines.js'
import { refused, TARGETS, transparent } from './refusing.js'

describe('a target that refuses', () => {
  afterEach(() => vi.unstubAllGlobals())

  it.each(TARGETS)(
    'NL-mig-3: %s: nothing changes there, and the source runs on and finishes its work',
    (_, hostOptions, options, errno, field) => {
      const each = machine({ channels: 39 })
      const waiting = each.kernel.allocUnbound(0, { handler: () => {} })
      const target = new Host(hostOptions)
      target.dom0()
      const before = domainFacts(each.domain)
      const move = transparent(each.host)
      each.dom0.send(each.ports[0]!.dom0)
      const error = refused(target, throughJson(move.state), options)
      expect([error.errno, error.field]).toEqual([errno, field])
      expect(error.message).toContain(field)
      move.abort()
      expect(domainFacts(each.domain)).toEqual(before)
      for (const { dom0: back, guest } of each.ports) {
        each.dom0.send(back)
        each.kernel.send(guest)
      }
      expect(each.ran.size).toBe(39)
      expect(each.ran.get('ring 0')).toBe(2)
      expect(each.heard.size).toBe(39)
      expect(each.kernel.levels).toBe(3)
      each.kernel.close(waiting)
    },
  )

  it.each([
    ['of another kind: no FIFO', { fifo: false }, {}, Errno.EOPNOTSUPP, 'abi.name'],
    ['with a lower port limit', {}, { maxEvtchnPort: 38 }, Errno.ENOSPC, 'ports.interdomain[38].port'],
    ['where the number is taken', {}, { domid: 0 }, Errno.EEXIST, 'domid'],
    ['without memory', { maxFrames: 64 + 127 }, {}, Errno.ENOMEM, 'frames'],
  ] as [string, HypervisorOptions, RestoreOptions, number, string][])(
    'NL-mig-3: a FIFO guest on a target %s: nothing changes there, and its queues go on as they were',
    (_, hostOptions, options, errno, field) => {
      const each = machine({ channels: 39, levels: 'fifo' })
      const target = new Host(hostOptions)
      target.dom0()
      const before = domainFacts(each.domain)
      const move = transparent(each.host)
      const error = refused(target, throughJson(move.state), options)
      expect([error.errno, error.field]).toEqual([errno, field])
      move.abort()
      expect(domainFacts(each.domain)).toEqual(before)
      for (const { dom0: back } of each.ports) each.dom0.send(back)
      expect([...each.ran.values()]).toEqual(Array(39).fill(1))
    },
  )

  it.each([
    ['where the number is taken', {}, { domid: 0 }, Errno.EEXIST, 'domid'],
    ['without memory', { maxFrames: 64 + 127 }, {}, Errno.ENOMEM, 'frames'],
    ['of another width', {}, { bits: 32 }, Errno.EINVAL, 'bits'],
  ] as [string, HypervisorOptions, RestoreOptions, number, string][])(
    'NL-mig-1, EC-die-8: a cooperative state on a target %s: nothing changes there, and the guest cancels its suspend',
    (_, hostOptions, options, errno, field) => {
      const each = machine({ channels: 9 })
      const target = new Host(hostOptions)
      target.dom0()
      each.kernel.suspend()
      const move = each.host.xen.beginMigration(each.host.xen.domain(1)!)
      each.dom0.send(each.ports[4]!.dom0)
      const error = refused(target, throughJson(move.state), options)
      expect([error.errno, error.field]).toEqual([errno, field])
      move.abort()
      each.host.xen.resumeDomain(each.host.xen.domain(1)!)
      each.kernel.cancelSuspend()
      expect([...each.ran]).toEqual([['ring 4', 1]])
      for (const { dom0: back } of each.ports) each.dom0.send(back)
      expect(each.ran.size).toBe(9)
    },
  )

  it('NL-mig-3: the engine has no memory left', () => {
    const each = machine()
    const move = transparent(each.host)
    // Before memory runs out: a host has a private memory of its own.
    const target = new Host()
    const { Memory } = WebAssembly
    vi.stubGlobal('WebAssembly', {
      ...WebAssembly,
      Memory: class extends Memory {
        constructor() {
          super({ initial: 1 })
          throw new RangeError('could not allocate memory')
        }
      },
    })
    expect(() => target.xen.restoreDomain(move.state)).toThrow(/frames: could not allocate memory \(ENOMEM\)/)
    expect(target.xen.domids()).toEqual([])
  })

  it('NL-mig-3: on the source itself a refused replacement leaves the migration open', () => {
    const each = machine()
    const move = transparent(each.host)
    const error = refused(each.host, throughJson(move.state), { replaces: move, maxLevels: 2 })
    expect(error.errno).toBe(Errno.ENOSPC)
    expect(move.status).toBe('frozen')
    move.abort()
    each.dom0.send(each.ports[3]!.dom0)
    expect(each.ran.get('ring 3')).toBe(1)
  })

  it('`using` aborts a migration that nobody commits', () => {
    const each = machine()
    expect(() => {
      using move = transparent(each.host)
      new Host({ nlevel: false }).xen.restoreDomain(move.state)
    }).toThrow(/ENOSYS/)
    expect(inside(each.domain).frozen).toBeNull()
  })
})

const NO_FIFO = 'fifo EOPNOTSUPP'

/** Cooperative: the guest gets fewer levels and knows exactly which channels do not fit. */
const SMALLER: [
  string,
  HypervisorOptions,
  RestoreOptions,
  { levels: number | 'fifo'; fit: number; answers: string[] },
][] = [
  ['older', { nlevel: false, fifo: false }, {}, { levels: 2, fit: 1023, answers: ['4 ENOSYS', NO_FIFO, '2 ok'] }],
  ['with FIFO alone', { nlevel: false }, {}, { levels: 'fifo', fit: 1200, answers: ['4 ENOSYS', 'fifo ok'] }],
  [
    'that does not allow it',
    { fifo: false },
    { nlevelAllowed: false },
    { levels: 2, fit: 1023, answers: ['4 EPERM', NO_FIFO, '2 ok'] },
  ],
  ['with three levels', { maxLevels: 3 }, {}, { levels: 3, fit: 1200, answers: ['4 ENOSPC', '3 ok'] }],
  [
    'with two levels',
    { maxLevels: 2, fifo: false },
    {},
    { levels: 2, fit: 1023, answers: ['4 ENOSPC', '3 ENOSPC', NO_FIFO, '2 ok'] },
  ],
  [
    'without leaf pages',
    { maxLeafPages: 0, fifo: false },
    {},
    { levels: 2, fit: 1023, answers: ['4 ENOSPC', '3 ENOSPC', NO_FIFO, '2 ok'] },
  ],
  ['with a lower port limit', {}, { maxEvtchnPort: 500 }, { levels: 4, fit: 500, answers: ['4 ok'] }],
]

describe('a guest that makes its channels again', () => {
  it.each(SMALLER)(
    'NL-mig-2: %s: exactly the channels that no longer fit are lost, by name, and the rest deliver',
    (_, hostOptions, options, expected) => {
      const each = machine({ bits: 32, levels: 4, channels: 0, frames: 200 })
      const { kernel, host } = each
      const lost: string[] = []
      const rebound: string[] = []
      const ran: string[] = []
      const names = Array.from({ length: 1200 }, (_, i) => `ring ${i}`)
      for (const name of names)
        kernel.allocUnbound(0, {
          name,
          handler: () => void ran.push(name),
          onRebound: () => void rebound.push(name),
          onLost: (reason) => void lost.push(`${name}: ${reason}`),
        })
      kernel.suspend()
      const move = host.xen.beginMigration(host.xen.domain(1)!)
      expect(move.mode).toBe('cooperative')
      const target = new Host(hostOptions)
      const dom0 = target.dom0()
      const domain = target.xen.restoreDomain(throughJson(move.state), { maxEvtchnPort: Infinity, ...options })
      move.commit()
      const report = target.attach(kernel, domain).resume(target.xen.platform(domain))

      expect(report.attempts.map(({ levels, answer }) => `${levels} ${answer}`)).toEqual(expected.answers)
      expect([report.levels, kernel.levels]).toEqual([expected.levels, expected.levels])
      expect(report.rebound.map(({ name }) => name)).toEqual(names.slice(0, expected.fit))
      expect(rebound).toEqual(names.slice(0, expected.fit))
      expect(report.lost.map(({ name, errno }) => `${name}: ${errnoName(errno)}`)).toEqual(
        names.slice(expected.fit).map((name) => `${name}: ENOSPC`),
      )
      expect(lost).toEqual(report.lost.map(({ name, reason }) => `${name}: ${reason}`))
      const ends = report.rebound.map(({ port }) => dom0.bindInterdomain(1, port, { handler: () => {} }))
      expect(ran).toEqual([])
      for (const end of ends) dom0.send(end)
      expect(ran).toEqual(names.slice(0, expected.fit))
    },
  )

  it('NL-mig-2: a guest without frames for the tree falls back by itself', () => {
    const { kernel, host } = machine({ channels: 4, frames: 100 })
    const move = host.xen.beginMigration(host.xen.domain(1)!)
    const target = new Host()
    const platform = target.xen.platform(target.xen.restoreDomain(move.state, { maxEvtchnPort: Infinity }))
    // All RAM but that of the old tree went to something else, and a tree takes a few frames more while it is registered.
    kernel.frames.allocate(kernel.frames.available)
    const report = kernel.resume(platform)
    expect(report.attempts.map(({ levels, answer }) => `${levels} ${answer}`)).toEqual(['3 ENOMEM', 'fifo ok'])
    expect([report.levels, report.rebound.length, report.lost.length]).toEqual(['fifo', 4, 0])
  })

  it('NL-mig-1: on its own host, in its own place: its peers find their ports unbound, and its roles stay', () => {
    const each = machine({ channels: 3 })
    const { host, kernel } = each
    inside(each.domain).pirqs.permitted.add(9)
    host.xen.setGlobalVirqHandler(host.xen.domain(1)!, VIRQ.CONSOLE)
    each.domain.eventChannelOp('bind_virq', { virq: VIRQ.CONSOLE, vcpu: 0 })
    kernel.suspend()
    const replaces = host.xen.beginMigration(host.xen.domain(1)!)
    const domain = host.xen.restoreDomain(throughJson(replaces.state), { replaces, pirqs: [10] })
    expect([replaces.status, host.xen.domain(1) === domain, inside(domain).frozen]).toEqual(['committed', true, null])
    const { ports } = inside(host.xen.domain(0)!)
    for (const { dom0: back } of each.ports) expect([ports.state(back), ports.remoteDomid(back)]).toEqual([2, 1])
    expect(worldOf(host.xen).virqs.handler(VIRQ.CONSOLE)).toBe(inside(domain))
    expect([...inside(domain).pirqs.permitted]).toEqual([9, 10])
    const report = kernel.resume(host.xen.platform(domain))
    expect([report.levels, report.rebound.length]).toEqual([3, 3])
    each.dom0.send(each.dom0.bindInterdomain(1, report.rebound[2]!.port, { handler: () => {} }))
    expect([...each.ran]).toEqual([['ring 2', 1]])
  })

  it('NL-mig-5: events of the time in between are not carried; the re-scan looks at every channel once', () => {
    const each = machine({ channels: 50 })
    const { kernel, host } = each
    kernel.mask(each.ports[0]!.guest)
    each.dom0.send(each.ports[0]!.dom0)
    kernel.suspend()
    const move = host.xen.beginMigration(host.xen.domain(1)!)
    each.dom0.send(each.ports[1]!.dom0)
    const target = new Host()
    target.dom0()
    const domain = target.xen.restoreDomain(move.state)
    expect(move.commit().raised).toEqual([each.ports[1]!.guest])
    // Peers find their ports unbound, silently, and their sends succeed (EC-die-5).
    each.dom0.send(each.ports[1]!.dom0)
    const report = target.attach(kernel, domain).resume(target.xen.platform(domain))
    expect(report.rebound.length).toBe(50)
    expect(each.ran.size, 'nothing of it arrives').toBe(0)
    expect(kernel.rescan()).toBe(50)
    expect(each.ran.size).toBe(50)
  })
})
