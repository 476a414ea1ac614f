/** The variants of the argument: each registers, delivers, refuses what it must, and shows what hindsight changed. */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type BootOptions, type DomainOptions, Errno, GuestKernel, Hypervisor } from '../../src/index.js'
import { contiguousLevels, liuLevels, raoLevels, type Variant } from '../../src/variants/index.js'
import { random } from '../random.js'
import { seedOr } from '../settings.js'

function host(variant: Variant, guest: Partial<DomainOptions> = {}) {
  const kernels: GuestKernel[] = []
  const xen = Hypervisor.create({
    abis: [variant.abi],
    onUpcall: ({ domid, vcpuId }) => void kernels[domid]?.upcall(vcpuId),
  })
  const dom0 = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 0 })), { levels: 2 })
  const domain = xen.createDomain({ domid: 1, frames: 128, maxEvtchnPort: Number.POSITIVE_INFINITY, ...guest })
  const boot = (options: BootOptions = {}) => {
    const kernel = GuestKernel.boot(xen.platform(domain), { levels: variant.form, ...options })
    kernels[1] = kernel
    return kernel
  }
  return { xen, dom0, domain, boot }
}

const tried = (kernel: GuestKernel) => kernel.attempts.map(({ levels, answer }) => `${levels}: ${answer}`).join(', ')

/** A variant, its name, and channels with 64-bit and 32-bit words. */
const VARIANTS: [string, () => Variant, channels64: number, channels32: number][] = [
  ['Wei Liu, 3 levels', () => liuLevels(), 262_144, 32_768],
  ['Attilio Rao, 3 levels', () => raoLevels(), 32_768, 32_768],
  ['contiguous, 3 levels', () => contiguousLevels(), 32_768, 32_768],
  ['contiguous, 4 levels', () => contiguousLevels({ levels: 4, nrPages: 2 }), 65_536, 65_536],
]
const ROWS = VARIANTS.flatMap(([name, make, wide, narrow]) => [
  [name, make, 64, wide] as const,
  [name, make, 32, narrow] as const,
])

describe('each variant', () => {
  it.each(ROWS)(
    'NL-reg-4, NL-set-1: %s%.0s, %i bits: registers and delivers every event once',
    (name, make, bits, channels) => {
      const { xen, dom0, domain, boot } = host(make(), { bits })
      const kernel = boot()
      expect(tried(kernel)).toBe(`${name}: ok`)
      expect(kernel.channels).toBe(channels)
      const counts = new Map<number, number>()
      const handler = (port: number) => void counts.set(port, (counts.get(port) ?? 0) + 1)
      const ports = Array.from({ length: 1200 }, () => kernel.allocUnbound(0, { handler }))
      const ends = ports.slice(0, 900).map((port) => dom0.bindInterdomain(1, port))
      const below = random(seedOr(16))
      const sent = new Map<number, number>()
      for (let i = 0; i < 4000; i++) {
        const which = below(ends.length)
        dom0.send(ends[which]!)
        sent.set(ports[which]!, (sent.get(ports[which]!) ?? 0) + 1)
      }
      expect(counts).toEqual(sent)
      expect([...xen.dump({ domid: 1 })]).toHaveLength(4 + 1200)
      expect(inside(domain).levels).toBe(kernel.levels)
    },
  )

  it.each(ROWS)('NL-reset-1: %s%.0s, %i bits: a reset leads back to two levels', (_, make, bits) => {
    const { domain, boot, xen } = host(make(), { bits })
    boot()
    expect(GuestKernel.boot(xen.platform(domain), { levels: 2, reset: true }).levels).toBe(2)
    expect(inside(domain).levels).toBe(2)
  })

  it.each(VARIANTS)('NL-reg-2: %s: random arguments are refused with an errno, and change nothing', (_, make) => {
    const { xen, domain } = host(make())
    const { cmd, struct } = make().abi.operations[0]!
    const below = random(seedOr(7))
    const bytes = domain.memory.view()
    for (let round = 0; round < 400; round++) {
      for (let at = 0; at < struct.size; at += 4)
        bytes.set(
          new Uint8Array(Uint32Array.of(below(3) ? below(12) : below(2 ** 31) * 2 + below(2)).buffer),
          0x5000 + at,
        )
      // A registration that is right by chance would be no fault: the mask's frame is one that cannot be.
      const before = bytes.slice()
      const rc = xen.hypercall(domain.vcpu(0), HYPERVISOR.event_channel_op, [cmd, below(20) ? 0x5000 : below(2 ** 31)])
      if (rc === 0) {
        domain.eventChannelOp('reset', { dom: 0x7ff0 })
        continue
      }
      expect(rc).toBeLessThan(0)
      expect(inside(domain).levels).toBe(2)
      expect(Buffer.compare(before, bytes)).toBe(0)
    }
  })

  it.each(VARIANTS)('NL-mig-3: %s: a transparent move carries it as N levels', (_, make) => {
    const { xen, domain, boot } = host(make())
    const kernel = boot()
    let handled = 0
    const port = kernel.bindIpi({ handler: () => void handled++ })
    const move = xen.beginMigration(domain, { mode: 'transparent' })
    const there = Hypervisor.create({ onUpcall: () => void kernel.upcall() })
    const restored = there.restoreDomain(move.state, { maxEvtchnPort: Number.POSITIVE_INFINITY })
    move.commit()
    kernel.moveTo(there.platform(restored))
    there.startDomain(restored)
    kernel.send(port)
    expect([handled, inside(restored).levels]).toEqual([1, kernel.levels])
  })

  it.each(VARIANTS)('NL-mig-2: %s: where the host does not have it, the guest falls back', (name, make) => {
    const xen = Hypervisor.create()
    const domain = xen.createDomain({ domid: 1, frames: 128, maxEvtchnPort: Number.POSITIVE_INFINITY })
    const free = 128 - 2
    const { form } = make()
    const kernel = GuestKernel.boot(xen.platform(domain), { levels: [form, 3, 2] })
    expect(tried(kernel)).toBe(`${name}: ENOSYS, 3: ok`)
    // Nothing of the attempt is held.
    expect(kernel.frames.available).toBeGreaterThan(free - 24)
    expect(() => GuestKernel.boot(xen.platform(domain), { levels: form, exact: true, reset: true })).toThrow(/ENOSYS/)
  })

  it.each(VARIANTS)('NL-reg-1: %s: a domain that may not have more levels is refused', (name, make) => {
    const { boot } = host(make(), { nlevelAllowed: false })
    const kernel = boot()
    expect(tried(kernel)).toMatch(new RegExp(`^${name}: (EPERM|ENOSPC), 2: ok$`))
  })
})

