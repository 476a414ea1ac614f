/**
 * Ports that Xen itself owns (spec 6.3): the guest cannot close, send on or move them; a send from the other end calls a
 * function in the hypervisor. Device models and vm_event rings hang on these.
 */

import { ECS } from '../../abi/index.js'
import type { Domain } from '../../domain/domain.js'
import { Errno } from '../../errno.js'
import type { Notifier, World } from '../../host/world.js'
import { getFreePort } from '../parts.js'
import { closePort } from './close.js'

/** Distinct notification functions (three bits, 0 = none). */
const MAX_NOTIFIERS = 7

/** Notification functions by slot. */
export class Notifiers {
  readonly #slots: Notifier[] = []

  /** The slot of a function, taken if it is new; -1 if all are taken. */
  slotOf(notifier: Notifier): number {
    const known = this.#slots.indexOf(notifier)
    if (known >= 0) return known + 1
    return this.#slots.length < MAX_NOTIFIERS ? this.#slots.push(notifier) : -1
  }

  get(slot: number): Notifier {
    return this.#slots[slot - 1]!
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
): number {
  return domain.eventLock.write(() => {
    const port = getFreePort(world, domain)
    if (port < 0) return port
    const refused = world.xsm.evtchnUnbound(caller, domain, world.domainById(remoteDomid))
    if (refused) {
      domain.ports.giveBack(port)
      return world.fail(-refused, `policy ${world.xsm.name}: d${caller.domid} may not allocate in d${domain.domid}`)
    }
    domain.ports.setConsumer(port, slot)
    domain.ports.setNotifyVcpu(port, vcpuId)
    domain.ports.setUnbound(port, remoteDomid)
    domain.ports.xenEvtchns++
    return port
  })
}

/** notify_via_xen_event_channel: sets the peer pending; nothing in any state but INTERDOMAIN (EC-xen-3). */
export function notifyViaXen(world: World, domain: Domain, port: number): number {
  const { ports } = domain
  if (!ports.isValid(port)) return invalidUnlessDying(world, domain, port)
  if (ports.state(port) === ECS.INTERDOMAIN)
    world.domainById(ports.remoteDomid(port))!.setPending(ports.remotePort(port))
  return 0
}

/**
 * free_xen_event_channel: a close that is not the guest's (EC-xen-4). What the close answers is dropped, as in Xen: the
 * port of a dying domain may have been closed before its owner lets go of it.
 */
export function freeXen(world: World, domain: Domain, port: number): number {
  if (!domain.ports.isValid(port)) return invalidUnlessDying(world, domain, port)
  closePort(world, domain, port, false)
  return 0
}

function invalidUnlessDying(world: World, domain: Domain, port: number): number {
  return domain.dying === 'alive' ? world.fail(Errno.EINVAL, `port ${port} of d${domain.domid} does not exist`) : 0
}
