/** What is moved and where, what becomes of it, and the guest on its first host. */

import type { Bits } from '../../abi/index.js'
import {
  type Domain,
  type DomainOptions,
  GuestKernel,
  Hypervisor,
  type HypervisorOptions,
  type RestoreOptions,
  type SaveMode,
  type Vcpu,
} from '../../index.js'
import { realClock } from '../../node/clock.js'
import { type Abi, abiName, type Form, formOf } from '../abi.js'
import { UsageError } from '../errors.js'

/** What is moved, and where. */
export interface Workload {
  readonly channels: number
  readonly abi: Abi
  readonly bits: Bits
  readonly frames: number
  readonly pending: number
  readonly raised: number
  readonly seed: number
  /** Limits of the target. */
  readonly host: HypervisorOptions
  readonly domain: RestoreOptions
}

/** Where a guest is moved to. */
export type Destination = 'target' | 'same host'

/** What became of one move. */
export interface Outcome {
  mode: SaveMode
  to: Destination
  /** Why the target refused; absent: moved. */
  refused?: string
  channels: number
  stateBytes: number
  ramFrames: number
  saveNs: number
  restoreNs: number
  /** Cooperative: the guest's resume and the peers' re-connecting. Transparent: the guest's first upcall included. */
  resumeNs: number
  levels: number | 'fifo'
  attempts: string[]
  /** Channels that are connected afterwards, and those that are not, the first and the last by name. */
  connected: number
  lost: number
  lostNames: string[]
  /** Channels with events when it was saved, and signalled while it was frozen. */
  pending: number
  raised: number
  /** Of these, those whose handler ran at last; the others'. */
  delivered: number
  missing: number
  /** Handlers that the re-scan ran. */
  rescanned: number
}

/** RAM of dom0, on every host; what the options say is beside it. */
export const DOM0_FRAMES = 2048
/** Channels of two levels with 64-bit words. */
const TWO_LEVELS = 4096

/** A host whose upcalls go to the kernels on it. */
export class Machine {
  readonly xen: Hypervisor
  readonly #kernels = new Map<number, GuestKernel>()

  constructor(options: HypervisorOptions) {
    const onUpcall = (vcpu: Vcpu) => void this.#kernels.get(vcpu.domid)?.upcall(vcpu.vcpuId)
    this.xen = Hypervisor.create({ clock: realClock, onUpcall, maxLeafPages: 1024, ...options })
  }

  attach(domid: number, kernel: GuestKernel): GuestKernel {
    this.#kernels.set(domid, kernel)
    return kernel
  }

  boot(options: DomainOptions, levels: Form): GuestKernel {
    const domain = this.xen.createDomain(options)
    return this.attach(domain.domid, GuestKernel.boot(this.xen.platform(domain), { levels }))
  }

  /** dom0, with as many levels as channels need. */
  dom0(channels: number): GuestKernel {
    return this.boot({ domid: 0, frames: DOM0_FRAMES }, channels < TWO_LEVELS ? 2 : 3)
  }
}

/** The guest on its first host: connected, nothing pending. `ran` counts what its handlers saw, by channel. */
export class Source {
  readonly machine = new Machine({})
  readonly dom0: GuestKernel
  readonly kernel: GuestKernel
  readonly ran: Uint32Array
  readonly guestPorts: number[] = []
  /** dom0's port of each channel; 0: not connected any more. */
  readonly ends: number[] = []

  constructor({ channels, abi, bits, frames }: Workload) {
    this.dom0 = this.machine.dom0(channels)
    this.kernel = this.machine.boot({ domid: 1, bits, frames, maxEvtchnPort: Infinity }, formOf(abi))
    if (this.kernel.levels !== formOf(abi))
      throw new UsageError(`evtchn migrate: ${abiName(abi)} do not fit in --frames ${frames}.`)
    this.ran = new Uint32Array(channels)
    for (let i = 0; i < channels; i++) {
      const port = this.kernel.allocUnbound(0, { name: `vif${i}`, handler: () => void this.ran[i]!++ })
      this.guestPorts.push(port)
      this.ends.push(this.dom0.bindInterdomain(1, port, { handler: () => {} }))
    }
    this.ran.fill(0)
  }

  get domain(): Domain {
    return this.machine.xen.domain(1)!
  }
}
