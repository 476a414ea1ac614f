/** What holds of a hypervisor after any call: both ends of every channel agree, and every register fits the ports. */

import { ECS, NR_VIRQS } from '../../src/abi/index.js'
import type { Domain } from '../../src/domain/domain.js'
import { inside } from '../../src/domain/handles.js'
import type { Hypervisor } from '../../src/index.js'
import { must } from './step.js'

/** @throws Violation for what does not fit. */
export function checkHypervisor(xen: Hypervisor, name: string): void {
  for (const domid of xen.domids()) {
    const domain = inside(xen.domain(domid)!)
    checkPorts(xen, domain, `${name} d${domid}`)
    checkVirqs(domain, `${name} d${domid}`)
    checkForm(domain, `${name} d${domid}`)
  }
}

function checkPorts(xen: Hypervisor, domain: Domain, where: string): void {
  const { ports } = domain
  let open = 0
  let attached = 0
  for (let port = 1; port < ports.validEvtchns; port++) {
    const state = ports.state(port)
    if (state === ECS.FREE) continue
    if (state !== ECS.RESERVED) open++
    if (ports.consumer(port)) attached++
    must(
      ports.notifyVcpu(port) < domain.vcpus.length,
      () => `${where}: port ${port} notifies vCPU ${ports.notifyVcpu(port)}`,
    )
    if (state === ECS.INTERDOMAIN) checkEnds(xen, domain, port, where)
  }
  must(ports.activeEvtchns === open, () => `${where}: ${open} ports are open, and ${ports.activeEvtchns} are counted`)
  must(
    ports.xenEvtchns === attached,
    () => `${where}: ${attached} ports are Xen's, and ${ports.xenEvtchns} are counted`,
  )
}

/** The other end is there, and names this one. */
function checkEnds(xen: Hypervisor, domain: Domain, port: number, where: string): void {
  const { ports } = domain
  const [domid, remotePort] = [ports.remoteDomid(port), ports.remotePort(port)]
  const handle = xen.domain(domid)
  must(handle !== undefined, () => `${where}: port ${port} is connected to d${domid}, which does not exist`)
  const other = inside(handle!).ports
  must(
    other.state(remotePort) === ECS.INTERDOMAIN &&
      other.remotePort(remotePort) === port &&
      other.remoteDomid(remotePort) === domain.domid,
    () => `${where}: port ${port} is connected to d${domid}:${remotePort}, which does not name it`,
  )
}

/** Each VIRQ of a vCPU names a port, and that port names it. */
function checkVirqs(domain: Domain, where: string): void {
  const { ports } = domain
  for (const vcpu of domain.vcpus)
    for (let virq = 0; virq < NR_VIRQS; virq++) {
      const port = vcpu.virqPort(virq)
      if (port <= 0) continue
      must(
        ports.state(port) === ECS.VIRQ && ports.irq(port) === virq,
        () => `${where}: VIRQ ${virq} of vCPU ${vcpu.vcpuId} names port ${port}, which is none`,
      )
    }
}

/** The form of the guest's words, and the frames that it holds. */
function checkForm(domain: Domain, where: string): void {
  const { nlevel, fifo, memory, vcpus, grants } = domain
  // The grant table's own frames, and those that are lent.
  const tableFrames = Array.from({ length: grants.frames }, (_, i) => grants.gfn(i)).filter((gfn) => gfn >= 0).length
  must(!(nlevel && fifo), `${where}: two forms at once`)
  const registered = vcpus.filter(({ infoGfn }) => infoGfn >= 0).length
  const leaves = nlevel ? nlevel.pendingGfns.length + nlevel.maskGfns.length : 0
  const pages = fifo ? fifo.pageGfns.length : 0
  must(
    memory.heldFrames >= (leaves + pages > 0 ? 1 : 0) || registered === 0,
    () => `${where}: holds ${memory.heldFrames} frames for ${leaves + pages} pages`,
  )
  if (!nlevel && !fifo && registered === 0 && vcpus.every(({ recorded }) => !recorded))
    must(
      memory.heldFrames <= tableFrames + grants.inUse || domain.pirqs.eoiMapGfn >= 0,
      () => `${where}: holds ${memory.heldFrames} frames for nothing`,
    )
}
