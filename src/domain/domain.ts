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
import type { HostCore } from '../machine/host_core.js'
import {
  DOMAIN,
  DOMAIN_BYTES,
  KICK,
  KICK_VCPU,
  KICK_VCPU_MASK,
  POLLED,
  SLOW,
  VCPU_SHIFT,
} from '../machine/host_layout.js'
import type { GuestMemory } from '../machine/memory.js'
import { frameRefs } from '../machine/memory.js'
import type { DomainConfig, DomainHost, DomainType, NlevelLimits, NlevelRegistration, RestoreReport } from './config.js'
import { FifoPortOps, type FifoState } from './fifo.js'
import { GrantEntries } from './grants.js'
import { HvmParams } from './hvm_params.js'
import { LevelPortOps, sharedInfoLeaf } from './levels.js'
import { EventLock } from './lock.js'
import { PirqTable } from './pirq.js'
import { ABI_OWN, type Delivery, enterForeign, goneOps, type PortOps } from './port_ops.js'
import { PortTable } from './port_table.js'
import { describeDomain, publishCallable } from './record.js'
import { Running } from './running.js'
import type { Subject } from './subject.js'
import { upcallDeliverable } from './upcall.js'
import { Vcpu } from './vcpu.js'
import { writeWallclock } from './wallclock.js'

/** Who makes a hypercall. */
export interface Caller {
  readonly domain: Domain
  readonly vcpu: Vcpu
}

/** One domain. Made by `Hypervisor.createDomain`. */
export class Domain extends Running implements Delivery, Subject {
  readonly domid: number
  readonly memory: GuestMemory
  readonly core: Core
  readonly type: DomainType
  readonly privileged: boolean
  readonly vcpus: readonly Vcpu[]
  /** Each vCPU as one who makes hypercalls. */
  readonly callers: readonly Caller[]
  readonly ports: PortTable
  readonly hostCore: HostCore
  /** Address of its record in the host core's memory. */
  readonly record: number
  /** Where the functions of its guest's core begin in the host core's table. */
  readonly coreSlots: number
  readonly eventLock = new EventLock()
  readonly pirqs: PirqTable
  readonly nlevelLimits: NlevelLimits
  readonly features: number | undefined
  /** Inclusive limit of port numbers (EC-port-5). */
  readonly maxEvtchnPort: number
  /** Frame of shared_info: an HVM guest may move it (placement.ts). */
  sharedInfoGfn: number
  /** How many domains serve this one as stub device models. */
  stubs = 0
  /** The read-only handle that the package exports (handles.ts). */
  handle: object | undefined
  /** How it was restored; null for a domain that was not, or whose guest makes its channels again. */
  restored: RestoreReport | null = null
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
  readonly hvmParams = new HvmParams(this)
  readonly grants: GrantEntries

  #bits: Bits
  #ops: PortOps
  #target: Domain | undefined
  readonly #host: DomainHost

  constructor(config: DomainConfig, memory: GuestMemory, host: DomainHost) {
    super()
    this.domid = config.domid
    this.memory = memory
    this.core = memory.core
    this.type = config.type
    this.privileged = config.privileged
    this.maxEvtchnPort = config.maxEvtchnPort
    this.nlevelLimits = config.nlevel
    this.features = config.features
    this.sharedInfoGfn = config.sharedInfoGfn
    this.grants = new GrantEntries(config.domid, memory, config.grantTableGfn, config.maxGrantFrames)
    this.#bits = config.bits
    this.#host = host
    this.hostCore = host.core
    this.record = host.core.memory.take(DOMAIN_BYTES)
    const slots = host.core.enter(memory.core)
    this.coreSlots = slots.first
    const vcpusAt = describeDomain(host.core, this.record, config, slots, host.policyOnSend)
    this.ports = new PortTable(host.core.memory, this.record)
    this.pirqs = new PirqTable(config.nrPirqs)
    this.vcpus = Array.from(
      { length: config.vcpus },
      (_, id) => new Vcpu(config.domid, id, memory, host.typedCall, host.core.memory, vcpusAt + (id << VCPU_SHIFT)),
    )
    this.callers = this.vcpus.map((vcpu) => ({ domain: this, vcpu }))
    for (const vcpu of this.vcpus) this.useLegacyInfo(vcpu)
    this.#ops = this.#twoLevel()
    this.#ops.enter?.()
    publishCallable(this)
    this.pauseCount = config.paused ? 1 : 0
  }

