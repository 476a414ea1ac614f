/**
 * The review of September 2012, request by request, on one host: old guests beside new, each moved both ways. The words are
 * ours; docs/requests.md says where each request is.
 */

import { describe, expect, it } from 'vitest'
import { maxEvtchns } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import {
  type BootOptions,
  type Domain,
  Errno,
  GuestKernel,
  Hypervisor,
  type HypervisorOptions,
} from '../../src/index.js'

/** A host with a dom0, whose guests are upcalled. */
class Host {
  readonly kernels = new Map<number, GuestKernel>()
  readonly xen: Hypervisor
  readonly dom0: GuestKernel

  constructor(options: HypervisorOptions = {}) {
    const onUpcall = ({ domid, vcpuId }: { domid: number; vcpuId: number }) =>
      void this.kernels.get(domid)?.upcall(vcpuId)
    this.xen = Hypervisor.create({ ...options, onUpcall })
    this.xen.createDomain({ domid: 0, frames: 256 })
    this.dom0 = GuestKernel.boot(this.xen.platform(this.xen.domain(0)!), { levels: 2 })
  }

  boot(domid: number, levels: BootOptions['levels'], bits: 32 | 64 = 64): GuestKernel {
    const domain = this.xen.createDomain({ domid, bits, frames: 2200, maxEvtchnPort: Number.POSITIVE_INFINITY })
    const kernel = GuestKernel.boot(this.xen.platform(domain), { levels: levels! })
    this.kernels.set(domid, kernel)
    return kernel
  }

  /** A guest from another host, in the given mode. */
  receive(from: Host, domid: number, mode: 'cooperative' | 'transparent'): GuestKernel {
    const kernel = from.kernels.get(domid)!
    // In transparent mode the guest knows of nothing.
    if (mode === 'cooperative') kernel.suspend()
    const move = from.xen.beginMigration(from.xen.domain(domid)!, { mode })
    const terms = { maxEvtchnPort: Number.POSITIVE_INFINITY }
    const domain = this.xen.restoreDomain(move.state, terms)
    move.commit()
    from.kernels.delete(domid)
    this.kernels.set(domid, kernel)
    const platform = this.xen.platform(domain)
    if (mode === 'cooperative') kernel.resume(platform)
    else {
      kernel.moveTo(platform)
      this.xen.startDomain(domain)
    }
    return kernel
  }
}

/** Channels of a guest to dom0, with the events that each end handles. */
function connect(host: Host, domid: number, count: number) {
  const kernel = host.kernels.get(domid)!
  const handled: number[] = []
  const ports = Array.from({ length: count }, (_, i) =>
    kernel.allocUnbound(0, { name: `c${i}`, handler: (port) => void handled.push(port) }),
  )
  return { kernel, handled, ports }
}

const levelsOf = (domain: Domain) => inside(domain).levels

