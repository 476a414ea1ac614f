/**
 * Ports that Xen itself owns (spec 6.3): the guest cannot close, send on or move them; a send from the other end calls a
 * function in the hypervisor. Device models and vm_event rings hang on these.
 */

import { ECS } from '../../abi/index.js'
import type { Callouts } from '../../callout.js'
import type { Domain } from '../../domain/domain.js'
import type { Vcpu } from '../../domain/handles.js'
import { Errno, type Outcome, type Refusal, refuse } from '../../errno.js'
import type { Notifier, World } from '../../host/world.js'
import { excludeFor, getFreePort } from '../parts.js'
import { closePort } from './close.js'
import { mayAllocUnbound } from './may.js'

/** Distinct notification functions (three bits, 0 = none). */
const MAX_NOTIFIERS = 7

/** Notification functions by slot. */
export class Notifiers {
  readonly #slots: Notifier[] = []
  readonly #callouts: Callouts

  constructor(callouts: Callouts) {
    this.#callouts = callouts
  }

  /** The slot of a function, taken if it is new; -1 if all are taken. */
  slotOf(notifier: Notifier): number {
    const known = this.#slots.indexOf(notifier)
    if (known >= 0) return known + 1
    return this.#slots.length < MAX_NOTIFIERS ? this.#slots.push(notifier) : -1
  }

  /** Calls the function of a slot. What it throws is its owner's: the send that reached it is done. */
  call(slot: number, vcpu: Vcpu, port: number): void {
    this.#callouts.run(`notifier of port ${port} of d${vcpu.domid}`, undefined, () =>
      this.#slots[slot - 1]!(vcpu, port),
    )
  }
}

/** alloc_unbound_xen_event_channel: a port of `domain` for `remoteDomid`; `caller` is asked for by the policy (EC-xen-1). */
export function allocUnboundXen(
  world: World,
  caller: Domain,
  domain: Domain,
  vcpuId: number,
  remoteDomid: number,
  slot: number,
): number | Refusal {
  return domain.eventLock.write(() => {
    const port = getFreePort(domain)
    if (typeof port !== 'number') return port
    const remote = world.domainById(remoteDomid)
    const refused = mayAllocUnbound(world, caller, domain, remoteDomid, remote)
    if (refused) {
      domain.ports.giveBack(port)
      return refused
    }
    excludeFor(domain, port)
    domain.ports.setConsumer(port, slot)
    domain.ports.setNotifyVcpu(port, vcpuId)
    domain.ports.setUnbound(port, remoteDomid)
    domain.hostCore.lock.admit()
    domain.ports.xenEvtchns++
    return port
  })
}

/** notify_via_xen_event_channel: sets the peer pending; nothing in any state but INTERDOMAIN (EC-xen-3). */
export function notifyViaXen(world: World, domain: Domain, port: number): Outcome {
  const { ports } = domain
  if (!ports.isValid(port)) return invalidUnlessDying(domain, port)
  if (ports.state(port) === ECS.INTERDOMAIN)
    world.domainById(ports.remoteDomid(port))!.setPending(ports.remotePort(port))
  return 0
}

/**
 * free_xen_event_channel: a close that is not the guest's (EC-xen-4). What the close returns is dropped, as in Xen: the
 * port of a dying domain may have been closed before its owner lets go of it.
 */
export function freeXen(world: World, domain: Domain, port: number): Outcome {
  if (!domain.ports.isValid(port)) return invalidUnlessDying(domain, port)
  closePort(world, domain, port)
  return 0
}

function invalidUnlessDying(domain: Domain, port: number): Outcome {
  return domain.dying === 'alive' ? refuse(Errno.EINVAL, () => `port ${port} of d${domain.domid} does not exist`) : 0
}
