/**
 * The host: domains, hypercalls, and what the embedder does to them (create, kill, raise interrupts, dump).
 *
 * Upcalls never enter a guest in the middle of a hypercall: they queue, and are handed to `onUpcall` when the outermost
 * call is over, one after the other. A handler may make hypercalls of its own; what they raise joins the same queue.
 */

import {
  type Args,
  type Bits,
  DOMID_FIRST_RESERVED,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  type EvtchnOpName,
  maxDepth,
  SHUTDOWN,
} from './abi/index.js'
import { type Clock, ManualClock } from './clock.js'
import { Domain, type DomainHost, type DomainType } from './domain.js'
import { DUMP_TITLE, type DumpItem, type DumpOptions, dumpItems, formatItem } from './dump.js'
import { Errno, integer, oneOf, optional, ParameterError, XenError } from './errno.js'
import { destroyChannels, resetDomain, sendPort } from './event_channel.js'
import type { GuestPlatform } from './guest/platform.js'
import { dispatch, type Register, runOperation } from './hypercall.js'
import { IrqLines } from './irq.js'
import { GuestMemory, type Translate } from './memory.js'
import { deliverPirq } from './physdev_op.js'
import { checkSaved, restoreRam, type SavedDomain, saveCooperative } from './save.js'
import type { SchedWorld } from './sched_op.js'
import { Softirqs } from './softirq.js'
import { Turns } from './turns.js'
import { upcallDeliverable } from './upcall.js'
import type { Vcpu } from './vcpu.js'
import { Virqs } from './virq.js'
import type { Caller, HostLimits, Notifier } from './world.js'
import { allocUnboundXen, freeXen, Notifiers, notifyViaXen } from './xen_ports.js'
import { defaultPolicy, type XsmPolicy } from './xsm.js'

/** Options of a host. */
export interface HypervisorOptions {
  /**
   * A vCPU has events and may be upcalled: enter the guest's handler, whose return is the return from the interrupt.
   * Called after hypercalls, never inside one. A PV guest's evtchn_upcall_mask is 1 meanwhile.
   */
  onUpcall?: (vcpu: Vcpu) => void
  /** A vCPU that was blocked in SCHEDOP_block or _poll goes on. */
  onUnblock?: (vcpu: Vcpu) => void
  /**
   * Hooks for recording and comparing, called in the middle of an operation: they look on and call nothing. `upcall`: a
   * vCPU's evtchn_upcall_pending went 0 → 1 or its upcall is due anew, also where `onUpcall` is not called because the
   * guest masks upcalls. Default: none.
   */
  trace?: { upcall?: (vcpu: Vcpu) => void }
  /** Where time comes from. Default: a ManualClock that stands still. */
  clock?: Clock
  /** Permissions. Default: Xen's default policy. */
  xsm?: XsmPolicy
  /** Deepest N-level tree for 64-bit and 32-bit guests. Default 4 and 5; 2 grants none. */
  maxLevels?: number | Partial<Record<Bits, number>>
  /** Leaf pages per bitmap that one domain may register. Default 512. */
  maxLeafPages?: number
  /** False: a host that never heard of N levels; the operations answer ENOSYS. Default true. */
  nlevel?: boolean
  /** False: a host without the FIFO ABI (EC-op-6). Default true. */
  fifo?: boolean
  /** Asked at every 64th port of a reset or teardown: is preemption due? Default never. */
  preempt?: () => boolean
}

