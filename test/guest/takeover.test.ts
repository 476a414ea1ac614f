/** A second kernel on a domain: refused by name, or after a reset. */

import { describe, expect, it } from 'vitest'
import { EVTCHNSTAT } from '../../src/abi/index.js'
import { type BootOptions, GuestKernel, Hypervisor, type HypervisorOptions } from '../../src/index.js'

/** A host whose domain 1 has booted once, with a channel to domain 0. */
function world(levels: NonNullable<BootOptions['levels']>, options: HypervisorOptions = {}) {
  const kernels: GuestKernel[] = []
  const xen = Hypervisor.create({ ...options, onUpcall: (vcpu) => void kernels[vcpu.domid]?.upcall(vcpu.vcpuId) })
  const platforms = [0, 1].map((domid) => xen.platform(xen.createDomain({ domid, frames: 128 })))
  kernels[0] = GuestKernel.boot(platforms[0]!)
  kernels[1] = GuestKernel.boot(platforms[1]!, { levels })
  const port = kernels[1].allocUnbound(0, () => {})
  const far = kernels[0].bindInterdomain(1, port)
  kernels[0].send(far)
  return { kernels, xen, port, far, boot: (again: BootOptions) => GuestKernel.boot(platforms[1]!, again) }
}

describe('a second kernel on a domain', () => {
  for (const [levels, name] of [
    [3, '3 levels'],
    ['fifo', 'FIFO'],
  ] as const)
    for (const again of [2, 3, 'fifo', 'best'] as const)
      it(`NL-boot-1: one that wants ${again} is refused while the channels are registered as ${name}`, () => {
        const { boot, kernels, far } = world(levels)
        expect(() => boot({ levels: again })).toThrow(`(${name}); boot with reset: true closes them all`)
        expect(() => kernels[0]!.send(far)).not.toThrow()
      })

  it('NL-boot-1: FIFO is found on a host that knows no N levels', () => {
    const { boot } = world('fifo', { nlevel: false })
    expect(() => boot({})).toThrow('(FIFO)')
  })

  for (const levels of [2, 3, 'fifo'] as const)
    it(`NL-boot-1: after a reset it has ${levels} for itself, and events arrive`, () => {
      const { boot, kernels, xen } = world(levels)
      // The earlier kernel is gone: nobody takes upcalls until the new one has booted.
      delete kernels[1]
      kernels[1] = boot({ levels, reset: true, firstFreeGfn: 64 })
      expect(kernels[1].levels).toBe(levels)
      expect(xen.domain(1)!.openPorts).toBe(0)
      let events = 0
      const port = kernels[1].allocUnbound(0, () => events++)
      const far = kernels[0]!.bindInterdomain(1, port)
      events = 0
      kernels[0]!.send(far)
      kernels[0]!.send(far)
      expect(events).toBe(2)
    })

  it('NL-boot-1: on two levels the toolstack’s ports stay', () => {
    const { boot, port } = world(2)
    const second = boot({})
    expect(second.op('status', { dom: 0x7ff0, port }).status).toBe(EVTCHNSTAT.interdomain)
  })
})
