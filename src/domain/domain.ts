/**
 * A domain: a memory, vCPUs, a port table and the port operations of its ABI. What the hypervisor believes about it is
 * here and never in guest memory.
 */

import {
  type Bits,
  type EvtchnOpName,
  type In,
  type Out,
  PAGE_SIZE,
  sharedInfo,
  VCPU_INFO_SIZE,
  XEN_LEGACY_MAX_VCPUS,
} from '../abi/index.js'
import { integer } from '../check.js'
import type { Core } from '../machine/core.js'
import type { GuestMemory } from '../machine/memory.js'
import { FifoPortOps, type FifoState } from './fifo.js'
import { LevelPortOps, sharedInfoLeaf } from './levels.js'
import { EventLock } from './lock.js'
import { PirqTable } from './pirq.js'
import type { Delivery, PortOps } from './port_ops.js'
import { PortTable } from './port_table.js'
import type { Subject } from './subject.js'
import { upcallDeliverable } from './upcall.js'
import { type TypedCall, Vcpu } from './vcpu.js'

/** Alive, being torn down, or dead (EC-die-1). */
export type Dying = 'alive' | 'dying' | 'dead'

/** How a guest takes upcalls: PV respects evtchn_upcall_mask, HVM ignores it (EC-up-6, EC-up-8). */
export type DomainType = 'pv' | 'hvm'

/** What the domain's creator grants of the N-level ABI; the host's own limits apply beside it. */
export interface NlevelLimits {
  nlevelAllowed: boolean
  maxLevels: number
  maxLeafPages: number
}

/** A domain's N-level registration: frames held until reset or death. */
export interface NlevelRegistration {
  readonly levels: number
  readonly nrPages: number
  /** The width recorded at registration (NL-tree-3). */
  readonly bits: Bits
  readonly pendingGfns: readonly number[]
  readonly maskGfns: readonly number[]
}

/** A channel whose other end was looked for when a saved domain was restored. */
export interface RestoredEnd {
  port: number
  /** The other end as the saved state has it. */
  domid: number
  remotePort: number
}

/** How a transparent restore went (NL-mig-6). */
export interface RestoreReport {
  /** Ends that are connected again; both were set pending once. */
  connected: RestoredEnd[]
  /** Ends that are UNBOUND towards the other end's domain now, and why. */
  unbound: (RestoredEnd & { reason: string })[]
  /** Ports that Xen itself had, which are free now. */
  xenPorts: number[]
  /** Ports that were raised at the frozen source, after it was saved, and here when it was replaced. */
  raised: number[]
}

/** What a domain calls on the hypervisor. */
export interface DomainHost {
  kick(vcpu: Vcpu): void
  /** A vCPU that was blocked runs again. */
  unblocked(vcpu: Vcpu): void
  /** A vCPU is online again. */
  comesUp(vcpu: Vcpu): void
  /** Wallclock in ns since 1970. */
  wallclockNs(): bigint
  typedCall: TypedCall
}

/** Settled description of a domain, made by Hypervisor.createDomain. */
export interface DomainConfig {
  domid: number
  vcpus: number
  bits: Bits
  type: DomainType
  maxEvtchnPort: number
  privileged: boolean
  sharedInfoGfn: number
  nrPirqs: number
  nlevel: NlevelLimits
}

/** One domain. Made by `Hypervisor.createDomain`. */
export class Domain implements Delivery, Subject {
  readonly domid: number
  readonly memory: GuestMemory
  readonly core: Core
  readonly type: DomainType
  readonly privileged: boolean
  readonly vcpus: readonly Vcpu[]
  readonly ports = new PortTable()
  readonly eventLock = new EventLock()
  readonly pirqs: PirqTable
  readonly nlevelLimits: NlevelLimits
  /** Inclusive limit of port numbers (EC-port-5). */
  readonly maxEvtchnPort: number
  /** Absolute address of shared_info. */
  readonly sharedInfoAt: number
  readonly sharedInfoGfn: number
  /** The domain that this one serves as stub device model. */
  target: Domain | undefined
  /** The read-only handle that the package exports (handles.ts). */
  handle: object | undefined
  dying: Dying = 'alive'
  /**
   * The domain stands still, between being saved and the end of its migration or between being restored and started: its
   * hypercalls return EAGAIN, its upcalls wait. Events for it are kept.
   */
  frozen: 'saved' | 'restored' | null = null
  /** How it was restored; null for a domain that was not, or whose guest makes its channels again. */
  restored: RestoreReport | null = null
  /** Pauses by the domain's controller, counted. */
  pauseCount = 0
  /** Reason of SCHEDOP_shutdown; -1 = running. */
  shutdownCode = -1
  /** Suspend event channel, stored unchecked (EC-xsm-7); 0 = none. */
  suspendEvtchn = 0
  /** Port from which an interrupted reset or teardown continues; 0 = none in progress (EC-reset-8). */
  nextEvtchn = 0
  /** The N-level registration; null = two levels. */
  nlevel: NlevelRegistration | null = null
  /** Queues, control blocks and event array; null = not on the FIFO ABI. */
  fifo: FifoState | null = null
  /** HVM parameter 0 (EC-up-9): callback via. */
  callbackVia = 0n

