/** A host, a guest with a ring page and an event channel, and the daemon that serves it. */

import { inside } from '../../src/domain/handles.js'
import { Hypervisor, type Vcpu } from '../../src/index.js'
import {
  connectInProcess,
  type DomainHost,
  type EventChannelEnd,
  Ring,
  RingClientTransport,
  type RingPeer,
  XenStoreClient,
  XenStored,
  type XenStoredOptions,
} from '../../src/xenstore/index.js'

const PAGE = 4096
const RING_GFN = 3

/** A host where every domain has its memory, and events go through hypercalls and upcalls. */
export class Machine {
  readonly xen: Hypervisor
  readonly server: XenStored
  readonly #handlers = new Map<Vcpu, Map<number, () => void>>()
  sends = 0

  constructor(options: Omit<XenStoredOptions, 'host'> = {}) {
    this.xen = Hypervisor.create({ onUpcall: (vcpu) => this.#upcall(vcpu) })
    this.xen.createDomain({ domid: 0 })
    const host: DomainHost = {
      state: (domid) => {
        const domain = this.xen.domain(domid)
        return domain ? { shutdown: inside(domain).shutdownCode >= 0, dying: domain.dying !== 'alive' } : undefined
      },
      connect: (domid, gfn, port) => {
        const domain = this.xen.domain(domid)
        if (!domain || domain.memory.frame(gfn) < 0) return undefined
        const bound = this.xen.domain(0)!.eventChannelOp('bind_interdomain', { remote_dom: domid, remote_port: port })
        return this.#peer(0, domid, gfn, Number(bound.local_port))
      },
    }
    this.server = new XenStored({ ...options, host })
  }

  /** Two-level events of a 64-bit guest: pending bits that are not masked, low to high. */
  #upcall(vcpu: Vcpu): void {
    const domain = this.xen.domain(vcpu.domid)!
    const { memory, sharedInfoGfn } = domain
    const view = new DataView(memory.memory.buffer, memory.base + sharedInfoGfn * PAGE, PAGE)
    while (view.getUint8(0)) {
      view.setUint8(0, 0)
      view.setBigUint64(8, 0n, true)
      for (let word = 0; word < 64; word++) {
        let pending = view.getBigUint64(2048 + word * 8, true)
        view.setBigUint64(2048 + word * 8, 0n, true)
        for (let bit = 0; pending; bit++, pending >>= 1n)
          if (pending & 1n) this.#handlers.get(vcpu)?.get(word * 64 + bit)?.()
      }
    }
  }

  #peer(domid: number, memoryOf: number, gfn: number, port: number): RingPeer {
    const vcpu = this.xen.domain(domid)!.vcpu(0)
    const { memory } = this.xen.domain(memoryOf)!
    const handlers = this.#handlers.get(vcpu) ?? new Map<number, () => void>()
    this.#handlers.set(vcpu, handlers)
    const channel: EventChannelEnd = {
      notify: () => {
        this.sends++
        if (this.xen.domain(domid)?.dying === 'alive') vcpu.eventChannelOp('send', { port })
      },
      onEvent: (callback) => void handlers.set(port, callback),
    }
    const close = () => {
      handlers.delete(port)
      if (this.xen.domain(domid)?.dying === 'alive') vcpu.eventChannelOp('close', { port })
    }
    return { page: () => memory.view().subarray(gfn * PAGE, (gfn + 1) * PAGE), channel, close }
  }

  /** Boots a guest: memory, an unbound port for domain 0, INTRODUCE. */
  guest(domid: number): { peer: RingPeer; ring: Ring; port: number } {
    if (!this.xen.domain(domid)) this.xen.createDomain({ domid })
    const { port } = this.xen.domain(domid)!.eventChannelOp('alloc_unbound', { dom: domid, remote_dom: 0 })
    const peer = this.#peer(domid, domid, RING_GFN, Number(port))
    return { peer, ring: new Ring(peer.page), port: Number(port) }
  }

  introduce(domid: number, port: number): void {
    this.server.introduce(domid, RING_GFN, port)
  }

  /** A guest with a client. */
  client(domid: number): XenStoreClient {
    const { peer, port } = this.guest(domid)
    const client = new XenStoreClient(new RingClientTransport(peer))
    this.introduce(domid, port)
    return client
  }
}

export const home = async (machine: Machine, domid: number) => {
  const dom0 = connectInProcess(machine.server)
  if (!machine.xen.domain(domid)) machine.xen.createDomain({ domid })
  await dom0.mkdir(`/local/domain/${domid}`)
  await dom0.setPermissions(`/local/domain/${domid}`, [`n${domid}`])
  return dom0
}
