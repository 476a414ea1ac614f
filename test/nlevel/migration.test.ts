/**
 * A guest that comes to another host and makes its channels again (NL-mig-1, NL-mig-2): the host is older, forbids
 * N levels, or grants fewer levels, pages or ports. What no longer fits is reported by name, and never passed over.
 */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, sharedInfo, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import {
  type BindOptions,
  type Domain,
  type DomainOptions,
  Errno,
  GuestKernel,
  Hypervisor,
  type HypervisorOptions,
  type WantedLevels,
} from '../../src/index.js'
import { PAGE } from './geometry.js'

/** The errno's name at the end of a reason. */
const code = (reason: string) => /\((\w+)\)$/.exec(reason)?.[1]

/** A channel of a report that is lost for this errno. */
const lostFor = (errno: keyof typeof Errno, name: string, oldPort: number) => ({
  name,
  oldPort,
  errno: Errno[errno],
  reason: expect.stringContaining(`(${errno})`),
})

/** A host on which domain 1 runs a driver, upcalls wired. */
class Machine {
  readonly xen: Hypervisor
  domain: Domain
  kernel!: GuestKernel

  constructor(host: HypervisorOptions, make: (xen: Hypervisor) => Domain) {
    this.xen = Hypervisor.create({
      ...host,
      onUpcall: (vcpu) => void (vcpu.domid === this.domain?.domid && this.kernel?.upcall(vcpu.vcpuId)),
    })
    this.domain = make(this.xen)
  }
  static boot(options: Partial<DomainOptions>, levels: WantedLevels, nrPages?: number): Machine {
    const machine = new Machine({}, (xen) =>
      xen.createDomain({ domid: 1, frames: 1200, maxEvtchnPort: Infinity, ...options }),
    )
    machine.kernel = GuestKernel.boot(machine.xen.platform(machine.domain), { levels, ...(nrPages ? { nrPages } : {}) })
    return machine
  }
  /** The domain on another host, as data. */
  moveTo(host: HypervisorOptions, options: Partial<DomainOptions> = {}, before?: (xen: Hypervisor) => void): Machine {
    const state = JSON.parse(JSON.stringify(this.xen.saveDomain(this.domain)))
    const machine = new Machine(host, (xen) => {
      before?.(xen)
      return xen.restoreDomain(state, { maxEvtchnPort: Infinity, ...options })
    })
    machine.kernel = this.kernel
    return machine
  }
}

const bytesOf = (domain: Domain, from: number, length: number) => domain.memory.view().slice(from, from + length)

describe('a restored domain', () => {
  it.each([
    [64, 4],
    [32, 5],
  ] as const)(
    'NL-mig-1, EC-guest-6: %i bits: begins with two levels, no channel, all masks set and level 1 zero; other RAM is as it was',
    (bits, levels) => {
      const source = Machine.boot({ bits, vcpus: 2 }, levels, 3)
      for (let i = 0; i < 10; i++) source.kernel.bindIpi({ vcpu: i % 2, handler: () => {} })
      const ram = source.domain.memory.view().slice()
      const { domain } = source.moveTo({})
      expect([
        inside(domain).levels,
        inside(domain).nlevel,
        inside(domain).ports.activeEvtchns,
        domain.memory.heldFrames,
      ]).toEqual([2, null, 0, 0])
      expect(domain.vcpus.map((vcpu) => inside(vcpu).recorded)).toEqual([null, null])
      const { pending, mask, sel } = sharedInfo(bits)
      const size = (bits * bits) / 8
      expect(bytesOf(domain, PAGE + pending, size).every((byte) => byte === 0)).toBe(true)
      expect(bytesOf(domain, PAGE + mask, size).every((byte) => byte === 0xff)).toBe(true)
      for (let v = 0; v < 32; v++) expect(bytesOf(domain, PAGE + 64 * v + sel, bits / 8).some(Boolean)).toBe(false)
      expect(bytesOf(domain, 0, PAGE)).toEqual(ram.slice(0, PAGE))
      expect(Buffer.compare(domain.memory.view().subarray(2 * PAGE), ram.subarray(2 * PAGE))).toBe(0)
    },
  )
})

