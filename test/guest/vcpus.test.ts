/** vCPUs that come up after the guest has booted, and go down again: nothing that was raised for them is lost. */

import { describe, expect, it } from 'vitest'
import { VIRQ } from '../../src/abi/index.js'
import { type BootOptions, GuestKernel, Hypervisor, ParameterError } from '../../src/index.js'
import { random as numbers } from '../random.js'

const FORMS = [2, 3, 4, 'fifo'] as const
type Form = (typeof FORMS)[number]

function boot(levels: Form, options: BootOptions = {}, vcpus = 3, bits: 32 | 64 = 64) {
  let kernel: GuestKernel | undefined
  const xen = Hypervisor.create({ onUpcall: ({ domid, vcpuId }) => void (domid === 1 && kernel?.upcall(vcpuId)) })
  xen.createDomain({ domid: 0 })
  const domain = xen.createDomain({ domid: 1, vcpus, bits, frames: 2048, maxEvtchnPort: Infinity })
  kernel = GuestKernel.boot(xen.platform(domain), { levels, nrPages: 1, ...options })
  return { xen, domain, kernel }
}

const ROWS = FORMS.flatMap((form) => ([32, 64] as const).map((bits) => [form, bits] as const))

describe('a vCPU that is down at boot', () => {
  it.each(ROWS)(
    'NL-vcpu-2, NL-sel-3, NL-sel-4: handles what was raised before it came up, once: %s, %i bits',
    (form, bits) => {
      const { kernel } = boot(form, { upVcpus: [1] }, 3, bits)
      const handled: number[] = []
      const ports = [0, 1, 2].map((vcpu) => kernel.bindIpi({ vcpu, handler: (port) => void handled.push(port) }))
      expect(kernel.upVcpus).toEqual([0, 1])
      for (const port of ports) kernel.send(port)
      expect(handled).toEqual(ports.slice(0, 2))
      kernel.bringUp(2)
      expect(kernel.upVcpus).toEqual([0, 1, 2])
      expect(handled).toEqual(ports)
      kernel.send(ports[2]!)
      expect(handled).toEqual([...ports, ports[2]])
    },
  )

  it.each(FORMS)(
    'NL-vcpu-2, EC-vi-2, NL-vi-1: is one beyond the legacy 32, without a vcpu_info until then: %s',
    (form) => {
      const { kernel } = boot(form, { upVcpus: [] }, 40)
      let handled = 0
      const port = kernel.bindIpi({ vcpu: 39, handler: () => void handled++ })
      kernel.send(port)
      expect(handled).toBe(0)
      kernel.bringUp(39)
      expect(handled).toBe(1)
      kernel.send(port)
      expect(handled).toBe(2)
    },
  )

  it('is brought up again without harm', () => {
    const { kernel } = boot(3, { upVcpus: [] })
    kernel.bringUp(1)
    kernel.bringUp(1)
    expect(kernel.upVcpus).toEqual([0, 1])
  })

  it('takes part after a resume if it was up before, and not otherwise', () => {
    const { xen, domain, kernel } = boot(3, { upVcpus: [] })
    kernel.bringUp(2)
    let handled = 0
    for (const vcpu of [1, 2]) kernel.bindIpi({ vcpu, name: `ipi ${vcpu}`, handler: () => void handled++ })
    kernel.suspend()
    const other = Hypervisor.create()
    const restored = other.restoreDomain(xen.saveDomain(domain), { maxEvtchnPort: 0x7fffffff })
    kernel.resume(other.platform(restored))
    expect(kernel.upVcpus).toEqual([0, 2])
    kernel.send(1)
    kernel.send(2)
    kernel.upcall(2)
    expect(handled).toBe(1)
    kernel.bringUp(1)
    expect(handled).toBe(2)
  })
})

