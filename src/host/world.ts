/** What operations need beside the caller: the other domains, the policy, the host's limits and lines. */

import type { Bits } from '../abi/index.js'
import type { Callouts } from '../callout.js'
import type { Domain } from '../domain/domain.js'
import type { Domain as DomainHandle, Vcpu as Handle } from '../domain/handles.js'
import type { Vcpu } from '../domain/vcpu.js'
import type { IrqLines } from './irq.js'
import type { OwnOperation } from './own_abi.js'
import type { Virqs } from './virq.js'
import type { XsmPolicy } from './xsm.js'

/** The host's limits for the N-level ABI. */
export interface HostLimits {
  /** Deepest tree by width. */
  maxLevels: Readonly<Record<Bits, number>>
  /** Leaf pages per bitmap. */
  maxLeafPages: number
  /** False: the three N-level operations return ENOSYS, as in Xen itself. */
  nlevel: boolean
  /** False: no FIFO ABI, as a Xen built without it (EC-op-6). */
  fifo: boolean
}

/** A function in Xen that a Xen-attached port calls: (vCPU of the port's domain, port). */
export type Notifier = (vcpu: Handle, port: number) => void

/** Who made a hypercall that the library does not know: its vCPU, and the guest's memory as that vCPU sees it. */
export interface HypercallCaller {
  readonly domain: DomainHandle
  readonly vcpu: Handle
  /** Bytes at a guest virtual address; undefined: EFAULT. */
  copyIn(gva: number, length: number): Uint8Array | undefined
  /** Stores bytes at a guest virtual address; false: EFAULT, and a part may have been written. */
  copyOut(gva: number, bytes: Uint8Array): boolean
}

/** What the embedder does for hypercalls that the library does not know: 0 or more, -errno, or undefined for ENOSYS. */
export type FallThrough = (caller: HypercallCaller, nr: number, args: readonly number[]) => number | undefined

/** The hypervisor as its operations see it. */
export interface World {
  readonly xsm: XsmPolicy
  readonly limits: HostLimits
  readonly virqs: Virqs
  readonly irqs: IrqLines
  /** Operations of own ABIs, by number. */
  readonly ownOperations: ReadonlyMap<number, OwnOperation>
  /** The way out to the embedder's functions. */
  readonly callouts: Callouts
  /** A domain by its number, dying ones included. */
  domainById(domid: number): Domain | undefined
  /** Numbers of all domains, ascending. */
  domids(): number[]
  /** The embedder's part of the hypercalls, if it has one. */
  readonly fallThrough: FallThrough | undefined
  /** Calls the notification function in slot 1…7 (EC-xen-1). */
  notify(slot: number, vcpu: Vcpu, port: number): void
  /** Is preemption due? Asked at every 64th port of a long walk, and between the entries of a multicall. */
  preempt(): boolean
  /**
   * Called before a preempted operation continues: pending softirqs run here, as they do between two hypercalls. False: it
   * is not to continue now, for its caller makes the hypercall again.
   */
  continuation(): boolean
}
