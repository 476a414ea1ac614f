/**
 * The operations that open a channel (spec 2.5 to 2.9): alloc_unbound and the four binds. Checks in Xen's order, then
 * effects; a failure after the port was taken gives it back (EC-port-18). OUT members are stored in `args`.
 */

import { BIND_PIRQ__WILL_SHARE } from '../../abi/event_channel.js'
import { type Args, DOMID_SELF, ECS, NR_VIRQS, VIRQ } from '../../abi/index.js'
import type { Domain } from '../../domain/domain.js'
import { linkPirqPort } from '../../domain/pirq_list.js'
import { Errno, type Outcome, refuse } from '../../errno.js'
import { virqClass, virqName } from '../../host/virq.js'
import type { Caller, World } from '../../host/world.js'
import { refusedByPolicy } from '../../host/xsm.js'
import { domainByAnyId, getFreePort, noDomain, noPort, noVcpu, writeBoth } from '../parts.js'

const { EPERM, EBUSY, EEXIST, EINVAL } = Errno

/** EVTCHNOP_alloc_unbound (6). */
export function allocUnbound(world: World, { domain: caller }: Caller, args: Args): Outcome {
  const domain = domainByAnyId(world, caller, args.dom!)
  if (!domain) return noDomain(args.dom!)
  const remoteDomid = args.remote_dom === DOMID_SELF ? caller.domid : args.remote_dom!
  return domain.eventLock.write(() => {
    const port = getFreePort(domain)
    if (typeof port !== 'number') return port
    const refused = world.xsm.evtchnUnbound(caller, domain, world.domainById(remoteDomid))
    if (refused) {
      domain.ports.giveBack(port)
      return refusedByPolicy(world.xsm, refused, caller, () => `allocate in d${domain.domid} for d${remoteDomid}`)
    }
    domain.ports.setUnbound(port, remoteDomid)
    domain.portOps.init?.(port)
    args.port = port
    return 0
  })
}

/** EVTCHNOP_bind_interdomain (0). */
export function bindInterdomain(world: World, { domain: local }: Caller, args: Args): Outcome {
  const remote = domainByAnyId(world, local, args.remote_dom!)
  const remotePort = args.remote_port!
  if (!remote) return noDomain(args.remote_dom!)
  return writeBoth(local, remote, () => {
    const port = getFreePort(local)
    if (typeof port !== 'number') return port
    const refused = refuseInterdomain(world, local, remote, remotePort)
    if (refused) {
      local.ports.giveBack(port)
      return refused
    }
    // Both channel locks, for writing. The remote end keeps its notify vCPU, pending and mask (EC-inter-7).
    local.ports.setInterdomain(port, remote.domid, remotePort)
    remote.ports.setInterdomain(remotePort, local.domid, port)
    local.portOps.init?.(port)
    // What the peer signalled while unbound was dropped: one event to be safe (EC-inter-8).
    local.setPending(port)
    args.local_port = port
    return 0
  })
}

function refuseInterdomain(world: World, local: Domain, remote: Domain, remotePort: number): Outcome {
  const { ports } = remote
  if (!ports.isValid(remotePort)) return noPort(remote, remotePort)
  if (ports.state(remotePort) !== ECS.UNBOUND) return noPort(remote, remotePort)
  const awaited = ports.remoteDomid(remotePort)
  if (awaited !== local.domid) return refuse(EINVAL, () => `port ${remotePort} of d${remote.domid} awaits d${awaited}`)
  const refused = world.xsm.evtchnInterdomain(local, remote)
  return refused ? refusedByPolicy(world.xsm, refused, local, () => `bind to d${remote.domid}`) : 0
}

/** EVTCHNOP_bind_virq (1). */
export function bindVirq(world: World, { domain }: Caller, args: Args): Outcome {
  const virq = args.virq!
  if (virq >= NR_VIRQS) return refuse(EINVAL, () => `VIRQs are 0 to ${NR_VIRQS - 1}, not ${virq}`)
  const kind = virqClass(virq)
  if (kind !== 'vcpu' && args.vcpu !== 0)
    return refuse(EINVAL, () => `${virqName(virq)} is not per vCPU and binds on vCPU 0 only, not ${args.vcpu}`)
  const vcpu = domain.vcpus[args.vcpu!]
  if (!vcpu) return noVcpu(domain, args.vcpu!)
  return domain.eventLock.write(() => {
    if (kind === 'global' && world.virqs.handler(virq) !== domain)
      return refuse(EBUSY, () => `d${domain.domid} is not the handler domain of ${virqName(virq)}`)
    const bound = vcpu.virqPort(virq)
    if (bound)
      return refuse(EEXIST, () => `${virqName(virq)} is bound to port ${bound} on d${domain.domid}v${vcpu.vcpuId}`)
    const port = getFreePort(domain)
    if (typeof port !== 'number') return port
    // The record of changed domains exists from a successful bind on: a bind that fails touches nobody's (EC-XSA-496).
    if (virq === VIRQ.DOM_EXC) world.virqs.openDomExc(domain, world.domids())
    domain.ports.setIrq(port, ECS.VIRQ, virq)
    domain.ports.setNotifyVcpu(port, vcpu.vcpuId)
    domain.portOps.init?.(port)
    // Last, for delivery goes through this table (EC-virq-8).
    vcpu.setVirqPort(virq, port)
    args.port = port
    return 0
  })
}

/** EVTCHNOP_bind_ipi (7). */
export function bindIpi(_world: World, { domain }: Caller, args: Args): Outcome {
  const vcpu = domain.vcpus[args.vcpu!]
  if (!vcpu) return noVcpu(domain, args.vcpu!)
  return domain.eventLock.write(() => {
    const port = getFreePort(domain)
    if (typeof port !== 'number') return port
    domain.ports.setNotifyVcpu(port, vcpu.vcpuId)
    domain.ports.setState(port, ECS.IPI)
    domain.portOps.init?.(port)
    args.port = port
    return 0
  })
}

/** EVTCHNOP_bind_pirq (2). */
export function bindPirq(world: World, { domain }: Caller, args: Args): Outcome {
  const irq = args.pirq!
  if (irq >= domain.pirqs.nrPirqs)
    return refuse(EINVAL, () => `d${domain.domid} has PIRQs below ${domain.pirqs.nrPirqs}, not ${irq}`)
  if (domain.type === 'pv' && !domain.privileged && !domain.pirqs.permitted.has(irq))
    return refuse(EPERM, () => `d${domain.domid} has no access to PIRQ ${irq}`)
  return domain.eventLock.write(() => {
    const bound = domain.pirqs.find(irq)?.port
    if (bound) return refuse(EEXIST, () => `PIRQ ${irq} is bound to port ${bound} of d${domain.domid}`)
    const port = getFreePort(domain)
    if (typeof port !== 'number') return port
    const pirq = domain.pirqs.get(irq)
    const willShare = (args.flags! & BIND_PIRQ__WILL_SHARE) !== 0
    if (domain.type === 'pv') {
      const busy = world.irqs.bind(irq, domain.domid, willShare)
      if (busy) {
        domain.ports.giveBack(port)
        return busy
      }
    }
    pirq.port = port
    pirq.willShare = willShare
    domain.ports.setIrq(port, ECS.PIRQ, irq)
    linkPirqPort(domain, port, 0)
    domain.portOps.init?.(port)
    domain.setPirqNeedsEoi(irq, true)
    args.port = port
    return 0
  })
}
