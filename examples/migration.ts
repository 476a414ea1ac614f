/** A guest with three levels moves to a host that refuses it, continues at home, then moves to one that takes it. */
import { GuestKernel, Hypervisor, type HypervisorOptions, RestoreError } from 'evtchn'

function makeHost(options: HypervisorOptions = {}) {
  const kernels: GuestKernel[] = []
  const xen = Hypervisor.create({ onUpcall: (vcpu) => kernels[vcpu.domid]?.upcall(vcpu.vcpuId), ...options })
  const dom0 = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 0 })))
  kernels[0] = dom0
  return { xen, dom0, kernels }
}

const home = makeHost()
const guest = GuestKernel.boot(home.xen.platform(home.xen.createDomain({ domid: 1 })), { levels: 3 })
home.kernels[1] = guest
const port = guest.allocUnbound(0, (p) => console.log(`moved: ${guest.levels} levels, event on port ${p}`))
const back = home.dom0.bindInterdomain(1, port)

for (const host of [makeHost({ maxLevels: 2 }), makeHost()]) {
  const source = home.xen.domain(1)
  if (!source) break
  const move = home.xen.beginMigration(source, { mode: 'transparent' })
  try {
    const domain = host.xen.restoreDomain(structuredClone(move.state))
    home.dom0.send(back) // while the guest stands still
    guest.moveTo(host.xen.platform(domain))
    host.kernels[1] = guest
    host.xen.startDomain(domain, move.commit())
  } catch (error) {
    if (move.status === 'frozen') move.abort()
    if (!(error instanceof RestoreError)) throw error
    console.log(`refused: ${error.found.split(': ').at(-1)}`)
  }
}