describe('the review of 2012', () => {
  it('NL-tree-4: an old guest beside a new one sees two levels, bit for bit, and both are rung', () => {
    const host = new Host()
    host.boot(1, 2)
    host.boot(2, 3)
    expect([1, 2].map((domid) => levelsOf(host.xen.domain(domid)!))).toEqual([2, 3])
    for (const domid of [1, 2]) {
      const { handled, ports } = connect(host, domid, 300)
      const ends = ports.map((port) => host.dom0.bindInterdomain(domid, port))
      for (const end of ends) host.dom0.send(end)
      expect(handled).toEqual(ports)
    }
    expect([1, 2].map((domid) => inside(host.xen.domain(domid)!).maxEvtchns)).toEqual([4096, 262_144])
  })

  it.each([
    [64, 3, 262_144],
    [64, 4, 16_777_216],
    [32, 3, 32_768],
    [32, 4, 1_048_576],
    [32, 5, 33_554_432],
  ] as const)(
    'NL-tree-1, NL-tree-2: %i bits on %i levels have %i channels: the factor is BITS_PER_LONG everywhere',
    (bits, levels, channels) => {
      expect(maxEvtchns(bits, levels, 1024)).toBe(Math.min(bits ** levels, channels))
      expect(bits ** levels).toBe(channels)
    },
  )

  it('NL-frame-1: the hypervisor allocates no page: every word is in a frame that the guest named', () => {
    const host = new Host()
    const before = host.xen.domain(0)!.memory.bytes
    const kernel = host.boot(1, 4)
    const free = kernel.frames.available
    const kernel2 = host.boot(2, 2)
    // The tree's frames are the guest's own: its free frames are fewer by them, and nobody's memory has grown.
    expect(kernel2.frames.available - free).toBeGreaterThan(2 * 512)
    expect(host.xen.domain(0)!.memory.bytes).toBe(before)
    expect(host.xen.domain(1)!.memory.bytes).toBe(2200 * 4096)
  })

  it('NL-reg-1, NL-query-1: the guest names the pages, an error says that they are too many, and asking says how many are not', () => {
    const host = new Host({ maxLeafPages: 3 })
    const domain = host.xen.createDomain({ domid: 1, frames: 64, maxEvtchnPort: Number.POSITIVE_INFINITY })
    const boot = () => GuestKernel.boot(host.xen.platform(domain), { levels: 3, nrPages: 8, exact: true })
    expect(boot).toThrow(/ENOSPC/)
    const { max_pages } = domain.eventChannelOp('query_nlevel', { dom: 0x7ff0 })
    expect(max_pages).toBe(3)
    const kernel = GuestKernel.boot(host.xen.platform(domain), { levels: 3, nrPages: max_pages, exact: true })
    expect(kernel.channels).toBe(3 * 32_768)
  })

  it.each(['cooperative', 'transparent'] as const)(
    'NL-mig-1, NL-mig-3: old and new guests move to a host that grants as much, and back, %s',
    (mode) => {
      let here = new Host()
      let there = new Host()
      here.boot(1, 2)
      here.boot(2, 3)
      const made = [1, 2].map((domid) => connect(here, domid, 50))
      for (let trip = 0; trip < 2; trip++) {
        for (const domid of [1, 2]) there.receive(here, domid, mode)
        ;[here, there] = [there, here]
        expect([1, 2].map((domid) => levelsOf(here.xen.domain(domid)!))).toEqual([2, 3])
        for (const [i, { handled, ports }] of made.entries()) {
          const ends = ports.map((port) => here.dom0.bindInterdomain(i + 1, port))
          handled.length = 0
          for (const end of ends) here.dom0.send(end)
          expect(handled).toEqual(ports)
          for (const end of ends) here.dom0.close(end)
        }
      }
    },
  )

  it('NL-mig-2, NL-mig-3: an old host: the guest deals with it, or the move is refused and the source runs on', () => {
    const here = new Host()
    here.boot(1, 3)
    const { kernel, handled } = connect(here, 1, 5000)
    const old = new Host({ nlevel: false, fifo: false })
    const move = here.xen.beginMigration(here.xen.domain(1)!, { mode: 'transparent' })
    expect(() => old.xen.restoreDomain(move.state)).toThrow(/ENOSYS/)
    move.abort()
    kernel.send(kernel.bindIpi({ handler: (port) => void handled.push(port) }))
    expect(handled).toEqual([5001])
    // The other way: it goes on with what the old host has, and knows what did not fit.
    kernel.suspend()
    const restored = old.xen.restoreDomain(here.xen.saveDomain(here.xen.domain(1)!), { maxEvtchnPort: 0x7fffffff })
    const report = kernel.resume(old.xen.platform(restored))
    expect(report).toMatchObject({ levels: 2, channels: 4096 })
    expect([report.rebound.length, report.lost.length]).toEqual([4095, 906])
    expect(new Set(report.lost.map(({ errno }) => errno))).toEqual(new Set([Errno.ENOSPC]))
    // And back to the new host: three levels again, with the channels that it has now.
    kernel.suspend()
    const back = here.xen.restoreDomain(old.xen.saveDomain(restored), { domid: 3, maxEvtchnPort: 0x7fffffff })
    expect(kernel.resume(here.xen.platform(back))).toMatchObject({ levels: 3, lost: [] })
  })
})
