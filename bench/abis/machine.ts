/** A guest with n channels of one ABI, as the bench drives it: the library's own path on both sides, and a count of what came. */

import { type Bits, fullTreePages, PAGE_BITS, PAGE_SIZE } from '../../src/abi/index.js'
import { abiName, formOf } from '../../src/cli/abi.js'
import { CheckError } from '../../src/cli/errors.js'
import { inside } from '../../src/domain/handles.js'
import { GuestKernel, Hypervisor } from '../../src/index.js'

/** The ABIs that are compared. */
export const ABIS = ['2', '3', 'fifo'] as const
export type Abi = (typeof ABIS)[number]

/** How a machine is made. */
export interface Shape {
  abi: Abi
  bits: Bits
  /** Channels, all bound to vCPU 0. */
  channels: number
  /** The memory is shared and the core's atomics are real, as on a host with several CPUs. */
  threads: boolean
  /** Events a scan takes at a time; default what the driver takes by itself. */
  batch?: number
}

/** A booted guest. Upcalls run when the bench says so. */
export class Machine {
  readonly shape: Shape
  readonly kernel: GuestKernel
  /** Ports in the order of their numbers. */
  readonly ports: Uint32Array
  /** Events handled since the bench last set it to 0. */
  handled = 0
  /** Called by the handler of the last port, which has the highest priority where there are priorities. */
  onUrgent: () => void = () => {}
  readonly #raise: (port: number) => void
  readonly #frames: number
  readonly #private: number

  constructor(shape: Shape) {
    const { abi, bits, channels, threads, batch } = shape
    this.shape = shape
    // The bench says when the guest takes its upcalls.
    const xen = Hypervisor.create({ maxLeafPages: 1024, onUpcall: () => {} })
    // RAM for the array or the leaves, and for the driver itself.
    const frames = 512 + Math.ceil(channels / 1024)
    const domain = xen.createDomain({ domid: 1, bits, frames, shared: threads, maxEvtchnPort: Infinity })
    // As many leaf pages as these channels need.
    const nrPages = abi === '3' ? Math.min(fullTreePages(bits, 3), Math.ceil((channels + 1) / PAGE_BITS)) : undefined
    this.kernel = GuestKernel.boot(xen.platform(domain), {
      levels: formOf(abi),
      ...(nrPages && { nrPages }),
      ...(batch && { batch }),
    })
    if (this.kernel.levels !== formOf(abi))
      throw new CheckError(`${abiName(abi)} cannot be had: ${JSON.stringify(this.kernel.attempts)}`)
    this.ports = new Uint32Array(channels)
    const count = () => void this.handled++
    const urgent = () => {
      this.handled++
      this.onUrgent()
    }
    for (let i = 0; i < channels; i++) {
      const last = i === channels - 1
      this.ports[i] = this.kernel.bindIpi({ handler: last ? urgent : count, priority: last ? 0 : 7 })
    }
    const ops = inside(domain).portOps
    this.#raise = (port) => ops.setPending(port)
    this.#frames = domain.memory.heldFrames
    // Beside the port table, which is the same for all: addresses of pages, and FIFO's tails and locks.
    this.#private =
      abi === 'fifo' ? (128 + 3 + 33) * 4 : abi === '3' ? (2 * nrPages! + Math.ceil(nrPages! / bits)) * 4 : 8
  }

  /** Raises ports, as a send does once its checks are through. */
  raise(ports: ArrayLike<number>): void {
    const raise = this.#raise
    for (let i = 0; i < ports.length; i++) raise(ports[i]!)
  }

  /** The guest takes its upcall and handles all there is. */
  drain(): void {
    this.kernel.upcall(0)
  }

  /** Bytes for the ABI's words: frames that the guest gave, or for two levels the bitmaps in shared_info. */
  get guestBytes(): number {
    const { abi, bits } = this.shape
    return abi === '2' ? (2 * bits * bits) / 8 : this.#frames * PAGE_SIZE
  }
  /** Bytes of the hypervisor's own, beside the port table. */
  get privateBytes(): number {
    return this.#private
  }
}