describe('what hindsight changed', () => {
  it('NL-sel-3: a vCPU that comes up after Wei Liu’s one call is never upcalled: its events stay in the leaf', () => {
    const { xen, domain } = host(liuLevels(), { vcpus: 2 })
    // A guest that knows one vCPU when it registers.
    const late = { ...xen.platform(domain), vcpus: 1 }
    const kernel = GuestKernel.boot(late, { levels: liuLevels().form })
    const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 1 })
    domain.eventChannelOp('unmask', { port })
    kernel.send(port)
    expect(domain.isPending(port)).toBe(true)
    expect(domain.vcpus[1]!.upcallPending).toBe(0)
    // There is no second call: it is registered already.
    expect(() => GuestKernel.boot(late, { levels: liuLevels().form, exact: true })).toThrow(/EBUSY/)
  })

  it('costs the host two pages for each leaf page of Attilio Rao’s proposal, and none of the review’s', () => {
    const variant = raoLevels({ nrPages: 4 })
    const { boot } = host(variant)
    expect(boot().channels).toBe(4 * 32_768)
    expect(variant.hostPages).toBe(8)
  })

  it('is one more way to fail: the hypervisor has no page left, and the guest’s pages are what they were', () => {
    const variant = raoLevels({ nrPages: 4, maxHostPages: 7 })
    const { boot } = host(variant)
    expect(tried(boot())).toBe('Attilio Rao, 3 levels: ENOMEM, 2: ok')
    expect(variant.hostPages).toBe(0)
  })

  it('NL-set-1: loses an event where the level in the middle belongs to all vCPUs', () => {
    const { xen, domain } = host(raoLevels(), { vcpus: 2 })
    // Upcalls are entered by hand: both events are there before anybody looks.
    const kernel = GuestKernel.boot(xen.platform(domain), { levels: raoLevels().form })
    const handled: number[] = []
    const handler = (port: number) => void handled.push(port)
    const [first, second] = [0, 1].map((vcpu) => kernel.bindIpi({ vcpu, handler })) as [number, number]
    kernel.send(first)
    // Its bit in the middle is set already, so the climb stops there: vCPU 1 hears nothing.
    kernel.send(second)
    kernel.upcall(0)
    kernel.upcall(1)
    expect(handled).toEqual([first])
    // It is pending, and so no send raises it again.
    kernel.send(second)
    kernel.upcall(1)
    expect([handled, kernel.isPending(second)]).toEqual([[first], true])
  })

  it('NL-sel-2: asks the guest for a run of frames, which it may not have', () => {
    const { xen, domain } = host(contiguousLevels({ nrPages: 8 }), { frames: 64 })
    const kernel = GuestKernel.boot(xen.platform(domain), { levels: 2 })
    const all = kernel.frames.allocate(kernel.frames.available)!
    // Every second frame is free: enough of them, and no two together.
    kernel.frames.release(all.filter((_, i) => i % 2))
    expect(kernel.frames.available).toBeGreaterThan(17)
    expect(kernel.frames.allocateRun(17)).toBeUndefined()
  })

  it('NL-frame-1: may ask for frames below an address', () => {
    const { boot } = host(contiguousLevels({ nrPages: 2, belowGfn: 6 }))
    expect(tried(boot())).toBe('contiguous, 3 levels: EINVAL, 2: ok')
    expect(tried(host(contiguousLevels({ nrPages: 2, belowGfn: 60 })).boot())).toBe('contiguous, 3 levels: ok')
  })

  it.each([
    ['liuLevels', () => liuLevels({ nrPages: 9 }), 'nrPages is 9; allowed: an integer from 1 to 8'],
    ['raoLevels', () => raoLevels({ nrPage: 9 } as never), 'nrPage (9) is not an option; did you mean nrPages?'],
    ['contiguousLevels', () => contiguousLevels({ levels: 2 as 3 }), 'levels is 2; allowed: 3, 4, 5'],
  ])('%s refuses a wrong option', (name, make, message) => {
    expect(make).toThrow(`${name}: ${message}`)
  })
})

describe('errno', () => {
  it('of an unknown own operation is ENOSYS', () => {
    const { xen, domain } = host(liuLevels())
    expect(xen.hypercall(domain.vcpu(0), HYPERVISOR.event_channel_op, [131, 0x5000])).toBe(-Errno.ENOSYS)
  })
})
