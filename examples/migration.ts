/** A guest with three levels moves to a host that refuses it, continues at home, then moves to one that takes it. */
import { Hypervisor, type HypervisorOptions, RestoreError } from 'evtchn'

function makeHost(options: HypervisorOptions = {}) {
  const xen = Hypervisor.create(options)
  return { xen, dom0: xen.boot({ domid: 0 }) }
}

const home = makeHost()
const guest = home.xen.boot({ domid: 1, levels: 3 })
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
    host.xen.adopt(domain, guest)
    host.xen.startDomain(domain, move.commit())
  } catch (error) {
    if (move.status === 'frozen') move.abort()
    if (!(error instanceof RestoreError)) throw error
    console.log(`refused: ${error.found.split(': ').at(-1)}`)
  }
}
