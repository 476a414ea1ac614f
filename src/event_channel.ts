/**
 * The event channel operations: checks in Xen's order, then effects (spec part 2; xen/common/event_channel.c). Each
 * returns 0 or a positive result, or -errno with nothing changed; OUT members are stored in `args`.
 *
 * Locks: the event lock as marked. Where Xen takes a channel lock (EC-lock-2), one thread needs none; the places are
 * marked, and notifiers of Xen-attached ports run with no lock held (EC-bug-11).
 */

import { type Args, DOMID_SELF, ECS, EVTCHNSTAT, NR_VIRQS, VIRQ } from './abi/index.js'
import type { Domain } from './domain.js'
import { Errno } from './errno.js'
import { EVTCHNS_PER_BUCKET } from './ports.js'
import { virqClass, virqName } from './virq.js'
import type { Caller, World } from './world.js'

const { EPERM, ENOENT, ESRCH, EAGAIN, ENOMEM, EBUSY, EEXIST, EINVAL, ENOSPC, ERESTART } = Errno

const STATE_NAMES = ['free', 'reserved', 'unbound', 'interdomain', 'bound to a PIRQ', 'bound to a VIRQ', 'an IPI']

/** `port N of dD is unbound`, for messages. */
export function describePort(domain: Domain, port: number): string {
  if (!domain.ports.isValid(port)) return `port ${port} of d${domain.domid} does not exist`
  const attached = domain.ports.consumer(port) ? 'attached to Xen and ' : ''
  return `port ${port} of d${domain.domid} is ${attached}${STATE_NAMES[domain.ports.state(port)]}`
}

/** DOMID_SELF is the caller, anything else is looked up (EC-lay-1). */
export function domainByAnyId(world: World, caller: Domain, domid: number): Domain | undefined {
  return domid === DOMID_SELF ? caller : world.domainById(domid)
}

const noDomain = (world: World, domid: number) => world.fail(ESRCH, `there is no domain ${domid}`)
const noPort = (world: World, domain: Domain, port: number) => world.fail(EINVAL, describePort(domain, port))
const noVcpu = (world: World, domain: Domain, vcpu: number) =>
  world.fail(ENOENT, `d${domain.domid} has vCPUs 0 to ${domain.vcpus.length - 1}, not ${vcpu}`)

/** Runs `body` with both domains' event locks held for writing: ascending ids, one domain once (EC-lock-1). */
function writeBoth<T>(a: Domain, b: Domain, body: () => T): T {
  if (a === b) return a.eventLock.write(body)
  const [first, second] = a.domid < b.domid ? [a, b] : [b, a]
  return first.eventLock.write(() => second.eventLock.write(body))
}

/**
 * The lowest free port, taken (EC-port-14…17), or -errno. Cost O(table depth), not O(ports) (NL-port-1). The caller
 * holds the event lock and either gives the port a state or gives it back (EC-port-18).
 */
export function getFreePort(world: World, domain: Domain): number {
  if (domain.dying !== 'alive') return world.fail(EINVAL, `d${domain.domid} is dying`)
  // From outside, for its own vCPUs stand still: a port that its saved state does not have would be lost.
  if (domain.frozen === 'saved') return world.fail(EAGAIN, `d${domain.domid} is frozen for its migration`)
  let port = domain.ports.lowestFree(1)
  // Closed but still linked on a queue: not free yet (EC-port-11, EC-bug-7).
  while (domain.ports.isValid(port) && domain.portOps.isBusy?.(port)) port = domain.ports.lowestFree(port + 1)
  if (port > domain.maxEvtchnPort || port >= domain.maxEvtchns) {
    const limit = Math.min(domain.maxEvtchnPort, domain.maxEvtchns - 1)
    return world.fail(ENOSPC, `d${domain.domid} has no free port: all up to ${limit}, its limit, are taken`)
  }
  if (!domain.ports.grow(port)) return world.fail(ENOMEM, `there is no memory for port ${port} of d${domain.domid}`)
  domain.ports.take(port)
  return port
}

