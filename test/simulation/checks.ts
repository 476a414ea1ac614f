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

/** One form at a time, and every frame that is held is held for a reason: no more, no fewer. */
function checkForm(domain: Domain, where: string): void {
  const { nlevel, fifo, memory, vcpus, pirqs, grants } = domain
  must(!(nlevel && fifo), `${where}: two forms at once`)
  const gfns = new Set([
    ...vcpus.map(({ infoGfn }) => infoGfn),
    ...vcpus.flatMap(({ recorded }) => recorded?.areas.flatMap((area) => area.gfns) ?? []),
    ...(nlevel ? [...nlevel.pendingGfns, ...nlevel.maskGfns] : []),
    ...(fifo ? [...fifo.pageGfns, ...vcpus.map(({ vcpuId }) => fifo.controlBlock(vcpuId)?.gfn ?? -1)] : []),
    pirqs.eoiMapGfn,
    ...Array.from({ length: grants.frames }, (_, index) => grants.gfn(index)),
  ])
  gfns.delete(-1)
  // Pages that others use may lie in a frame that is held already.
  const most = gfns.size + grants.inUse
  must(
    memory.heldFrames >= gfns.size && memory.heldFrames <= most,
    () => `${where}: holds ${memory.heldFrames} frames; ${gfns.size} to ${most} have a reason`,
  )
}