  #bits: Bits
  #ops: PortOps
  #pollers = 0
  readonly #host: DomainHost

  constructor(config: DomainConfig, memory: GuestMemory, host: DomainHost) {
    this.domid = config.domid
    this.memory = memory
    this.core = memory.core
    this.type = config.type
    this.privileged = config.privileged
    this.maxEvtchnPort = config.maxEvtchnPort
    this.nlevelLimits = config.nlevel
    this.sharedInfoGfn = config.sharedInfoGfn
    this.sharedInfoAt = memory.base + config.sharedInfoGfn * PAGE_SIZE
    this.#bits = config.bits
    this.#host = host
    this.pirqs = new PirqTable(config.nrPirqs)
    this.vcpus = Array.from({ length: config.vcpus }, (_, id) => new Vcpu(config.domid, id, memory, host.typedCall))
    for (const vcpu of this.vcpus) this.useLegacyInfo(vcpu)
    this.#ops = this.#twoLevel()
  }

  /** Width of shared_info: what the guest's mode was when it was last latched (EC-lay-4). */
  get bits(): Bits {
    return this.#bits
  }

  /** Width of the words in the event bitmaps: the one recorded at registration, else shared_info's (NL-tree-3). */
  get eventBits(): Bits {
    return this.nlevel?.bits ?? this.#bits
  }

  /** The operations of the ABI in force. */
  get portOps(): PortOps {
    return this.#ops
  }

  /** Levels of the tree in force; 0 on the FIFO ABI. */
  get levels(): number {
    return this.#ops.levels
  }

  /** Computed at each use, never cached (EC-port-4, EC-XSA-342). */
  get maxEvtchns(): number {
    return this.#ops.maxEvtchns
  }

  /** The vCPU with this number. @throws ParameterError if the domain has none. */
  vcpu(vcpuId: number): Vcpu {
    return this.vcpus[integer(`d${this.domid}.vcpu`, 'vcpuId', vcpuId, 0, this.vcpus.length - 1)]!
  }

  /** An event channel operation by vCPU 0. See `Vcpu.eventChannelOp`. */
  eventChannelOp<N extends EvtchnOpName>(op: N, args: Readonly<In<N>>): Out<N> {
    return this.vcpu(0).eventChannelOp(op, args)
  }

  #twoLevel(): PortOps {
    return new LevelPortOps(this, 2, this.#bits, sharedInfoLeaf(this.sharedInfoAt, this.#bits))
  }

  /** vCPU n < 32 begins in shared_info, any other on the dummy (EC-vi-1, EC-vi-2). Level 1 alone is active there at n = 2. */
  useLegacyInfo(vcpu: Vcpu): void {
    if (vcpu.infoGfn >= 0) this.memory.release(vcpu.infoGfn)
    vcpu.infoGfn = -1
    if (vcpu.vcpuId < XEN_LEGACY_MAX_VCPUS) {
      vcpu.info = this.sharedInfoAt + vcpu.vcpuId * VCPU_INFO_SIZE
      vcpu.activeDepth = 2
    } else {
      vcpu.loseInfo()
      vcpu.activeDepth = 0
    }
  }

  /** Switches the port operations; the caller has excluded senders (NL-set-3). */
  useOps(ops: PortOps): void {
    this.#ops = ops
  }

