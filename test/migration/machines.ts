/** Guests with drivers and counted events, for moving them about. */

import type { Bits } from '../../src/abi/index.js'
import { type Domain, GuestKernel, Hypervisor, type HypervisorOptions, type Vcpu } from '../../src/index.js'

/** A host whose upcalls go to the drivers attached to it. */
export class Host {
  readonly xen: Hypervisor
  readonly kernels = new Map<number, GuestKernel>()

  constructor(options: HypervisorOptions = {}) {
    const onUpcall = (vcpu: Vcpu) => void this.kernels.get(vcpu.domid)?.upcall(vcpu.vcpuId)
    this.xen = Hypervisor.create({ onUpcall, ...options })
  }

  /** Boots the control domain. */
  dom0(): GuestKernel {
    const domain = this.xen.createDomain({ domid: 0, frames: 64 })
    return this.attach(GuestKernel.boot(this.xen.platform(domain), { levels: 3, nrPages: 1 }), domain)
  }

  attach(kernel: GuestKernel, domain: Domain): GuestKernel {
    this.kernels.set(domain.domid, kernel)
    return kernel
  }
}

/** What a guest is made of. */
export interface GuestShape {
  bits?: Bits
  levels?: 2 | 3 | 4 | 'fifo'
  channels?: number
  frames?: number
  vcpus?: number
  maxEvtchnPort?: number
}

/** A guest connected to dom0 by channels, and how often each handler ran, by name. */
export interface Machine {
  host: Host
  dom0: GuestKernel
  kernel: GuestKernel
  domain: Domain
  /** Port in the guest and in dom0 of each channel. */
  ports: { guest: number; dom0: number }[]
  ran: Map<string, number>
  /** How often dom0's handlers ran. */
  heard: Map<number, number>
}

/** Channel i of the guest is called `ring i`, dom0's end of it `back i`. */
export function machine(shape: GuestShape = {}, host = new Host()): Machine {
  const { bits = 64, levels = 3, channels = 8, frames = 128, vcpus = 1, maxEvtchnPort = Infinity } = shape
  const dom0 = host.kernels.get(0) ?? host.dom0()
  const domain = host.xen.createDomain({ domid: 1, bits, frames, vcpus, maxEvtchnPort })
  const kernel = host.attach(GuestKernel.boot(host.xen.platform(domain), { levels }), domain)
  const ran = new Map<string, number>()
  const heard = new Map<number, number>()
  const add = <K>(counts: Map<K, number>, key: K) => void counts.set(key, (counts.get(key) ?? 0) + 1)
  const ports = Array.from({ length: channels }, (_, i) => {
    const name = `ring ${i}`
    const guest = kernel.allocUnbound(0, { name, vcpu: i % vcpus, handler: () => add(ran, name) })
    return { guest, dom0: dom0.bindInterdomain(1, guest, { name: `back ${i}`, handler: (port) => add(heard, port) }) }
  })
  ran.clear()
  heard.clear()
  return { host, dom0, kernel, domain, ports, ran, heard }
}
