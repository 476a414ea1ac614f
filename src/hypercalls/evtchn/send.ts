/**
 * The operations on an open channel (spec 2.11 to 2.14): send, status, bind_vcpu, unmask. Checks in Xen's order, then
 * effects; each returns 0, or a refusal with nothing changed. Opening is in bind.ts, closing in close.ts.
 *
 * Locks: the event lock as marked. Where Xen takes a channel lock for writing (EC-lock-2), the delivery lock shuts senders
 * on other threads out; notifiers of Xen-attached ports run with no lock held (EC-bug-11).
 */

import { ECS, EVTCHNSTAT, type OpArgs } from '../../abi/index.js'
import type { Caller, Domain } from '../../domain/domain.js'
import { linkPirqPort, unlinkPirqPort } from '../../domain/pirq_list.js'
import { Errno, type Outcome, refuse } from '../../errno.js'
import { virqClass, virqName } from '../../host/virq.js'
import type { World } from '../../host/world.js'
import { refusedByPolicy } from '../../host/xsm.js'
import { KICK_DOMID, POLLED, SLOW } from '../../machine/host_layout.js'
import { domainByAnyId, noDomain, noPort, noVcpu } from '../parts.js'

const { EINVAL } = Errno

/** EVTCHNOP_send (4). Holds only the sender's channel lock, which pins both ends (EC-lock-6). */
export function send(world: World, { domain }: Caller, args: OpArgs<'send'>): Outcome {
  return sendPort(world, domain, args.port)
}

/** The hot path of send, for callers that have the port at hand: the host core does all of it where it can. */
export function sendPort(world: World, domain: Domain, port: number): Outcome {
  const result = domain.hostCore.calls.send(domain.record, port)
  if (!result) return 0
  if (result < 0) return sendSlowly(world, domain, port)
  const peer = world.domainById(result >> KICK_DOMID)!
  peer.finish(
    result,
    result & POLLED && domain.ports.state(port) === ECS.INTERDOMAIN ? domain.ports.remotePort(port) : port,
  )
  return 0
}

/** The same in TypeScript: refusals and their reasons, policies, ports of Xen's own, ABIs that the core does not know. */
function sendSlowly(world: World, domain: Domain, port: number): Outcome {
  const { ports } = domain
  if (!ports.isValid(port)) return noPort(domain, port)
  if (ports.consumer(port)) return noPort(domain, port)
  const state = ports.state(port)
  const remote = state === ECS.INTERDOMAIN ? world.domainById(ports.remoteDomid(port)) : undefined
  const refused = world.xsm.evtchnSend(domain, remote)
  if (refused) return refusedByPolicy(world.xsm, refused, domain, () => `send on port ${port}`)
  switch (state) {
    case ECS.INTERDOMAIN: {
      const remotePort = ports.remotePort(port)
      const slot = remote!.ports.consumer(remotePort)
      if (slot) world.notify(slot, remote!.vcpus[remote!.ports.notifyVcpu(remotePort)]!, remotePort)
      else remote!.setPending(remotePort)
      return 0
    }
    case ECS.IPI:
      domain.setPending(port)
      return 0
    case ECS.UNBOUND:
      return 0 // dropped silently (EC-send-8)
    default:
      return noPort(domain, port)
  }
}

const STATUS: Readonly<Record<number, number>> = {
  [ECS.FREE]: EVTCHNSTAT.closed,
  [ECS.RESERVED]: EVTCHNSTAT.closed,
  [ECS.UNBOUND]: EVTCHNSTAT.unbound,
  [ECS.INTERDOMAIN]: EVTCHNSTAT.interdomain,
  [ECS.PIRQ]: EVTCHNSTAT.pirq,
  [ECS.VIRQ]: EVTCHNSTAT.virq,
  [ECS.IPI]: EVTCHNSTAT.ipi,
}

/** EVTCHNOP_status (5). Xen-attached ports are reported (EC-stat-5). */
export function status(world: World, { domain: caller }: Caller, args: OpArgs<'status'>): Outcome {
  const domain = domainByAnyId(world, caller, args.dom)
  if (!domain) return noDomain(args.dom)
  const port = args.port
  const { ports } = domain
  if (!ports.isValid(port)) return noPort(domain, port)
  domain.eventLock.acquireRead()
  try {
    const refused = world.xsm.evtchnStatus(caller, domain)
    if (refused) return refusedByPolicy(world.xsm, refused, caller, () => `look at d${domain.domid}`)
    const state = ports.state(port)
    args.status = STATUS[state]!
    args.vcpu = ports.notifyVcpu(port)
    if (state === ECS.UNBOUND) args.unbound_dom = ports.remoteDomid(port)
    else if (state === ECS.INTERDOMAIN) {
      args.interdomain_dom = ports.remoteDomid(port)
      args.interdomain_port = ports.remotePort(port)
    } else if (state === ECS.PIRQ) args.pirq = ports.irq(port)
    else if (state === ECS.VIRQ) args.virq = ports.irq(port)
    return 0
  } finally {
    domain.eventLock.releaseRead()
  }
}

/** EVTCHNOP_bind_vcpu (8). At n = 2 a pending event stays where it is; above, it climbs on the new vCPU (NL-vcpu-1). */
export function bindVcpu(_world: World, { domain }: Caller, args: OpArgs<'bind_vcpu'>): Outcome {
  const port = args.port
  const { ports } = domain
  const vcpu = domain.vcpus[args.vcpu]
  if (!vcpu) return noVcpu(domain, args.vcpu)
  if (!ports.isValid(port)) return noPort(domain, port)
  domain.eventLock.acquireWrite()
  try {
    if (ports.consumer(port)) return noPort(domain, port)
    switch (ports.state(port)) {
      case ECS.VIRQ:
        if (virqClass(ports.irq(port)) === 'vcpu') return staysOnItsVcpu(ports.irq(port), port)
        break
      case ECS.UNBOUND:
      case ECS.INTERDOMAIN:
        break
      case ECS.PIRQ:
        if (ports.notifyVcpu(port) === vcpu.vcpuId) return 0
        unlinkPirqPort(domain, port)
        linkPirqPort(domain, port, vcpu.vcpuId)
        break
      default:
        return noPort(domain, port)
    }
    // The channel lock, for writing; the event that may be there climbs as any other.
    domain.hostCore.lock.exclude()
    ports.setNotifyVcpu(port, vcpu.vcpuId)
    domain.hostCore.lock.admit()
    domain.portOps.moved(port)
    return 0
  } finally {
    domain.eventLock.releaseWrite()
  }
}

const staysOnItsVcpu = (virq: number, port: number) =>
  refuse(EINVAL, () => `${virqName(virq)} on port ${port} stays on its vCPU`)

/** EVTCHNOP_unmask (9): 0 for any valid port, without effect on an unusable one (EC-unmask-2). */
export function unmask(_world: World, { domain }: Caller, args: OpArgs<'unmask'>): Outcome {
  return unmaskPort(domain, args.port)
}

/** The hot path of unmask. */
export function unmaskPort(domain: Domain, port: number): Outcome {
  const result = domain.hostCore.calls.unmask(domain.record, port)
  if (result >= 0) domain.finish(result, port)
  else if (result !== SLOW) return noPort(domain, port)
  else domain.unmask(port)
  return 0
}