  /** Switches to the FIFO ABI; its state is complete by then (EC-XSA-358, EC-XSA-359). */
  enterFifo(state: FifoState): void {
    this.fifo = state
    this.useOps(new FifoPortOps(this, this.#bits, state))
  }

  /** Back to two levels from wherever the domain is: after a reset, soft reset or death (EC-reset-9, NL-reset-1). */
  returnToTwoLevels(): void {
    this.leaveNlevel()
    if (!this.fifo) return
    // Guest words stay as they are (EC-fifo-24), and so do the two-level ones, set bits included (EC-reset-11).
    this.fifo.release(this.memory)
    this.fifo = null
    this.useOps(this.#twoLevel())
  }

  /** Back from N levels to two: after a reset, soft reset or death (NL-reset-1). Frames are let go, level 1 becomes 0. */
  leaveNlevel(): void {
    const registration = this.nlevel
    for (const vcpu of this.vcpus) vcpu.record(null)
    if (!registration) return
    this.nlevel = null
    for (const gfn of registration.pendingGfns) this.memory.release(gfn)
    for (const gfn of registration.maskGfns) this.memory.release(gfn)
    const words = registration.bits / 32
    for (const vcpu of this.vcpus) {
      vcpu.activeDepth = vcpu.onDummy ? 0 : 2
      if (!vcpu.onDummy) this.core.zeroWords(vcpu.info + sharedInfo(registration.bits).sel, words)
    }
    this.useOps(this.#twoLevel())
  }

  /**
   * Latches shared_info to the width of a vCPU's mode (EC-lay-4). Pending and mask words are not converted; while the
   * domain is N-level its event width stays, and only the wallclock moves (EC-lay-5, NL-tree-3).
   */
  latchWidth(bits: Bits): void {
    if (bits === this.#bits) return
    this.#bits = bits
    if (!this.nlevel && !this.fifo) this.useOps(this.#twoLevel())
    this.updateWallclock()
  }

  /** Writes the wallclock where the current width has it, odd version while under way. */
  updateWallclock(): void {
    const at = sharedInfo(this.#bits)
    const view = new DataView(this.memory.memory.buffer, this.sharedInfoAt, PAGE_SIZE)
    const ns = this.#host.wallclockNs()
    const seconds = ns / 1_000_000_000n
    const version = (view.getUint32(at.wc_version, true) | 1) >>> 0
    view.setUint32(at.wc_version, version, true)
    view.setUint32(at.wc_sec, Number(seconds & 0xffff_ffffn), true)
    view.setUint32(at.wc_sec_hi, Number((seconds >> 32n) & 0xffff_ffffn), true)
    view.setUint32(at.wc_nsec, Number(ns % 1_000_000_000n), true)
    view.setUint32(at.wc_version, version + 1, true)
  }

  // Wrappers that refuse unusable ports (EC-port-2).

  setPending(port: number): void {
    if (this.ports.isUsable(port)) this.#ops.setPending(port)
  }
  clearPending(port: number): void {
    if (this.ports.isUsable(port)) this.#ops.clearPending(port)
  }
  unmask(port: number): void {
    if (this.ports.isUsable(port)) this.#ops.unmask(port)
  }
  isPending(port: number): boolean {
    return this.ports.isUsable(port) && this.#ops.isPending(port)
  }
  isMasked(port: number): boolean {
    return !this.ports.isUsable(port) || this.#ops.isMasked(port)
  }

  /** Keeps the EOI map that the guest registered, if it did (EC-irq-3). */
  setPirqNeedsEoi(pirq: number, needsEoi: boolean): void {
    if (this.pirqs.eoiMapGfn < 0) return
    if (needsEoi) this.core.bitSet(this.pirqs.eoiMap, pirq)
    else this.core.bitClear(this.pirqs.eoiMap, pirq)
  }

  /**
   * Tells a vCPU that its upcall flag went 0 → 1: queue the upcall and unblock it (EC-up-2). An HVM vCPU that cannot be
   * called sleeps on (EC-up-3).
   */
  kick(vcpu: Vcpu): void {
    this.#host.kick(vcpu)
    if (this.type === 'pv' || upcallDeliverable(this, vcpu)) this.unblock(vcpu)
  }

  /** Brings a vCPU online. An event raised while it was down made no upcall, and no edge follows, so it is upcalled now
   * (EC-up-6). */
  bringUp(vcpu: Vcpu): void {
    vcpu.down = false
    this.#host.comesUp(vcpu)
    if (upcallDeliverable(this, vcpu)) this.kick(vcpu)
  }

  /** Sets evtchn_upcall_pending; on the edge 0 → 1 the vCPU is told (EC-up-1). Does nothing on the dummy vcpu_info. */
  markEventsPending(vcpu: Vcpu): void {
    if (!vcpu.onDummy && this.core.markPending(vcpu.info)) this.kick(vcpu)
  }

  /** Wakes the vCPUs that poll this port, or any port (EC-up-11). */
  checkPollers(port: number): void {
    if (!this.#pollers) return
    for (const vcpu of this.vcpus) {
      if (vcpu.polling && (vcpu.pollEvtchn <= 0 || vcpu.pollEvtchn === port)) this.unblock(vcpu)
    }
  }

  /** Marks a vCPU as polling a port, or -1 for several; before anyone looks at the ports (EC-poll-4). */
  startPoll(vcpu: Vcpu, pollEvtchn: number): void {
    if (!vcpu.polling) this.#pollers++
    vcpu.setPoll(true, pollEvtchn)
    vcpu.blocked = true
  }

  /** Ends a poll without a wake-up: an early exit (EC-poll-9). */
  endPoll(vcpu: Vcpu): void {
    if (vcpu.polling) this.#pollers--
    vcpu.setPoll(false, 0)
    vcpu.blocked = false
  }

  /** Unblocks a vCPU; a poll ends with it (EC-poll-14). */
  unblock(vcpu: Vcpu): void {
    if (!vcpu.blocked) return
    this.endPoll(vcpu)
    this.#host.unblocked(vcpu)
  }
}

/** Says in which way a domain stands still. */
export const frozenText = ({ domid, frozen }: Domain): string =>
  `d${domid} stands still, ${frozen === 'saved' ? 'saved for its migration' : 'restored and not started'}`