/** EVTCHNOP_alloc_unbound (6). */
export function allocUnbound(world: World, { domain: caller }: Caller, args: Args): number {
  const domain = domainByAnyId(world, caller, args.dom!)
  if (!domain) return noDomain(world, args.dom!)
  const remoteDomid = args.remote_dom === DOMID_SELF ? caller.domid : args.remote_dom!
  return domain.eventLock.write(() => {
    const port = getFreePort(world, domain)
    if (port < 0) return port
    const refused = world.xsm.evtchnUnbound(caller, domain, world.domainById(remoteDomid))
    if (refused) {
      domain.ports.giveBack(port)
      return world.fail(
        -refused,
        `policy ${world.xsm.name}: d${caller.domid} may not allocate in d${domain.domid} for d${remoteDomid}`,
      )
    }
    domain.ports.setUnbound(port, remoteDomid)
    domain.portOps.init?.(port)
    args.port = port
    return 0
  })
}

/** EVTCHNOP_bind_interdomain (0). */
export function bindInterdomain(world: World, { domain: local }: Caller, args: Args): number {
  const remote = domainByAnyId(world, local, args.remote_dom!)
  const remotePort = args.remote_port!
  if (!remote) return noDomain(world, args.remote_dom!)
  return writeBoth(local, remote, () => {
    const port = getFreePort(world, local)
    if (port < 0) return port
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

function refuseInterdomain(world: World, local: Domain, remote: Domain, remotePort: number): number {
  const { ports } = remote
  if (!ports.isValid(remotePort)) return noPort(world, remote, remotePort)
  if (ports.state(remotePort) !== ECS.UNBOUND) return noPort(world, remote, remotePort)
  if (ports.remoteDomid(remotePort) !== local.domid)
    return world.fail(EINVAL, `port ${remotePort} of d${remote.domid} awaits d${ports.remoteDomid(remotePort)}`)
  const refused = world.xsm.evtchnInterdomain(local, remote)
  return refused
    ? world.fail(-refused, `policy ${world.xsm.name}: d${local.domid} may not bind to d${remote.domid}`)
    : 0
}

/** EVTCHNOP_bind_virq (1). */
export function bindVirq(world: World, { domain }: Caller, args: Args): number {
  const virq = args.virq!
  if (virq >= NR_VIRQS) return world.fail(EINVAL, `VIRQs are 0 to ${NR_VIRQS - 1}, not ${virq}`)
  const kind = virqClass(virq)
  if (kind !== 'vcpu' && args.vcpu !== 0)
    return world.fail(EINVAL, `${virqName(virq)} is not per vCPU and binds on vCPU 0 only, not ${args.vcpu}`)
  const vcpu = domain.vcpus[args.vcpu!]
  if (!vcpu) return noVcpu(world, domain, args.vcpu!)
  return domain.eventLock.write(() => {
    if (kind === 'global' && world.virqs.handler(virq) !== domain)
      return world.fail(EBUSY, `d${domain.domid} is not the handler domain of ${virqName(virq)}`)
    if (vcpu.virqPort(virq))
      return world.fail(
        EEXIST,
        `${virqName(virq)} is bound to port ${vcpu.virqPort(virq)} on d${domain.domid}v${vcpu.vcpuId}`,
      )
    const port = getFreePort(world, domain)
    if (port < 0) return port
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
export function bindIpi(world: World, { domain }: Caller, args: Args): number {
  const vcpu = domain.vcpus[args.vcpu!]
  if (!vcpu) return noVcpu(world, domain, args.vcpu!)
  return domain.eventLock.write(() => {
    const port = getFreePort(world, domain)
    if (port < 0) return port
    domain.ports.setNotifyVcpu(port, vcpu.vcpuId)
    domain.ports.setState(port, ECS.IPI)
    domain.portOps.init?.(port)
    args.port = port
    return 0
  })
}

/** Bit 0 of bind_pirq's flags. */
export const BIND_PIRQ__WILL_SHARE = 1

/** EVTCHNOP_bind_pirq (2). */
export function bindPirq(world: World, { domain }: Caller, args: Args): number {
  const irq = args.pirq!
  if (irq >= domain.pirqs.nrPirqs)
    return world.fail(EINVAL, `d${domain.domid} has PIRQs below ${domain.pirqs.nrPirqs}, not ${irq}`)
  if (domain.type === 'pv' && !domain.privileged && !domain.pirqs.permitted.has(irq))
    return world.fail(EPERM, `d${domain.domid} has no access to PIRQ ${irq}`)
  return domain.eventLock.write(() => {
    const bound = domain.pirqs.find(irq)?.port
    if (bound) return world.fail(EEXIST, `PIRQ ${irq} is bound to port ${bound} of d${domain.domid}`)
    const port = getFreePort(world, domain)
    if (port < 0) return port
    const pirq = domain.pirqs.get(irq)
    const willShare = (args.flags! & BIND_PIRQ__WILL_SHARE) !== 0
    if (domain.type === 'pv') {
      const busy = world.irqs.bind(irq, domain.domid, willShare)
      if (busy) {
        domain.ports.giveBack(port)
        return world.fail(-busy, `interrupt ${irq} is in use and cannot be shared`)
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

/** Puts a PIRQ port at the head of a vCPU's list (EC-pirq-9). */
export function linkPirqPort(domain: Domain, port: number, vcpuId: number): void {
  const vcpu = domain.vcpus[vcpuId]!
  const next = vcpu.firstPirqPort
  domain.ports.setPrevPirqPort(port, 0)
  domain.ports.setNextPirqPort(port, next)
  if (next) domain.ports.setPrevPirqPort(next, port)
  vcpu.firstPirqPort = port
}

/** Takes a PIRQ port off the list of its notify vCPU (EC-close-6, EC-bug-9). */
function unlinkPirqPort(domain: Domain, port: number): void {
  const { ports } = domain
  const next = ports.nextPirqPort(port)
  const prev = ports.prevPirqPort(port)
  if (next) ports.setPrevPirqPort(next, prev)
  if (prev) ports.setNextPirqPort(prev, next)
  else domain.vcpus[ports.notifyVcpu(port)]!.firstPirqPort = next
}

/** EVTCHNOP_close (3), and every other close. `guest`: Xen-attached ports refuse. */
export function closePort(world: World, domain: Domain, port: number, guest: boolean): number {
  const { ports } = domain
  if (!ports.isValid(port)) return noPort(world, domain, port)
  // An interdomain channel needs both event locks; on one thread nothing changes while they are taken (EC-close-7).
  const peer = ports.state(port) === ECS.INTERDOMAIN ? world.domainById(ports.remoteDomid(port))! : domain
  return writeBoth(domain, peer, () => {
    if (guest && ports.consumer(port)) return noPort(world, domain, port)
    switch (ports.state(port)) {
      case ECS.FREE:
      case ECS.RESERVED:
        return noPort(world, domain, port)
      case ECS.VIRQ:
        closeVirq(world, domain, port)
        break
      case ECS.PIRQ:
        closePirq(world, domain, port)
        break
      case ECS.INTERDOMAIN:
        // Silent for the peer, which keeps everything but its partner (EC-close-8).
        peer.ports.setUnbound(ports.remotePort(port), domain.domid)
        break
    }
    freePort(domain, port)
    return 0
  })
}

function closeVirq(world: World, domain: Domain, port: number): void {
  const virq = domain.ports.irq(port)
  const vcpuId = virqClass(virq) === 'vcpu' ? domain.ports.notifyVcpu(port) : 0
  if (virq === VIRQ.DOM_EXC) world.virqs.closeDomExc(domain)
  domain.vcpus[vcpuId]!.setVirqPort(virq, 0)
}

function closePirq(world: World, domain: Domain, port: number): void {
  const irq = domain.ports.irq(port)
  const pirq = domain.pirqs.get(irq)
  if (domain.type === 'pv') world.irqs.unbind(irq, domain.domid)
  pirq.port = 0
  pirq.inFlight = false
  domain.setPirqNeedsEoi(irq, false)
  unlinkPirqPort(domain, port)
}

/** EC-close-9: pending is cleared if usable, the mask bit stays (EC-bug-1). */
function freePort(domain: Domain, port: number): void {
  domain.clearPending(port)
  if (domain.ports.consumer(port)) domain.ports.xenEvtchns--
  domain.ports.setFree(port)
  domain.ports.giveBack(port)
}

/** EVTCHNOP_close (3). */
export function close(world: World, { domain }: Caller, args: Args): number {
  return closePort(world, domain, args.port!, true)
}

/** EVTCHNOP_send (4). Holds only the sender's channel lock, which pins both ends (EC-lock-6). */
export function send(world: World, { domain }: Caller, args: Args): number {
  return sendPort(world, domain, args.port!)
}

/** The hot path of send, for callers that have the port at hand. */
export function sendPort(world: World, domain: Domain, port: number): number {
  const { ports } = domain
  if (!ports.isValid(port)) return noPort(world, domain, port)
  if (ports.consumer(port)) return noPort(world, domain, port)
  const state = ports.state(port)
  const remote = state === ECS.INTERDOMAIN ? world.domainById(ports.remoteDomid(port)) : undefined
  const refused = world.xsm.evtchnSend(domain, remote)
  if (refused) return world.fail(-refused, `policy ${world.xsm.name}: d${domain.domid} may not send on port ${port}`)
  switch (state) {
    case ECS.INTERDOMAIN: {
      const remotePort = ports.remotePort(port)
      const slot = remote!.ports.consumer(remotePort)
      if (slot) world.notifier(slot)(remote!.vcpus[remote!.ports.notifyVcpu(remotePort)]!, remotePort)
      else remote!.setPending(remotePort)
      return 0
    }
    case ECS.IPI:
      domain.setPending(port)
      return 0
    case ECS.UNBOUND:
      return 0 // dropped silently (EC-send-8)
    default:
      return noPort(world, domain, port)
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
export function status(world: World, { domain: caller }: Caller, args: Args): number {
  const domain = domainByAnyId(world, caller, args.dom!)
  if (!domain) return noDomain(world, args.dom!)
  const port = args.port!
  const { ports } = domain
  if (!ports.isValid(port)) return noPort(world, domain, port)
  return domain.eventLock.read(() => {
    const refused = world.xsm.evtchnStatus(caller, domain)
    if (refused)
      return world.fail(-refused, `policy ${world.xsm.name}: d${caller.domid} may not look at d${domain.domid}`)
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
  })
}

/** EVTCHNOP_bind_vcpu (8). At n = 2 a pending event stays where it is; above, it climbs on the new vCPU (NL-vcpu-1). */
export function bindVcpu(world: World, { domain }: Caller, args: Args): number {
  const port = args.port!
  const { ports } = domain
  const vcpu = domain.vcpus[args.vcpu!]
  if (!vcpu) return noVcpu(world, domain, args.vcpu!)
  if (!ports.isValid(port)) return noPort(world, domain, port)
  return domain.eventLock.write(() => {
    if (ports.consumer(port)) return noPort(world, domain, port)
    switch (ports.state(port)) {
      case ECS.VIRQ:
        if (virqClass(ports.irq(port)) === 'vcpu')
          return world.fail(EINVAL, `${virqName(ports.irq(port))} on port ${port} stays on its vCPU`)
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
        return noPort(world, domain, port)
    }
    ports.setNotifyVcpu(port, vcpu.vcpuId)
    domain.portOps.moved(port)
    return 0
  })
}

/** EVTCHNOP_unmask (9): 0 for any valid port, without effect on an unusable one (EC-unmask-2). */
export function unmask(world: World, { domain }: Caller, args: Args): number {
  const port = args.port!
  if (!domain.ports.isValid(port)) return noPort(world, domain, port)
  domain.unmask(port)
  return 0
}

/** EVTCHNOP_reset (10). */
export function reset(world: World, caller: Caller, args: Args): number {
  return resetOrContinue(world, caller, args, false)
}

/** EVTCHNOP_reset_cont (14): the hypervisor's own continuation, which a guest can issue too. */
export function resetCont(world: World, caller: Caller, args: Args): number {
  return resetOrContinue(world, caller, args, true)
}

function resetOrContinue(world: World, { domain: caller }: Caller, args: Args, resuming: boolean): number {
  const domain = domainByAnyId(world, caller, args.dom!)
  if (!domain) return noDomain(world, args.dom!)
  const refused = world.xsm.evtchnReset(caller, domain)
  if (refused) return world.fail(-refused, `policy ${world.xsm.name}: d${caller.domid} may not reset d${domain.domid}`)
  return resetDomain(world, domain, caller, resuming)
}

/** Closes all of a domain's guest ports, resumably, and returns it to two levels (EC-reset-4…9). */
export function resetDomain(world: World, domain: Domain, caller: Domain, resuming: boolean): number {
  if (domain !== caller && !domain.pauseCount)
    return world.fail(EINVAL, `d${domain.domid} is neither the caller nor paused by its controller`)
  if (domain.frozen === 'saved') return world.fail(EAGAIN, `d${domain.domid} is frozen for its migration`)
  const { ports } = domain
  if (resuming !== domain.nextEvtchn > 0)
    return world.fail(
      EBUSY,
      resuming ? 'no reset is in progress' : `a reset is in progress at port ${domain.nextEvtchn}`,
    )
  const first = resuming ? domain.nextEvtchn : 1
  domain.eventLock.write(() => {
    domain.nextEvtchn = first
  })

  // No lock across ports: another caller may open and close meanwhile.
  for (let port = first; ports.isValid(port) && ports.activeEvtchns > ports.xenEvtchns; port++) {
    if (ports.state(port) !== ECS.FREE) closePort(world, domain, port, true)
    // On resuming, the port at hand was tested before: going on first keeps a host that always preempts alive (EC-reset-8).
    if (port % EVTCHNS_PER_BUCKET === 0 && !(resuming && port === first) && world.preempt()) {
      domain.nextEvtchn = port
      return -ERESTART
    }
  }

  return domain.eventLock.write(() => {
    domain.nextEvtchn = 0
    if (ports.activeEvtchns > ports.xenEvtchns) return world.fail(EAGAIN, 'ports were opened during the reset')
    domain.returnToTwoLevels()
    return 0
  })
}

/**
 * Closes every channel of a dying domain, Xen-attached ones too, from the top down (EC-die-2…4). -ERESTART: call again.
 */
export function destroyChannels(world: World, domain: Domain): number {
  const { ports } = domain
  // The barrier: from here on no new port can appear, for getFreePort refuses a dying domain (EC-die-2).
  domain.eventLock.write(() => {})
  for (let port = ports.validEvtchns - 1; port > 0; port--) {
    if (ports.state(port) !== ECS.FREE) closePort(world, domain, port, false)
    if (port % EVTCHNS_PER_BUCKET === 0 && domain.dying !== 'dead' && world.preempt()) {
      ports.validEvtchns = port
      return -ERESTART
    }
  }
  if (ports.activeEvtchns) throw new Error(`d${domain.domid}: ${ports.activeEvtchns} ports are active after teardown`)
  world.virqs.dropHandlers(domain)
  domain.returnToTwoLevels()
  return 0
}