describe('the driver on a host that grants less', () => {
  const rows: [
    string,
    32 | 64,
    WantedLevels,
    HypervisorOptions,
    Partial<DomainOptions>,
    levels: number,
    attempts: string[],
  ][] = [
    ['the same host', 64, 4, {}, {}, 4, ['4/20 ok']],
    ['an older host', 64, 4, { nlevel: false, fifo: false }, {}, 2, ['4/20 ENOSYS', 'fifo/0 EOPNOTSUPP', '2/0 ok']],
    [
      'a host that forbids it',
      64,
      4,
      { fifo: false },
      { nlevelAllowed: false },
      2,
      ['4/20 EPERM', 'fifo/0 EOPNOTSUPP', '2/0 ok'],
    ],
    ['a host of three levels', 64, 4, { maxLevels: 3 }, {}, 3, ['4/20 ENOSPC', '3/8 ok']],
    ['a domain of three levels', 32, 5, {}, { maxLevels: 3 }, 3, ['5/20 ENOSPC', '4/20 ENOSPC', '3/1 ok']],
    [
      'a host of two levels',
      64,
      4,
      { maxLevels: 2, fifo: false },
      {},
      2,
      ['4/20 ENOSPC', '3/8 ENOSPC', 'fifo/0 EOPNOTSUPP', '2/0 ok'],
    ],
    ['a host of fewer pages', 64, 4, { maxLeafPages: 3 }, {}, 4, ['4/3 ok']],
    ['a domain of fewer pages', 32, 5, {}, { maxLeafPages: 7 }, 5, ['5/7 ok']],
  ]
  it.each(rows)(
    'NL-mig-2: %s: takes the deepest form that it can get',
    (_, bits, wanted, host, options, levels, attempts) => {
      const source = Machine.boot({ bits }, wanted, 20)
      expect(source.kernel.levels).toBe(wanted)
      let handled = 0
      source.kernel.bindIpi({ name: 'ipi', handler: () => void handled++ })
      const target = source.moveTo(host, options)
      const report = target.kernel.resume(target.xen.platform(target.domain))
      expect(report.levels).toBe(levels)
      expect(inside(target.domain).levels).toBe(levels)
      expect(report.attempts.map((each) => `${each.levels}/${each.nrPages} ${each.answer}`)).toEqual(attempts)
      expect(report.channels).toBe(inside(target.domain).maxEvtchns)
      expect(report).toMatchObject({ rebound: [{ name: 'ipi', oldPort: 1, port: 1 }], lost: [] })
      target.kernel.send(1)
      expect(handled).toBe(1)
    },
  )

  it('NL-mig-1: the registration is issued again after pending frames and selectors are zeroed and all masks set', () => {
    const source = Machine.boot({ vcpus: 2 }, 3, 2)
    const ports = Array.from({ length: 100 }, (_, i) => source.kernel.bindIpi({ vcpu: i % 2, handler: () => {} }))
    // Masked and pending when it is saved: an event of the old channel, which the new one must not be born with.
    for (const port of ports) {
      source.kernel.mask(port)
      source.kernel.send(port)
    }
    let handled = 0
    const target = source.moveTo({})
    for (const port of ports) expect(source.kernel.isPending(port)).toBe(true)
    target.kernel.resume(target.xen.platform(target.domain))
    for (const port of ports)
      expect([target.kernel.isPending(port), target.kernel.isMasked(port)]).toEqual([false, false])
    // And a channel that does not exist is masked.
    expect([500, 40_000].map((port) => target.kernel.isMasked(port))).toEqual([true, true])
    const port = target.kernel.bindIpi({ vcpu: 1, handler: () => void handled++ })
    target.kernel.send(port)
    expect(handled).toBe(1)
  })

  /** Channels of a guest and what each was told. */
  function withChannels(source: Machine, count: number): { told: string[]; heard: number[] } {
    const told: string[] = []
    const heard: number[] = []
    for (let i = 1; i <= count; i++) {
      const options: BindOptions = {
        name: `channel ${i}`,
        handler: (port) => heard.push(port),
        onRebound: (port, oldPort) => told.push(`${i}: ${oldPort} is ${port}`),
        onLost: (reason, oldPort) => told.push(`${i}: ${oldPort} lost, ${code(reason)}`),
      }
      expect(source.kernel.bindIpi(options)).toBe(i)
    }
    return { told, heard }
  }

  it('NL-mig-2: fewer ports: the channels that fit come again in the order of their old numbers, each other one is reported by name', () => {
    const source = Machine.boot({}, 3)
    const { told, heard } = withChannels(source, 30)
    // Holes: numbers change.
    for (const port of [2, 3, 7, 20]) source.kernel.close(port)
    const target = source.moveTo({}, { maxEvtchnPort: 20 })
    const report = target.kernel.resume(target.xen.platform(target.domain))
    const old = Array.from({ length: 30 }, (_, i) => i + 1).filter((port) => ![2, 3, 7, 20].includes(port))
    expect(report.rebound).toEqual(
      old.slice(0, 20).map((oldPort, i) => ({ name: `channel ${oldPort}`, oldPort, port: i + 1 })),
    )
    expect(report.lost).toEqual(old.slice(20).map((oldPort) => lostFor('ENOSPC', `channel ${oldPort}`, oldPort)))
    expect(told).toEqual(
      old.map((oldPort, i) => (i < 20 ? `${oldPort}: ${oldPort} is ${i + 1}` : `${oldPort}: ${oldPort} lost, ENOSPC`)),
    )
    expect([report.levels, report.channels, target.kernel.channels]).toEqual([3, 21, 21])
    for (let port = 1; port <= 20; port++) {
      target.kernel.send(port)
      expect(target.kernel.nameOf(port)).toBe(`channel ${old[port - 1]}`)
    }
    expect(heard).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
    expect(target.kernel.nameOf(21)).toBeUndefined()
  })

  it('NL-mig-2: down to two levels: of 5,000 channels 4,095 fit, and 905 handlers are told so', () => {
    const source = Machine.boot({}, 3)
    const { told, heard } = withChannels(source, 5000)
    const target = source.moveTo({ nlevel: false, fifo: false })
    const report = target.kernel.resume(target.xen.platform(target.domain))
    expect([report.levels, report.channels]).toEqual([2, 4096])
    expect([report.rebound.length, report.lost.length, told.length]).toEqual([4095, 905, 5000])
    expect(report.lost[0]).toEqual(lostFor('ENOSPC', 'channel 4096', 4096))
    expect(told.at(-1)).toBe('5000: 5000 lost, ENOSPC')
    target.kernel.send(4095)
    expect(heard).toEqual([4095])
  })

  it('NL-mig-2: fewer pages: the channels of the first pages stay, the others are reported', () => {
    const source = Machine.boot({}, 3, 2)
    const { told } = withChannels(source, 33_000)
    const target = source.moveTo({ maxLeafPages: 1 })
    const report = target.kernel.resume(target.xen.platform(target.domain))
    expect([report.levels, report.channels]).toEqual([3, 32768])
    expect([report.rebound.length, report.lost.length]).toEqual([32767, 233])
    expect(told.filter((line) => line.endsWith('ENOSPC')).length).toBe(233)
  })

  it('NL-mig-2: each kind of channel is made again as it was made, on the vCPU that it had', () => {
    const source = Machine.boot({ domid: 1, vcpus: 3 }, 3, 1)
    source.xen.createDomain({ domid: 2 })
    const heard: string[] = []
    const options = (name: string, vcpu: number): BindOptions => ({ name, vcpu, handler: () => heard.push(name) })
    const { kernel } = source
    const remote = source.xen.domain(2)!.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 1 }).port
    kernel.allocUnbound(2, options('offer', 1))
    kernel.bindInterdomain(2, remote, options('connection', 2))
    kernel.bindVirq(VIRQ.TIMER, options('timer', 2))
    kernel.bindIpi(options('ipi', 1))
    source.xen.setGlobalVirqHandler(source.xen.domain(1)!, VIRQ.CONSOLE)
    const consolePort = kernel.bindVirq(VIRQ.CONSOLE, options('console', 0))
    kernel.moveToVcpu(consolePort, 2)
    heard.length = 0

    const target = source.moveTo({}, {}, (xen) => {
      xen.createDomain({ domid: 2 }).eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 1 })
    })
    target.xen.setGlobalVirqHandler(target.xen.domain(1)!, VIRQ.CONSOLE)
    const report = kernel.resume(target.xen.platform(target.domain))
    expect(report.lost).toEqual([])
    expect(report.rebound.map(({ name, port }) => [name, port])).toEqual([
      ['offer', 1],
      ['connection', 2],
      ['timer', 3],
      ['ipi', 4],
      ['console', 5],
    ])
    const vcpu = (port: number) => target.domain.eventChannelOp('status', { dom: DOMID_SELF, port }).vcpu
    expect([1, 2, 3, 4, 5].map(vcpu)).toEqual([1, 2, 2, 1, 2])
    heard.length = 0
    target.xen.sendVirq(target.xen.domain(1)!.vcpu(2), VIRQ.TIMER)
    target.xen.sendGlobalVirq(VIRQ.CONSOLE)
    target.xen.domain(2)!.eventChannelOp('send', { port: 1 })
    kernel.send(4)
    const peer = target.xen.domain(2)!.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: 1 }).local_port
    target.xen.domain(2)!.eventChannelOp('send', { port: peer })
    expect(heard).toEqual(['timer', 'console', 'connection', 'ipi', 'offer'])
  })

  it('NL-mig-2: what cannot be made again is reported with the reason, and the rest goes on', () => {
    const source = Machine.boot({}, 3, 1)
    const heard: string[] = []
    const lost: string[] = []
    const options = (name: string): BindOptions => ({
      name,
      handler: () => heard.push(name),
      onLost: (reason, oldPort) => lost.push(`${name} ${oldPort} ${code(reason)}`),
    })
    const { kernel } = source
    const peer = source.xen.createDomain({ domid: 2 })
    const remote = peer.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 1 }).port
    kernel.bindInterdomain(2, remote, options('gone peer'))
    const given = source.domain.eventChannelOp('bind_ipi', { vcpu: 0 }).port
    kernel.bindHandler(given, options('given'))
    kernel.bindIpi(options('ipi'))
    heard.length = 0
    const target = source.moveTo({})
    const report = kernel.resume(target.xen.platform(target.domain))
    expect(report.lost.map(({ name, oldPort }) => [name, oldPort])).toEqual([
      ['gone peer', 1],
      ['given', 2],
    ])
    expect(report.lost.map(({ errno }) => errno)).toEqual([Errno.ESRCH, Errno.ENOENT])
    expect(report.lost[1]!.reason).toMatch(/^GuestKernel.resume: .*did not make this port.* \(ENOENT\)$/)
    expect(lost).toEqual(['gone peer 1 ESRCH', 'given 2 ENOENT'])
    expect(report.rebound).toEqual([{ name: 'ipi', oldPort: 3, port: 1 }])
    kernel.send(1)
    expect(heard).toEqual(['ipi'])
  })

  it.each([2, 3, 4] as const)(
    'NL-mig-1, EC-vi-2: %i levels: vCPUs beyond the 32 legacy ones register their vcpu_info again',
    (levels) => {
      const source = Machine.boot({ vcpus: 40 }, levels, levels > 2 ? 1 : undefined)
      const heard: number[] = []
      const vcpus = [0, 31, 32, 39]
      for (const vcpu of vcpus) source.kernel.bindIpi({ vcpu, handler: () => heard.push(vcpu) })
      const target = source.moveTo({})
      expect(target.domain.vcpus.map((vcpu) => inside(vcpu).onDummy)).toEqual(
        target.domain.vcpus.map((_, v) => v >= 32),
      )
      expect(target.kernel.resume(target.xen.platform(target.domain)).levels).toBe(levels)
      for (const port of [1, 2, 3, 4]) target.kernel.send(port)
      expect(heard).toEqual(vcpus)
    },
  )

  it('NL-mig-2: a guest can go down, up and down again, and loses no frame by it', () => {
    let machine = Machine.boot({ vcpus: 2 }, 4, 20)
    let handled = 0
    machine.kernel.bindIpi({ vcpu: 1, handler: () => void handled++ })
    const free = [machine.kernel.frames.available]
    for (const host of [{ nlevel: false }, {}, { maxLevels: 3 }, {}, { maxLeafPages: 1 }, {}]) {
      machine = machine.moveTo(host)
      machine.kernel.resume(machine.xen.platform(machine.domain))
      machine.kernel.send(1)
      if (Object.keys(host).length === 0) {
        expect(machine.kernel.levels).toBe(4)
        free.push(machine.kernel.frames.available)
      }
    }
    expect(handled).toBe(6)
    expect(free).toEqual(free.map(() => free[0]))
  })
})

describe('booting', () => {
  it.each([
    [32, 4, 1],
    [32, 5, 1],
    [32, 5, 70],
    [32, 5, 100],
    [64, 4, 1],
  ] as const)(
    'NL-sel-2: %i bits, %i levels, %i pages: several vCPUs get the tree that is asked for',
    (bits, levels, nrPages) => {
      const { kernel } = Machine.boot({ bits, vcpus: 5 }, levels, nrPages)
      expect(kernel.attempts).toEqual([{ levels, nrPages, answer: 'ok' }])
      let handled = 0
      const ports = [0, 1, 2, 3, 4].map((vcpu) => kernel.bindIpi({ vcpu, handler: () => void handled++ }))
      for (const port of ports) kernel.send(port)
      expect(handled).toBe(5)
    },
  )
})
