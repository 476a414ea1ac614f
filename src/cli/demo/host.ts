/** The demo's host: dom0, a 64-bit and a 32-bit guest with the ABI that was asked for, and their channels. */

import { type Bits, maxDepth, PAGE_BITS } from '../../abi/index.js'
import { type Domain, GuestKernel, Hypervisor, type HypervisorOptions, type Vcpu } from '../../index.js'
import { type Abi, type Form, formOf, hasAbi, mostChannels } from '../abi.js'
import { CheckError } from '../errors.js'

/** @throws CheckError unless a result holds. */
export function check(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new CheckError(`evtchn demo: inconsistent: ${problem}`)
}

/** A guest and its driver. */
export interface Machine {
  readonly domain: Domain
  readonly kernel: GuestKernel
}

/** The three domains. */
export type Machines = Readonly<Record<'dom0' | 'guest64' | 'guest32', Machine>>

/** Runs upcalls at once, or lets events pile up as on a busy vCPU until they are drained. */
export class HeldUpcalls {
  readonly #kernels = new Map<number, GuestKernel>()
  readonly #due = new Set<number>()
  hold = false

  attach(domid: number, kernel: GuestKernel): void {
    this.#kernels.set(domid, kernel)
  }

  readonly onUpcall = (vcpu: Vcpu): void => {
    this.#due.add(vcpu.domid)
    if (!this.hold) this.drain()
  }

  drain(): void {
    for (const domid of this.#due) {
      this.#due.delete(domid)
      this.#kernels.get(domid)?.upcall()
    }
  }
}

/** A host that grants every ABI by default. */
export const makeHost = (upcalls: HeldUpcalls, options: HypervisorOptions): Hypervisor =>
  Hypervisor.create({ onUpcall: upcalls.onUpcall, maxLeafPages: 1024, ...options })

/** The ABI as a guest of this width can have it: five levels are for 32-bit guests, the others take four. */
export const abiFor = (abi: Abi, bits: Bits): Abi => (hasAbi(abi, bits) ? abi : (String(maxDepth(bits)) as Abi))

/** Frames of RAM: four levels have 512 leaf pages in each bitmap, five have 1,024. */
const FRAMES: Readonly<Record<Abi, number>> = { '2': 512, '3': 512, '4': 4096, '5': 4096, fifo: 512 }

/** Act 1: the domains boot and register what was asked for. */
export function boot(xen: Hypervisor, upcalls: HeldUpcalls, abi: Abi): Machines {
  const make = (domid: number, bits: Bits): Machine => {
    const own = abiFor(abi, bits)
    const domain = xen.createDomain({ domid, bits, frames: FRAMES[own], maxEvtchnPort: Infinity })
    const levels: Form = formOf(own)
    const kernel = GuestKernel.boot(xen.platform(domain), { levels })
    check(kernel.levels === levels, `d${domid} got ${kernel.levels} levels: ${JSON.stringify(kernel.attempts)}`)
    const most = Math.min(mostChannels(own, bits) + 1, 1024 * PAGE_BITS)
    check(kernel.channels === most, `d${domid} got ${kernel.channels} channels`)
    upcalls.attach(domid, kernel)
    return { domain, kernel }
  }
  return { dom0: make(0, 64), guest64: make(1, 64), guest32: make(2, 32) }
}

/** Connected channels: dom0's port for each, and what arrived at the guest, by guest port. */
export interface Channels {
  readonly local: Uint32Array
  readonly remote: Uint32Array
  readonly delivered: Uint32Array
}

/** Channels between two reports of progress. */
const PROGRESS = 1000

/** Act 2: a guest allocates, dom0 binds; all of it hypercalls with structs in guest memory. */
export function connect(dom0: Machine, guest: Machine, n: number, progress?: (done: number) => void): Channels {
  const local = new Uint32Array(n)
  const remote = new Uint32Array(n)
  const delivered = new Uint32Array(guest.kernel.channels)
  for (let i = 0; i < n; i++) {
    const port = guest.kernel.allocUnbound(0, { name: `vif${i}`, handler: (p) => void delivered[p]!++ })
    remote[i] = port
    local[i] = dom0.kernel.bindInterdomain(guest.domain.domid, port, { name: `back${i}`, handler: () => {} })
    if (i % PROGRESS === 0) progress?.(i)
  }
  return { local, remote, delivered }
}