/** Options of a domain. */
export interface DomainOptions {
  /** 0 … 0x7fef, free on this host. */
  domid: number
  /** 1 … 8192. Default 1. */
  vcpus?: number
  /** Word width. Default 64. */
  bits?: Bits
  /** PV respects evtchn_upcall_mask, HVM needs a vector or callback to be upcalled. Default 'pv'. */
  type?: DomainType
  /** Highest port number, inclusive; -1 = no limit. Default: no limit for domain 0, 1023 for others, as xl does. */
  maxEvtchnPort?: number
  /** Control domain. Default: domain 0 only. */
  privileged?: boolean
  /** RAM in 4 KiB frames. Default 256. */
  frames?: number
  /** Live in this memory instead of one of its own, from byte `base` on. */
  memory?: WebAssembly.Memory
  base?: number
  /** A memory of its own is shared between threads. Default false. */
  shared?: boolean
  /** Guest page tables. Default: virtual is physical. */
  translate?: Translate
  /** Frame of shared_info. Default 1, which leaves frame 0 for null pointers. */
  sharedInfoGfn?: number
  /** Number of PIRQs. Default 256. */
  nrPirqs?: number
  /** May the guest have more than two levels? Default true. */
  nlevelAllowed?: boolean
  /** The domain's own limits, beside the host's. */
  maxLevels?: number
  maxLeafPages?: number
}

const INT_MAX = 2 ** 31 - 1

/** One emulated host. */
export class Hypervisor {
  readonly clock: Clock
  readonly softirqs: Softirqs
  readonly irqs = new IrqLines()
  readonly virqs: Virqs
  readonly #byId: (Domain | undefined)[] = new Array(DOMID_FIRST_RESERVED)
  readonly #domids = new Set<number>()
  readonly #notifiers = new Notifiers()
  readonly #options: HypervisorOptions
  readonly #world: SchedWorld
  readonly #host: DomainHost
  readonly #upcalls: Vcpu[] = []
  readonly #polls = new Map<Vcpu, bigint>()
  #depth = 0
  #delivering = false
  #found = ''

  private constructor(options: HypervisorOptions) {
    this.#options = options
    this.clock = options.clock ?? new ManualClock()
    this.softirqs = new Softirqs(() => this.clock.nowNs())
    this.virqs = new Virqs(() => this.#byId[0])
    this.#world = this.#makeWorld(readLimits(options))
    this.#host = {
      kick: (vcpu) => {
        this.#options.trace?.upcall?.(vcpu)
        this.#upcalls.push(vcpu)
      },
      unblocked: (vcpu) => {
        this.#polls.delete(vcpu)
        this.#options.onUnblock?.(vcpu)
      },
      wallclockNs: () => this.clock.wallclockNs(),
      typedCall: (vcpu, op, args) => this.#typedCall(vcpu, op, args),
    }
  }

  /**
   * A host without domains.
   * @throws ParameterError for an option of the wrong type or range.
   */
  static create(options: HypervisorOptions = {}): Hypervisor {
    return new Hypervisor(checkOptions(options))
  }

  #makeWorld(limits: HostLimits): SchedWorld {
    return {
      xsm: this.#options.xsm ?? defaultPolicy,
      limits,
      virqs: this.virqs,
      irqs: this.irqs,
      domainById: (domid) => this.#byId[domid],
      domids: () => this.domids(),
      notifier: (slot) => this.#notifiers.get(slot),
      preempt: () => this.#options.preempt?.() ?? false,
      continuation: () => this.softirqs.processPending(),
      fail: (errno, found) => {
        this.#found = found
        return -errno
      },
      pollTimers: { arm: ({ vcpu }, ns) => void this.#polls.set(vcpu, ns) },
      shutdown: (domain, reason) => this.#shutdown(domain, reason),
    }
  }

  // --- domains -------------------------------------------------------------------------------------------------------