describe('a vCPU that goes down', () => {
  it.each(ROWS)('NL-vcpu-2, NL-vcpu-1: hands its channels on, with what is pending: %s, %i bits', (form, bits) => {
    const { xen, kernel } = boot(form, {}, 3, bits)
    const dom0 = GuestKernel.boot(xen.platform(xen.domain(0)!))
    const handled: number[] = []
    const ports = [1, 2].map((vcpu) => kernel.allocUnbound(0, { vcpu, handler: (port) => void handled.push(port) }))
    const ends = ports.map((port) => dom0.bindInterdomain(1, port))
    handled.length = 0
    kernel.mask(ports[1]!)
    dom0.send(ends[1]!)
    expect(kernel.takeDown(2, 1)).toEqual({ moved: [ports[1]], closed: [] })
    kernel.unmask(ports[1]!)
    for (const end of ends) dom0.send(end)
    expect(handled).toEqual([ports[1], ...ports])
    expect(xen.domain(1)!.vcpus[2]!.down).toBe(true)
    kernel.bringUp(2)
    kernel.moveToVcpu(ports[1]!, 2)
    dom0.send(ends[1]!)
    expect(handled).toEqual([ports[1], ...ports, ports[1]])
  })

  it('NL-vcpu-2: closes what is its own, its IPIs and timers, and tells the owners', () => {
    const { kernel } = boot(3)
    const lost: string[] = []
    const onLost = (reason: string, port: number) => void lost.push(`${port}: ${reason}`)
    const ipi = kernel.bindIpi({ vcpu: 1, onLost, handler() {} })
    const timer = kernel.bindVirq(VIRQ.TIMER, { vcpu: 1, onLost, handler() {} })
    const plain = kernel.allocUnbound(0, { vcpu: 1, onLost, handler() {} })
    expect(kernel.takeDown(1)).toEqual({ moved: [plain], closed: [ipi, timer] })
    expect(lost).toEqual([`${ipi}: vCPU 1 is offline`, `${timer}: vCPU 1 is offline`])
    kernel.bringUp(1)
    expect(kernel.bindVirq(VIRQ.TIMER, { vcpu: 1, handler() {} })).toBe(ipi)
  })

  it.each([
    [0, 1, /vcpu is 0; allowed: an integer from 1 to 2/],
    [3, 1, /vcpu is 3/],
    [1, 1, /to is 1; allowed: another vCPU that is up/],
    [1, 2, /to is 2; allowed: another vCPU that is up/],
  ])('is not vCPU %i with vCPU %i for its channels', (vcpu, to, message) => {
    const { kernel } = boot(3, { upVcpus: [1] })
    expect(() => kernel.takeDown(vcpu, to)).toThrow(ParameterError)
    expect(() => kernel.takeDown(vcpu, to)).toThrow(message)
  })

  it('is not one that is in its upcall', () => {
    const { kernel } = boot(3)
    let said = ''
    const handler = () => {
      try {
        kernel.takeDown(1)
      } catch (error) {
        said = (error as Error).message
      }
    }
    kernel.send(kernel.bindIpi({ vcpu: 1, handler }))
    expect(said).toContain('vCPU 1 is in its upcall')
    expect(kernel.takeDown(1).closed).toEqual([1])
  })
})

describe('upVcpus', () => {
  it.each([[[3]], [[-1]], [['1']], [1]])('refuses %j', (upVcpus) => {
    expect(() => boot(2, { upVcpus: upVcpus as never })).toThrow(ParameterError)
  })
})

describe('random bring-up and down', () => {
  it.each(FORMS)('NL-sel-3, NL-vcpu-1: loses no event, wherever its channel is: %s', (form) => {
    const below = numbers(20)
    for (let round = 0; round < 12; round++) {
      const { xen, kernel } = boot(form, { upVcpus: [] }, 4)
      const dom0 = GuestKernel.boot(xen.platform(xen.domain(0)!))
      const counts = new Map<number, number>()
      const ports = Array.from({ length: 6 }, () =>
        kernel.allocUnbound(0, {
          vcpu: below(4),
          handler: (port) => void counts.set(port, 1 + (counts.get(port) ?? 0)),
        }),
      )
      const ends = ports.map((port) => dom0.bindInterdomain(1, port))
      const up = new Set([0])
      for (let vcpu = 1; vcpu < 4; vcpu++) kernel.bringUp(vcpu)
      for (let step = 0; step < 40; step++) {
        const vcpu = 1 + below(3)
        if (below(3) === 0) {
          if (xen.domain(1)!.vcpus[vcpu]!.down) kernel.bringUp(vcpu)
          else kernel.takeDown(vcpu, 0)
        } else if (below(2) === 0) kernel.moveToVcpu(ports[below(6)]!, vcpu)
        up.add(vcpu)
        const which = below(6)
        const before = counts.get(ports[which]!) ?? 0
        dom0.send(ends[which]!)
        for (let each = 1; each < 4; each++) if (xen.domain(1)!.vcpus[each]!.down) kernel.bringUp(each)
        expect((counts.get(ports[which]!) ?? 0) > before, `round ${round}, step ${step}, seed 20`).toBe(true)
      }
    }
  })
})