  /**
   * The domain has left the host, or never came onto it: its records are given back. What is asked later finds it dead. While
   * a thread of one of its vCPUs may still look at them they stay; this is called again when the last has gone.
   */
  dispose(): void {
    if (this.disposed || this.onThreads) return
    this.disposed = true
    this.target = undefined
    this.grants.dispose()
    const { memory } = this.hostCore
    const vcpusAt = memory.words[(this.record + DOMAIN.VCPUS) >>> 2]!
    this.#ops.leave?.()
    this.#ops = goneOps(this.#ops)
    for (const vcpu of this.vcpus) vcpu.dispose()
    this.ports.dispose()
    memory.give(vcpusAt, this.vcpus.length << VCPU_SHIFT)
    memory.give(this.record, DOMAIN_BYTES)
    this.hostCore.leave(this.core)
  }

  /** The domain that this one serves as stub device model. */
  get target(): Domain | undefined {
    return this.#target
  }
  set target(target: Domain | undefined) {
    if (this.#target) this.#target.stubs--
    this.#target = target
    if (target) target.stubs++
  }

  /** Absolute address of shared_info. */
  get sharedInfoAt(): number {
    return this.memory.base + this.sharedInfoGfn * PAGE_SIZE
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
    // The check makes a text first; a number that is right needs none.
    const vcpu = typeof vcpuId === 'number' ? this.vcpus[vcpuId] : undefined
    return vcpu ?? this.vcpus[integer(`d${this.domid}.vcpu`, 'vcpuId', vcpuId, 0, this.vcpus.length - 1)]!
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
    if (vcpu.infoGfn >= 0) frameRefs(this.memory).release(vcpu.infoGfn)
    vcpu.infoGfn = -1
    this.hostCore.lock.write(() => {
      if (vcpu.vcpuId < XEN_LEGACY_MAX_VCPUS) {
        vcpu.info = this.sharedInfoAt + vcpu.vcpuId * VCPU_INFO_SIZE
        vcpu.activeDepth = 2
      } else {
        vcpu.loseInfo()
        vcpu.activeDepth = 0
      }
    })
  }

  /** shared_info is at another frame now, and what was in it with it. Called with senders shut out. */
  sharedInfoIsAt(gfn: number): void {
    this.sharedInfoGfn = gfn
    for (const vcpu of this.vcpus)
      if (vcpu.infoGfn < 0 && !vcpu.onDummy) vcpu.info = this.sharedInfoAt + vcpu.vcpuId * VCPU_INFO_SIZE
    if (!this.nlevel && !this.fifo && this.#ops.abi !== ABI_OWN) this.useOps(this.#twoLevel())
  }

  /** Switches the port operations, with senders shut out (NL-set-3). */
  useOps(ops: PortOps): void {
    this.hostCore.lock.write(() => {
      const old = this.#ops
      this.#ops = ops
      if (ops.enter) ops.enter()
      else enterForeign(this)
      old.leave?.()
    })
  }

  /** Switches to the FIFO ABI; its state is complete by then (EC-XSA-358, EC-XSA-359). */
  enterFifo(state: FifoState): void {
    this.fifo = state
    this.useOps(new FifoPortOps(this, this.#bits, state))
  }

  /** Back to two levels from wherever the domain is: after a reset, soft reset or death (EC-reset-9, NL-reset-1). */
  returnToTwoLevels(): void {
    this.hostCore.lock.write(() => {
      this.leaveNlevel()
      if (this.#ops.abi === ABI_OWN) this.useOps(this.#twoLevel())
      if (!this.fifo) return
      // Guest words stay as they are (EC-fifo-24), and so do the two-level ones, set bits included (EC-reset-11).
      this.fifo.release(this.memory)
      this.fifo = null
      this.useOps(this.#twoLevel())
    })
  }

  /** Back from N levels to two: after a reset, soft reset or death (NL-reset-1). Frames are let go, level 1 becomes 0. */
  leaveNlevel(): void {
    const registration = this.nlevel
    for (const vcpu of this.vcpus) vcpu.record(null)
    if (!registration) return
    this.nlevel = null
    for (const gfn of registration.pendingGfns) frameRefs(this.memory).release(gfn)
    for (const gfn of registration.maskGfns) frameRefs(this.memory).release(gfn)
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
    if (!this.nlevel && !this.fifo && this.#ops.abi !== ABI_OWN) this.useOps(this.#twoLevel())
    this.updateWallclock()
  }

  /** Writes the wallclock where the current width has it. */
  updateWallclock(): void {
    writeWallclock(this.memory, this.sharedInfoAt, this.#bits, this.#host.wallclockNs())
  }

  // Wrappers that refuse unusable ports (EC-port-2).

  setPending(port: number): void {
    const result = this.hostCore.calls.raiseUsable(this.record, port)
    if (result > 0) this.finish(result, port)
    else if (result === SLOW && this.ports.isUsable(port)) this.#ops.setPending(port)
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

  /** Raises the port that one of its vCPUs bound a VIRQ to, if it did (EC-vclass-2). */
  raiseVirq(vcpu: Vcpu, virq: number): void {
    const port = vcpu.virqPort(virq)
    if (port) this.setPending(port)
  }

  /** What the host core's result leaves to do. */
  finish(result: number, port: number): void {
    if (result <= 0) return
    if (result & KICK) this.kick(this.vcpus[(result >> KICK_VCPU) & KICK_VCPU_MASK]!)
    if (result & POLLED) this.#wakePollers(port)
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

  /** A sender on another thread woke a vCPU that runs on the hypervisor's. */
  wokenElsewhere(vcpu: Vcpu): void {
    this.#host.unblocked(vcpu)
  }

  /** Brings a vCPU online. An event raised while it was down made no upcall, and no edge follows, so it is upcalled now
   * (EC-up-6). */
  bringUp(vcpu: Vcpu): void {
    vcpu.down = false
    this.#host.comesUp(vcpu)
    if (upcallDeliverable(this, vcpu)) this.kick(vcpu)
  }

  /** Sets evtchn_upcall_pending; on the edge 0 → 1 it kicks the vCPU (EC-up-1). Does nothing on the dummy vcpu_info. */
  markEventsPending(vcpu: Vcpu): void {
    if (!vcpu.onDummy && this.core.markPending(vcpu.info)) this.kick(vcpu)
  }

  /** Wakes the vCPUs that poll this port, or any port (EC-up-11): for an ABI that the host core does not know. */
  checkPollers(port: number): void {
    if (this.hostCore.memory.words[(this.record + DOMAIN.POLLERS) >>> 2]) this.#wakePollers(port)
  }

  #wakePollers(port: number): void {
    const { calls } = this.hostCore
    for (let vcpu = calls.wakePoller(this.record, port, 0); vcpu >= 0; ) {
      this.#host.unblocked(this.vcpus[vcpu]!)
      vcpu = calls.wakePoller(this.record, port, vcpu + 1)
    }
  }

  /** Marks a vCPU as polling a port, or -1 for several; before anyone looks at the ports (EC-poll-4). */
  startPoll(vcpu: Vcpu, pollEvtchn: number): void {
    this.hostCore.calls.startPoll(this.record, vcpu.vcpuId, pollEvtchn)
  }

  /** Ends a poll without a wake-up: an early exit (EC-poll-9). */
  endPoll(vcpu: Vcpu): void {
    this.hostCore.calls.wake(this.record, vcpu.vcpuId)
  }

  /** Unblocks a vCPU; a poll ends with it (EC-poll-14). */
  unblock(vcpu: Vcpu): void {
    if (vcpu.blocked && this.hostCore.calls.wake(this.record, vcpu.vcpuId)) this.#host.unblocked(vcpu)
  }
}