  /**
   * Creates a domain: its vCPUs online, its memory as it is, two levels, no channels.
   * @throws ParameterError for an option of the wrong type or range.
   */
  createDomain(options: DomainOptions): Domain {
    const call = 'createDomain'
    if (typeof options !== 'object' || options === null)
      throw new ParameterError(call, 'options', options, 'an object with at least a domid')
    const domid = integer(call, 'domid', options.domid, 0, DOMID_FIRST_RESERVED - 1)
    if (this.#byId[domid]) throw new ParameterError(call, 'domid', domid, 'a number that no domain of this host has')
    const memory = new GuestMemory({
      frames: options.frames ?? 256,
      memory: options.memory,
      base: options.base,
      shared: options.shared,
      translate: options.translate,
    })
    const maxEvtchnPort = integer(call, 'maxEvtchnPort', options.maxEvtchnPort ?? (domid ? 1023 : -1), -1, 2 ** 32 - 1)
    const bits = oneOf<Bits>(call, 'bits', options.bits ?? 64, [32, 64])
    const config = {
      domid,
      vcpus: integer(call, 'vcpus', options.vcpus ?? 1, 1, 8192),
      bits,
      type: oneOf<DomainType>(call, 'type', options.type ?? 'pv', ['pv', 'hvm']),
      maxEvtchnPort: maxEvtchnPort < 0 ? INT_MAX : Math.min(maxEvtchnPort, INT_MAX),
      privileged: oneOf(call, 'privileged', options.privileged ?? domid === 0, [true, false]),
      sharedInfoGfn: integer(
        call,
        'sharedInfoGfn',
        options.sharedInfoGfn ?? Math.min(1, memory.frames - 1),
        0,
        memory.frames - 1,
      ),
      nrPirqs: integer(call, 'nrPirqs', options.nrPirqs ?? 256, 0, 32768),
      nlevel: {
        nlevelAllowed: oneOf(call, 'nlevelAllowed', options.nlevelAllowed ?? true, [true, false]),
        maxLevels: integer(call, 'maxLevels', options.maxLevels ?? maxDepth(bits), 2, maxDepth(bits)),
        maxLeafPages: integer(call, 'maxLeafPages', options.maxLeafPages ?? 1024, 0, 1024),
      },
    }
    const domain = new Domain(config, memory, this.#host)
    this.#byId[domid] = domain
    this.#domids.add(domid)
    domain.updateWallclock()
    this.virqs.domainCreated(domid)
    return domain
  }

  /** The domain with this number, dying ones included. */
  domain(domid: number): Domain | undefined {
    return this.#byId[domid]
  }

  /** Numbers of all domains, ascending. */
  domids(): number[] {
    return [...this.#domids].sort((a, b) => a - b)
  }

  #must(call: string, domid: number): Domain {
    const domain = this.#byId[domid]
    if (!domain) throw new XenError(call, Errno.ESRCH, `there is no domain ${domid}`)
    return domain
  }

  /** Makes `domid` the stub device model of `target` (EC-xsm-1); null ends it. */
  setTarget(domid: number, target: number | null): void {
    this.#must('setTarget', domid).target = target === null ? null : this.#must('setTarget', target)
  }

  /** Pauses a domain by its controller; counted. A paused domain may be reset by others (EC-reset-4). */
  pauseDomain(domid: number): void {
    this.#must('pauseDomain', domid).pauseCount++
  }

  /** Takes one pause back. */
  unpauseDomain(domid: number): void {
    const domain = this.#must('unpauseDomain', domid)
    if (!domain.pauseCount) throw new XenError('unpauseDomain', Errno.EINVAL, `d${domid} is not paused`)
    domain.pauseCount--
  }

  /**
   * One step of killing a domain: true when it is dead, false when preemption was due and the call is to be repeated
   * (EC-die-1, EC-die-3). Its number can still be looked up; peers find their ports unbound, silently (EC-die-5).
   */
  killStep(domid: number): boolean {
    const domain = this.#must('killDomain', domid)
    return this.#outside(() => {
      if (domain.dying === 'dead') return true
      domain.dying = 'dying'
      if (destroyChannels(this.#world, domain) === -Errno.ERESTART) return false
      for (const vcpu of domain.vcpus) {
        if (vcpu.infoGfn >= 0) domain.memory.release(vcpu.infoGfn)
        vcpu.infoGfn = -1
        vcpu.loseInfo()
        domain.endPoll(vcpu)
        this.#polls.delete(vcpu)
        vcpu.down = true
      }
      domain.dying = 'dead'
      this.virqs.domainChanged(domid)
      return true
    })
  }

  /** Kills a domain, going on after each preemption. */
  killDomain(domid: number): void {
    while (!this.killStep(domid)) this.softirqs.processPending()
  }

  /** Kills a domain if that is not done yet and forgets its number, which may then be used again. */
  destroyDomain(domid: number): void {
    this.killDomain(domid)
    this.#outside(() => {
      this.#byId[domid] = undefined
      this.#domids.delete(domid)
      for (const other of this.#domains()) if (other.target?.domid === domid) other.target = null
      this.virqs.domainChanged(domid)
    })
  }

  *#domains(): Generator<Domain> {
    for (const domid of this.#domids) yield this.#byId[domid]!
  }

  /**
   * Soft reset: channels closed, vcpu_info back in its legacy place, the domain runs on (EC-die-6).
   * @throws XenError EINVAL unless the domain was shut down; whatever the reset answers.
   */
  softReset(domid: number): void {
    const domain = this.#must('softReset', domid)
    if (domain.shutdownCode < 0) throw new XenError('softReset', Errno.EINVAL, `d${domid} is not shut down`)
    this.#outside(() => {
      let rc = resetDomain(this.#world, domain, domain, false)
      while (rc === -Errno.ERESTART) {
        this.softirqs.processPending()
        rc = resetDomain(this.#world, domain, domain, true)
      }
      if (rc) throw new XenError('softReset', rc, this.#found)
      for (const vcpu of domain.vcpus) domain.useLegacyInfo(vcpu)
      domain.shutdownCode = -1
    })
  }

  #shutdown(domain: Domain, reason: number): void {
    domain.shutdownCode = reason & 0xff
    // A suspend is told to the suspend event channel, anything else to the handler of VIRQ_DOM_EXC (EC-vclass-6).
    if (domain.shutdownCode === SHUTDOWN.suspend && domain.suspendEvtchn) this.#sendSuspend(domain)
    else this.virqs.domainChanged(domain.domid)
  }

  /** The port was stored unchecked: a send that fails is harmless (EC-xsm-7). */
  #sendSuspend(domain: Domain): void {
    sendPort(this.#world, domain, domain.suspendEvtchn)
  }

  /** A domain that was shut down runs on: after a cancelled suspend. */
  resumeDomain(domid: number): void {
    this.#must('resumeDomain', domid).shutdownCode = -1
  }

  // --- hypercalls ----------------------------------------------------------------------------------------------------

  /**
   * A hypercall with the guest's registers: `op` is the number, `args` up to six registers, pointers as guest virtual
   * addresses. Answers 0 or more, or -errno; nothing a guest passes makes it throw.
   */
  hypercall(vcpu: Vcpu, op: Register, args: readonly Register[]): number {
    const domain = this.#byId[vcpu.domid]
    if (domain?.vcpus[vcpu.vcpuId] !== vcpu || domain.dying !== 'alive') return -Errno.ESRCH
    this.#depth++
    try {
      return dispatch(this.#world, { domain, vcpu }, op, args)
    } finally {
      this.#depth--
      this.#returnToGuest(vcpu)
    }
  }

  /**
   * A vCPU goes back to guest code, where a deliverable upcall is taken whether its flag was just raised or not
   * (EC-up-6): a guest that set its own flag (NL-scan-6) or has just unmasked upcalls is not forgotten. In the middle of
   * an upcall handler there is no return to guest code.
   */
  #returnToGuest(vcpu: Vcpu): void {
    if (!this.#depth && !this.#delivering) this.#upcalls.push(vcpu)
    this.deliverUpcalls()
  }

  /** The machine of a domain as its own kernel sees it: RAM and hypercalls, for `GuestKernel.boot`. */
  platform(domain: Domain): GuestPlatform {
    return {
      memory: domain.memory,
      bits: domain.bits,
      vcpus: domain.vcpus.length,
      sharedInfoGfn: domain.sharedInfoGfn,
      hypercall: (vcpuId, op, args) => this.hypercall(domain.vcpu(vcpuId), op, args),
    }
  }

  #typedCall(vcpu: Vcpu, op: EvtchnOpName, given: Readonly<Args>): Args {
    const args = checkArgs(op, given)
    const domain = this.#byId[vcpu.domid]
    if (domain?.vcpus[vcpu.vcpuId] !== vcpu) throw new XenError(`EVTCHNOP_${op}`, Errno.ESRCH, `d${vcpu.domid} is gone`)
    this.#depth++
    let rc = 0
    let found = ''
    try {
      rc = runOperation(this.#world, { domain, vcpu }, op, args, () => true)
      found = this.#found
    } finally {
      this.#depth--
      this.#returnToGuest(vcpu)
    }
    if (rc < 0) throw new XenError(`EVTCHNOP_${op}`, rc, found)
    const out: Args = {}
    for (const [name, field] of Object.entries(EVTCHN_STRUCTS[op].fields))
      if (field.dir === 'out' && args[name] !== undefined) out[name] = args[name]
    return out
  }

  /** Runs something that may raise events, then delivers upcalls. */
  #outside<T>(body: () => T): T {
    this.#depth++
    try {
      return body()
    } finally {
      this.#depth--
      this.deliverUpcalls()
    }
  }

  /**
   * Hands due upcalls to `onUpcall`: happens by itself after every call. An embedder names a vCPU when its guest has
   * made an upcall deliverable by itself, by clearing evtchn_upcall_mask or setting evtchn_upcall_pending.
   */
  deliverUpcalls(also?: Vcpu): void {
    if (also) this.#upcalls.push(also)
    if (this.#depth || this.#delivering) return
    this.#delivering = true
    try {
      for (let vcpu = this.#upcalls.shift(); vcpu; vcpu = this.#upcalls.shift()) {
        const domain = this.#byId[vcpu.domid]
        if (domain?.vcpus[vcpu.vcpuId] === vcpu && upcallDeliverable(domain, vcpu)) this.#enter(domain, vcpu)
      }
    } finally {
      this.#delivering = false
    }
  }

  /** The upcall itself. PV: the mask is 1 in the handler and what it was when the handler returns (EC-up-6, EC-up-7). */
  #enter(domain: Domain, vcpu: Vcpu): void {
    const { onUpcall } = this.#options
    if (!onUpcall) return
    if (domain.type === 'hvm') {
      onUpcall(vcpu)
      return
    }
    const saved = vcpu.upcallMask
    vcpu.setUpcallMask(1)
    try {
      onUpcall(vcpu)
    } finally {
      vcpu.setUpcallMask(saved)
    }
  }

  // --- interrupts and ports of the host ------------------------------------------------------------------------------

  /** Raises a per-vCPU VIRQ; dropped if it is not bound (EC-vclass-2). */
  sendVirq(domid: number, vcpuId: number, virq: number): void {
    const domain = this.#must('sendVirq', domid)
    this.#outside(() => this.virqs.sendVcpu(domain, vcpuId, virq))
  }

  /** Raises a per-domain VIRQ (EC-vclass-3). */
  sendDomainVirq(domid: number, virq: number): void {
    this.#outside(() => this.virqs.sendDomain(this.#byId[domid], virq))
  }

  /** Raises a global VIRQ for its handler domain (EC-vclass-4). */
  sendGlobalVirq(virq: number): void {
    this.#outside(() => this.virqs.sendGlobal(virq))
  }

  /** Makes a domain the handler of a global VIRQ. @throws XenError as EC-vclass-5 says. */
  setGlobalVirqHandler(domid: number, virq: number): void {
    const domain = this.#must('set_global_virq_handler', domid)
    const rc = this.virqs.setHandler(domain, virq)
    if (rc) throw new XenError('set_global_virq_handler', rc, `VIRQ ${virq} for d${domid}`)
  }

  /** Raises a host interrupt for every domain on its line; `level` stays asserted until lowered by `lowerIrq`. */
  raiseIrq(irq: number, level = false): void {
    this.#outside(() => {
      if (level) this.irqs.assert(irq, true)
      for (const domid of this.irqs.guests(irq)) deliverPirq(this.#byId[domid]!, irq)
    })
  }

