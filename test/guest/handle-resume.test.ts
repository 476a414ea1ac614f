/** Handles on channels know of a resume: they continue under the new numbers, or say what became of the old ones. */

import { describe, expect, it } from 'vitest'
import { EvtchnDevice, GuestKernel, Hypervisor, type HypervisorOptions } from '../../src/index.js'

function host(options: HypervisorOptions = {}) {
  const kernels: GuestKernel[] = []
  const xen = Hypervisor.create({ ...options, onUpcall: (vcpu) => void kernels[vcpu.domid]?.upcall(vcpu.vcpuId) })
  kernels[0] = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 0 })))
  return { xen, kernels }
}

/** A guest with a handle of three ports behind a spare one that is closed, so that all numbers change. */
function guestOf({ xen, kernels }: ReturnType<typeof host>) {
  const domain = xen.createDomain({ domid: 1, frames: 512 })
  const guest = GuestKernel.boot(xen.platform(domain), { levels: 3 })
  kernels[1] = guest
  const spare = guest.allocUnbound(0, { name: 'spare' })
  const handle = new EvtchnDevice(guest).open()
  const ports = [1, 2, 3].map(() => handle.bindUnboundPort(0))
  return { domain, guest, spare, handle, ports }
}

describe('a handle across a cooperative resume', () => {
  it('NL-mig-10: goes on under the new numbers, also with what was in its ring', () => {
    const [from, to] = [host(), host()]
    const { domain, guest, spare, handle, ports } = guestOf(from)
    const far = from.kernels[0]!.bindInterdomain(1, ports[1]!)
    from.kernels[0]!.send(far)
    guest.close(spare)
    guest.suspend()
    to.kernels[1] = guest
    const { rebound } = guest.resume(to.xen.platform(to.xen.restoreDomain(from.xen.saveDomain(domain))))
    const now = rebound.map(({ port }) => port)
    expect(now).toEqual([1, 2, 3])
    expect(handle.tryPending(), 'what was in the ring').toBe(now[1])
    handle.unmask(now[1]!)
    const [one, two] = now.slice(0, 2).map((port) => to.kernels[0]!.bindInterdomain(1, port))
    to.kernels[0]!.send(one!)
    to.kernels[0]!.send(two!)
    expect([handle.tryPending(), handle.tryPending()].sort()).toEqual(now.slice(0, 2))
    expect(() => handle.unmask(4)).toThrow('port 4 is port 3 since the resume')
    handle.close()
    expect(now.map((port) => guest.op('status', { dom: 0x7ff0, port }).status)).toEqual([0, 0, 0])
  })

  it('NL-mig-10: says why a channel was lost, and nobody waits for one that is', async () => {
    const [from, to] = [host(), host()]
    const { domain, guest, handle, ports } = guestOf(from)
    const waiting = handle.pending()
    guest.suspend()
    const restored = to.xen.restoreDomain(from.xen.saveDomain(domain), { maxEvtchnPort: 1 })
    to.kernels[1] = guest
    const { lost } = guest.resume(to.xen.platform(restored))
    expect(lost.map(({ oldPort }) => oldPort)).toEqual(ports)
    await expect(waiting).rejects.toThrow(/port 4 was lost in the resume: .*ENOSPC/)
    expect(() => handle.notify(ports[0]!)).toThrow(/ENOTCONN.*|port 2 was lost in the resume/)
    handle.close()
  })
})
