/** A guest with three levels is moved to a host that refuses it, goes on, and is moved to one that takes it. */
import { GuestKernel, Hypervisor } from 'evtchn'

function makeHost(options) {
  const kernels = []
  const xen = Hypervisor.create({ onUpcall: (vcpu) => kernels[vcpu.domid]?.upcall(vcpu.vcpuId), ...options })
  kernels[0] = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 0 })))
  return { xen, kernels }
}

const home = makeHost()
const guest = GuestKernel.boot(home.xen.platform(home.xen.createDomain({ domid: 1 })), { levels: 3 })
home.kernels[1] = guest
const port = guest.allocUnbound(0, { handler: (p) => console.log(`moved: ${guest.levels} levels, event on port ${p}`) })
const back = home.kernels[0].bindInterdomain(1, port, { handler: () => {} })

for (const host of [makeHost({ maxLevels: 2 }), makeHost()]) {
  const move = home.xen.beginMigration(home.xen.domain(1), { mode: 'transparent' })
  try {
    const domain = host.xen.restoreDomain(structuredClone(move.state))
    home.kernels[0].send(back) // while the guest stands still
    guest.moveTo(host.xen.platform(domain))
    host.kernels[1] = guest
    host.xen.startDomain(domain, move.commit())
  } catch (error) {
    if (move.status === 'frozen') move.abort()
    console.log(`refused: ${error.found.split(': ').at(-1)}`)
  }
}