  /** Lowers a level-triggered line. */
  lowerIrq(irq: number): void {
    this.irqs.assert(irq, false)
  }

  /** Raises a PIRQ of one domain; nothing if it is not bound (EC-irq-1). */
  sendPirq(domid: number, pirq: number): void {
    const domain = this.#must('sendPirq', domid)
    this.#outside(() => deliverPirq(domain, pirq))
  }

  /**
   * A Xen-attached port of `domid` that `remoteDomid` may bind to (EC-xen-1). `notify` runs when the remote end sends.
   * @throws XenError as the allocation answers; ENOSPC if seven other functions are in use.
   */
  allocXenPort(
    domid: number,
    options: { vcpuId?: number; remoteDomid: number; notify: Notifier; caller?: number },
  ): number {
    const op = 'alloc_unbound_xen_event_channel'
    const domain = this.#must(op, domid)
    const caller = this.#must(op, options.caller ?? domid)
    const slot = this.#notifiers.slotOf(options.notify)
    if (slot < 0) throw new XenError(op, Errno.ENOSPC, 'seven notification functions are in use')
    const rc = this.#outside(() =>
      allocUnboundXen(this.#world, caller, domain, options.vcpuId ?? 0, options.remoteDomid, slot),
    )
    if (rc < 0) throw new XenError(op, rc, this.#found)
    return rc
  }

  /** Signals the peer of a Xen-attached port (EC-xen-3). */
  notifyViaXenPort(domid: number, port: number): void {
    const domain = this.#must('notify_via_xen_event_channel', domid)
    const rc = this.#outside(() => notifyViaXen(this.#world, domain, port))
    if (rc) throw new XenError('notify_via_xen_event_channel', rc, this.#found)
  }

  /** Closes a Xen-attached port (EC-xen-4). */
  freeXenPort(domid: number, port: number): void {
    const domain = this.#must('free_xen_event_channel', domid)
    const rc = this.#outside(() => freeXen(this.#world, domain, port))
    if (rc) throw new XenError('free_xen_event_channel', rc, this.#found)
  }

  // --- migration -----------------------------------------------------------------------------------------------------

  /**
   * A domain as plain data. Cooperative: configuration and RAM; the guest registers and binds again (NL-mig-1).
   * @throws XenError ESRCH if there is no such domain.
   */
  saveDomain(domid: number, options: { mode?: 'cooperative' } = {}): SavedDomain {
    oneOf('saveDomain', 'mode', options.mode ?? 'cooperative', ['cooperative'])
    return saveCooperative(this.#must('saveDomain', domid))
  }

  /**
   * Makes a domain of a saved one, on this host's terms: two levels, no channels, masks set (EC-guest-6).
   * `options` override what the state says of the domain's number, its place in memory and its limits.
   * @throws SavedStateError naming the field; ParameterError for the options. Nothing has changed then.
   */
  restoreDomain(
    state: unknown,
    options: Partial<Omit<DomainOptions, 'bits' | 'frames' | 'vcpus' | 'type'>> = {},
  ): Domain {
    const checked = checkSaved(state)
    const { domid, bits, type, vcpus, frames, sharedInfoGfn, maxEvtchnPort, nrPirqs } = checked
    const kept = { domid, sharedInfoGfn, maxEvtchnPort, nrPirqs, ...options }
    const domain = this.createDomain({ ...kept, bits, type, vcpus, frames })
    restoreRam(domain, checked)
    domain.updateWallclock()
    return domain
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  /** Earliest time-out of a poll in ns of system time, or null: when to call `runTimers` next. */
  get nextTimerNs(): bigint | null {
    let next: bigint | null = null
    for (const ns of this.#polls.values()) if (next === null || ns < next) next = ns
    return next
  }

  /** Ends the polls whose time has come (EC-poll-12). */
  runTimers(): void {
    const now = BigInt(Math.floor(this.clock.nowNs()))
    this.#outside(() => {
      for (const [vcpu, ns] of [...this.#polls]) if (ns <= now) this.#byId[vcpu.domid]?.unblock(vcpu)
    })
  }

  // --- dump ----------------------------------------------------------------------------------------------------------

  /** Debug key 'e' as items; see `dump`. */
  dumpItems(options: DumpOptions = {}): Generator<DumpItem, void, void> {
    const world = {
      domains: () => this.#domains(),
      domainById: (domid: number) => this.#byId[domid],
      nowNs: () => this.clock.nowNs(),
    }
    return dumpItems(world, { pause: () => this.softirqs.processPending(), ...options })
  }

  /**
   * Debug key 'e' as lines of text. The event lock is never held while control is with the caller; softirqs run after
   * every hold, at most `slotsPerHold` slots of the table apart (NL-dump-2).
   */
  *dump(options: DumpOptions = {}): Generator<string, void, void> {
    yield DUMP_TITLE
    for (const item of this.dumpItems(options)) yield* formatItem(item)
  }

  /** The same, giving the JavaScript event loop a turn after every hold. */
  async *dumpAsync(options: DumpOptions = {}): AsyncGenerator<string, void, void> {
    const turns = new Turns()
    let paused = false
    const pause = options.pause ?? (() => this.softirqs.processPending())
    const marked = () => {
      pause()
      paused = true
    }
    try {
      yield DUMP_TITLE
      for (const item of this.dumpItems({ ...options, pause: marked })) {
        if (paused) await turns.next()
        paused = false
        yield* formatItem(item)
      }
    } finally {
      turns.close()
    }
  }

  /** @internal The world as operations see it: for the library's own tests of single operations. */
  get world(): SchedWorld {
    return this.#world
  }

  /** @internal */
  callerOf(vcpu: Vcpu): Caller {
    return { domain: this.#must('callerOf', vcpu.domid), vcpu }
  }
}

function checkOptions(options: HypervisorOptions): HypervisorOptions {
  const call = 'Hypervisor.create'
  optional(call, 'options', options, 'object')
  for (const name of ['onUpcall', 'onUnblock', 'preempt'] as const) optional(call, name, options[name], 'function')
  for (const name of ['clock', 'xsm', 'trace'] as const) optional(call, name, options[name], 'object')
  return options
}

function readLimits(options: HypervisorOptions): HostLimits {
  const call = 'Hypervisor.create'
  const given = options.maxLevels ?? {}
  const each = typeof given === 'object' ? given : { 32: given, 64: Math.min(given, maxDepth(64)) }
  const depth = (bits: Bits) => integer(call, 'maxLevels', each[bits] ?? maxDepth(bits), 2, maxDepth(bits))
  return {
    maxLevels: { 32: depth(32), 64: depth(64) },
    maxLeafPages: integer(call, 'maxLeafPages', options.maxLeafPages ?? 512, 0, 1024),
    nlevel: oneOf(call, 'nlevel', options.nlevel ?? true, [true, false]),
    fifo: oneOf(call, 'fifo', options.fifo ?? true, [true, false]),
  }
}

/** A typed call's arguments: every IN member an integer that fits, and no member that the struct does not have. */
function checkArgs(op: EvtchnOpName, given: Readonly<Args>): Args {
  if (!Object.hasOwn(EVTCHNOP, op))
    throw new ParameterError('eventChannelOp', 'op', op, Object.keys(EVTCHNOP).join(', '))
  const call = `EVTCHNOP_${op}`
  const { fields } = EVTCHN_STRUCTS[op]
  if (typeof given !== 'object' || given === null) throw new ParameterError(call, 'args', given, 'an object')
  const args: Args = {}
  for (const name of Object.keys(given))
    if (fields[name]?.dir !== 'in')
      throw new ParameterError(call, name, given[name], `only ${inNames(op).join(', ') || 'no members'}`)
  for (const name of inNames(op)) {
    const max = fields[name]!.size === 8 ? Number.MAX_SAFE_INTEGER : 2 ** (8 * fields[name]!.size) - 1
    const optional = name === 'pad' || name === 'flags'
    args[name] = integer(call, name, given[name] ?? (optional ? 0 : undefined), 0, max)
  }
  return args
}

function inNames(op: EvtchnOpName): string[] {
  const { fields } = EVTCHN_STRUCTS[op]
  return Object.keys(fields).filter((name) => fields[name]!.dir === 'in')
}
