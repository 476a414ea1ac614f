/**
 * dom0's ends of the pages that guests share with it, each with an event channel: the store's ring, a console.
 *
 *     guest: page gfn, port ◀──event channel──▶ dom0's port ─ handler
 */

import { PAGE_SIZE } from '../../abi/index.js'
import type { GuestKernel } from '../../guest/index.js'
import type { Hypervisor } from '../../hypervisor/index.js'
import type { GuestMemory } from '../../machine/memory.js'
import type { DomainHost, RingPeer } from '../../xenstore/index.js'

/** One page of a memory, as it is now: the same view as long as the memory stays where it is. */
export function pageOf(memory: GuestMemory, gfn: number): () => Uint8Array {
  let page: Uint8Array = new Uint8Array(0)
  return () => {
    const { buffer } = memory.memory
    if (page.buffer !== buffer) page = new Uint8Array(buffer, memory.base + gfn * PAGE_SIZE, PAGE_SIZE)
    return page
  }
}

/**
 * Maps frame `gfn` of a guest for dom0 and binds the port that the guest offers. Undefined if there is no such domain or frame.
 * `name` is what dom0's port is called in a dump.
 * @throws XenError if the port cannot be bound.
 */
export function ringEnd(
  xen: Hypervisor,
  channels: GuestKernel,
  domid: number,
  gfn: number,
  remotePort: number,
  name: string,
): RingPeer | undefined {
  const domain = xen.domain(domid)
  if (!domain || !(gfn >= 0 && gfn < domain.memory.frames)) return undefined
  let onEvent = () => {}
  const port = channels.bindInterdomain(domid, remotePort, { name, handler: () => onEvent() })
  return {
    page: pageOf(domain.memory, gfn),
    channel: {
      notify: () => channels.send(port),
      onEvent: (callback) => {
        onEvent = callback
      },
    },
    close: () => channels.close(port),
  }
}

/**
 * The option `host` of `XenStored` for a hypervisor: states of its domains, and their rings over dom0's event channels.
 * `channels` is dom0's kernel; bind VIRQ_DOM_EXC there, and call `store.domainsChanged()` in its handler.
 */
export function xenStoreHost(xen: Hypervisor, channels: GuestKernel): DomainHost {
  return {
    state: (domid) => {
      const domain = xen.domain(domid)
      return domain ? { shutdown: domain.shutdownCode !== undefined, dying: domain.dying !== 'alive' } : undefined
    },
    connect: (domid, gfn, port) => ringEnd(xen, channels, domid, gfn, port, `xenstored d${domid}`),
  }
}
