/**
 * The operations that open a channel (spec 2.5 to 2.9): alloc_unbound and the four binds. Checks in Xen's order, then
 * effects; a failure after the port was taken gives it back (EC-port-18). OUT members are stored in `args`.
 */

import { BIND_PIRQ__WILL_SHARE } from '../../abi/event_channel.js'
import { DOMID_SELF, ECS, NR_VIRQS, type OpArgs, VIRQ } from '../../abi/index.js'
import type { Caller } from '../../domain/domain.js'
import { linkPirqPort } from '../../domain/pirq_list.js'
import { Errno, type Outcome, refuse } from '../../errno.js'
import { virqClass, virqName } from '../../host/virq.js'
import type { World } from '../../host/world.js'
import { domainByAnyId, excludeFor, getFreePort, lockBoth, noDomain, noVcpu, unlockBoth } from '../parts.js'
import { awaits, mayAllocUnbound, mayBindInterdomain, mayBindVirq, mayUsePirq } from './may.js'

const { EEXIST, EINVAL } = Errno

/** EVTCHNOP_alloc_unbound (6). */
export function allocUnbound(world: World, { domain: caller }: Caller, args: OpArgs<'alloc_unbound'>): Outcome {
  const domain = domainByAnyId(world, caller, args.dom)
  if (!domain) return noDomain(args.dom)
  const remoteDomid = args.remote_dom === DOMID_SELF ? caller.domid : args.remote_dom
  domain.eventLock.acquireWrite()
  try {
    const port = getFreePort(domain)
    if (typeof port !== 'number') return port
    const remote = world.domainById(remoteDomid)
    const refused = mayAllocUnbound(world, caller, domain, remoteDomid, remote)
    if (refused) {
      domain.ports.giveBack(port)
      return refused
    }
    excludeFor(domain, port)
    domain.ports.setUnbound(port, remoteDomid)
    domain.portOps.init?.(port)
    domain.hostCore.lock.admit()
    args.port = port
    return 0
  } finally {
    domain.eventLock.releaseWrite()
  }
}

/** EVTCHNOP_bind_interdomain (0). */
export function bindInterdomain(world: World, { domain: local }: Caller, args: OpArgs<'bind_interdomain'>): Outcome {
  const remote = domainByAnyId(world, local, args.remote_dom)
  const remotePort = args.remote_port
  if (!remote) return noDomain(args.remote_dom)
  lockBoth(local, remote)
  try {
    const port = getFreePort(local)
    if (typeof port !== 'number') return port
    const refused = awaits(remote, remotePort, local.domid) || mayBindInterdomain(world, local, remote)
    if (refused) {
      local.ports.giveBack(port)
      return refused
    }
    // Both channel locks, for writing. The remote end keeps its notify vCPU, pending and mask (EC-inter-7).
    excludeFor(local, port)
    local.ports.setInterdomain(port, remote.domid, remotePort)
    remote.ports.setInterdomain(remotePort, local.domid, port)
    local.portOps.init?.(port)
    local.hostCore.lock.admit()
    // The peer's signals were dropped while its port was unbound, so one event is raised to be safe (EC-inter-8).
    local.setPending(port)
    args.local_port = port
    return 0
  } finally {
    unlockBoth(local, remote)
  }
}

/** EVTCHNOP_bind_virq (1). */
export function bindVirq(world: World, { domain }: Caller, args: OpArgs<'bind_virq'>): Outcome {
  const { virq, vcpu: vcpuId } = args
  if (virq >= NR_VIRQS) return refuse(EINVAL, () => `VIRQs are 0 to ${NR_VIRQS - 1}, not ${virq}`)
  const kind = virqClass(virq)
  if (kind !== 'vcpu' && vcpuId !== 0)
    return refuse(EINVAL, () => `${virqName(virq)} is not per vCPU and binds on vCPU 0 only, not ${vcpuId}`)
  const vcpu = domain.vcpus[vcpuId]
  if (!vcpu) return noVcpu(domain, vcpuId)
  domain.eventLock.acquireWrite()
  try {
    const refused = mayBindVirq({ domain, vcpu, virq, handles: world.virqs.handler(virq) === domain })
    if (refused) return refused
    const port = getFreePort(domain)
    if (typeof port !== 'number') return port
    excludeFor(domain, port)
    // The record of changed domains begins with a bind that succeeds. One that fails leaves another owner's record alone
    // (EC-XSA-496).
    if (virq === VIRQ.DOM_EXC) world.virqs.openDomExc(domain, world.domids())
    domain.ports.setIrq(port, ECS.VIRQ, virq)
    domain.ports.setNotifyVcpu(port, vcpu.vcpuId)
    domain.portOps.init?.(port)
    // Last, for delivery goes through this table (EC-virq-8).
    vcpu.setVirqPort(virq, port)
    domain.hostCore.lock.admit()
    args.port = port
    return 0
  } finally {
    domain.eventLock.releaseWrite()
  }
}

/** EVTCHNOP_bind_ipi (7). */
export function bindIpi(_world: World, { domain }: Caller, args: OpArgs<'bind_ipi'>): Outcome {
  const vcpu = domain.vcpus[args.vcpu]
  if (!vcpu) return noVcpu(domain, args.vcpu)
  domain.eventLock.acquireWrite()
  try {
    const port = getFreePort(domain)
    if (typeof port !== 'number') return port
    excludeFor(domain, port)
    domain.ports.setNotifyVcpu(port, vcpu.vcpuId)
    domain.ports.setState(port, ECS.IPI)
    domain.portOps.init?.(port)
    domain.hostCore.lock.admit()
    args.port = port
    return 0
  } finally {
    domain.eventLock.releaseWrite()
  }
}

/** EVTCHNOP_bind_pirq (2). */
export function bindPirq(world: World, { domain }: Caller, args: OpArgs<'bind_pirq'>): Outcome {
  const irq = args.pirq
  const denied = mayUsePirq(domain, irq)
  if (denied) return denied
  domain.eventLock.acquireWrite()
  try {
    const bound = domain.pirqs.find(irq)?.port
    if (bound) return refuse(EEXIST, () => `PIRQ ${irq} is bound to port ${bound} of d${domain.domid}`)
    const port = getFreePort(domain)
    if (typeof port !== 'number') return port
    excludeFor(domain, port)
    const pirq = domain.pirqs.get(irq)
    const willShare = (args.flags & BIND_PIRQ__WILL_SHARE) !== 0
    if (domain.type === 'pv') {
      const busy = world.irqs.bind(irq, domain.domid, willShare)
      if (busy) {
        domain.hostCore.lock.admit()
        domain.ports.giveBack(port)
        return busy
      }
    }
    pirq.port = port
    pirq.willShare = willShare
    domain.ports.setIrq(port, ECS.PIRQ, irq)
    linkPirqPort(domain, port, 0)
    domain.portOps.init?.(port)
    domain.hostCore.lock.admit()
    domain.setPirqNeedsEoi(irq, true)
    args.port = port
    return 0
  } finally {
    domain.eventLock.releaseWrite()
  }
}
