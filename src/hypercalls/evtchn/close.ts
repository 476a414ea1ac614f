/**
 * Closing channels: one port (spec 2.10), all of the guest's (reset, 2.15), and all there are when a domain dies (part 7).
 * The latter two stop where preemption is due; the domain records how far they came.
 */

import { ECS, type OpArgs, VIRQ } from '../../abi/index.js'
import type { Caller, Domain } from '../../domain/domain.js'
import { unlinkPirqPort } from '../../domain/pirq_list.js'
import { EVTCHNS_PER_BUCKET } from '../../domain/port_table.js'
import { Errno, type Outcome, refuse } from '../../errno.js'
import { virqClass } from '../../host/virq.js'
import type { World } from '../../host/world.js'
import { refusedByPolicy } from '../../host/xsm.js'
import { domainByAnyId, lockBoth, noDomain, noPort, unlockBoth } from '../parts.js'

const { EAGAIN, EBUSY, EINVAL, ERESTART } = Errno

/** Preemption was due in the middle of a long walk: the caller calls again. */
export const PREEMPTED = refuse(ERESTART, 'preempted')

/** Closes a port for its guest: those that are attached to Xen refuse (EC-close-3). */
function closeGuestPort(world: World, domain: Domain, port: number): Outcome {
  if (domain.ports.isValid(port) && domain.ports.consumer(port)) return noPort(domain, port)
  return closePort(world, domain, port)
}

/** Closes any port. */
export function closePort(world: World, domain: Domain, port: number): Outcome {
  const { ports } = domain
  if (!ports.isValid(port)) return noPort(domain, port)
  // An interdomain channel needs both event locks; on one thread nothing changes while they are taken (EC-close-7).
  const peer = ports.state(port) === ECS.INTERDOMAIN ? world.domainById(ports.remoteDomid(port))! : domain
  const { lock } = domain.hostCore
  lock.exclude()
  lockBoth(domain, peer)
  try {
    switch (ports.state(port)) {
      case ECS.FREE:
      case ECS.RESERVED:
        return noPort(domain, port)
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
  } finally {
    unlockBoth(domain, peer)
    lock.admit()
  }
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

/** Frees the port. Its pending bit is cleared if the port is usable; its mask bit stays (EC-close-9, EC-bug-1). */
function freePort(domain: Domain, port: number): void {
  domain.clearPending(port)
  if (domain.ports.consumer(port)) domain.ports.xenEvtchns--
  domain.ports.setFree(port)
  domain.ports.giveBack(port)
}

/** EVTCHNOP_close (3). */
export function close(world: World, { domain }: Caller, args: OpArgs<'close'>): Outcome {
  return closeGuestPort(world, domain, args.port)
}

/** EVTCHNOP_reset (10). */
export function reset(world: World, caller: Caller, args: OpArgs<'reset'>): Outcome {
  return resetBy(resetDomain, world, caller, args)
}

/** EVTCHNOP_reset_cont (14): the hypervisor's own continuation, which a guest can issue too. */
export function resetCont(world: World, caller: Caller, args: OpArgs<'reset_cont'>): Outcome {
  return resetBy(continueReset, world, caller, args)
}

function resetBy(step: typeof resetDomain, world: World, { domain: caller }: Caller, args: OpArgs<'reset'>): Outcome {
  const domain = domainByAnyId(world, caller, args.dom)
  if (!domain) return noDomain(args.dom)
  const refused = world.xsm.evtchnReset(caller, domain)
  if (refused) return refusedByPolicy(world.xsm, refused, caller, () => `reset d${domain.domid}`)
  return step(world, domain, caller)
}

/**
 * Closes all of a domain's guest ports, resumably, and returns it to two levels (EC-reset-4…9). PREEMPTED: call
 * `continueReset`, which starts where this stopped.
 */
export function resetDomain(world: World, domain: Domain, caller: Domain): Outcome {
  const refused = mayReset(domain, caller)
  if (refused) return refused
  const { nextEvtchn } = domain
  if (nextEvtchn > 0) return refuse(EBUSY, () => `a reset is in progress at port ${nextEvtchn}`)
  return closeFrom(world, domain, 1, 0)
}

/** Continues a reset that was preempted. */
export function continueReset(world: World, domain: Domain, caller: Domain): Outcome {
  const refused = mayReset(domain, caller)
  if (refused) return refused
  const { nextEvtchn } = domain
  if (!nextEvtchn) return refuse(EBUSY, 'no reset is in progress')
  return closeFrom(world, domain, nextEvtchn, nextEvtchn)
}

function mayReset(domain: Domain, caller: Domain): Outcome {
  if (domain !== caller && !domain.pauseCount)
    return refuse(EINVAL, () => `d${domain.domid} is neither the caller nor paused by its controller`)
  return domain.frozen === 'saved' ? refuse(EAGAIN, () => `d${domain.domid} is frozen for its migration`) : 0
}

/**
 * The walk of a reset, from port `first`. `tested` is the port at which the previous step was preempted: there is no second
 * test there, so that the walk ends even on a host that always preempts (EC-reset-8).
 */
function closeFrom(world: World, domain: Domain, first: number, tested: number): Outcome {
  const { ports } = domain
  domain.eventLock.write(() => {
    domain.nextEvtchn = first
  })

  // No lock across ports: another caller may open and close meanwhile.
  for (let port = first; ports.isValid(port) && ports.activeEvtchns > ports.xenEvtchns; port++) {
    if (ports.state(port) !== ECS.FREE) closeGuestPort(world, domain, port)
    if (port % EVTCHNS_PER_BUCKET === 0 && port !== tested && world.preempt()) {
      domain.nextEvtchn = port
      return PREEMPTED
    }
  }

  return domain.eventLock.write(() => {
    domain.nextEvtchn = 0
    if (ports.activeEvtchns > ports.xenEvtchns) return refuse(EAGAIN, 'ports were opened during the reset')
    domain.returnToTwoLevels()
    return 0
  })
}

/**
 * Closes every channel of a dying domain, Xen-attached ones too, from the top down (EC-die-2…4). PREEMPTED: call again.
 */
export function destroyChannels(world: World, domain: Domain): Outcome {
  const { ports } = domain
  // The barrier: from here on no new port can appear, for getFreePort refuses a dying domain (EC-die-2).
  domain.eventLock.write(() => {})
  for (let port = ports.validEvtchns - 1; port > 0; port--) {
    if (ports.state(port) !== ECS.FREE) closePort(world, domain, port)
    if (port % EVTCHNS_PER_BUCKET === 0 && domain.dying !== 'dead' && world.preempt()) {
      domain.hostCore.lock.write(() => {
        ports.validEvtchns = port
      })
      return PREEMPTED
    }
  }
  if (ports.activeEvtchns) throw new Error(`d${domain.domid}: ${ports.activeEvtchns} ports are active after teardown`)
  world.virqs.dropHandlers(domain)
  domain.returnToTwoLevels()
  return 0
}
