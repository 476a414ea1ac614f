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
  NR_VIRQS,
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
import { Migration } from './migration.js'
import { deliverPirq } from './physdev_op.js'
import { Restore, retire } from './restore.js'
import {
  type CheckedCooperative,
  type CheckedTransparent,
  checkSaved,
  clearChannels,
  type SavedCooperative,
  type SavedDomain,
  type SavedTransparent,
  type SaveMode,
  saveCooperative,
  saveTransparent,
} from './save.js'
import { RestoreError } from './saved_fields.js'
import { loadRam } from './saved_ram.js'
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
  /** A vCPU that was blocked in SCHEDOP_block or _poll goes on. Called where `onUpcall` is, and before it. */
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
  /** RAM of the host in 4 KiB frames, of which every domain has its part; ENOMEM beyond. Default: no limit. */
  maxFrames?: number
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

/** Options of a restore: the new host's terms, and what the caller grants the domain. A state by itself grants nothing. */
export interface RestoreOptions extends Partial<Omit<DomainOptions, 'frames' | 'vcpus' | 'type'>> {
  /** The frozen source that the restored domain replaces, on this host: its peers stay connected. */
  replaces?: Migration
  /** PIRQs that it may bind. Default none, or those of the source that it replaces. */
  pirqs?: readonly number[]
  /** Global VIRQs whose handler domain it becomes. Default none, or those of the source that it replaces. */
  globalVirqs?: readonly number[]
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
  readonly #unblocked: Vcpu[] = []
  readonly #polls = new Map<Vcpu, bigint>()
  readonly #migrations = new Map<Domain, Migration>()
  /** vCPUs that were unblocked while their domain stood still. */
  readonly #unblockLater = new Set<Vcpu>()
  /** vCPUs in `onUpcall`. */
  readonly #inUpcall = new Set<Vcpu>()
  readonly #maxFrames: number
  #depth = 0
  #delivering = false
  #found = ''

  private constructor(options: HypervisorOptions) {
    this.#options = options
    this.clock = options.clock ?? new ManualClock()
    this.softirqs = new Softirqs(() => this.clock.nowNs())
    this.virqs = new Virqs(() => this.#byId[0])
    this.#world = this.#makeWorld(readLimits(options))
    this.#maxFrames = integer(
      'Hypervisor.create',
      'maxFrames',
      options.maxFrames ?? Number.MAX_SAFE_INTEGER,
      0,
      Number.MAX_SAFE_INTEGER,
    )
    this.#host = {
      kick: (vcpu) => {
        this.#options.trace?.upcall?.(vcpu)
        this.#upcalls.push(vcpu)
      },
      unblocked: (vcpu) => {
        this.#polls.delete(vcpu)
        if (this.#byId[vcpu.domid]?.frozen) {
          this.#unblockLater.add(vcpu)
          return
        }
        this.#unblocked.push(vcpu)
        this.deliverUpcalls()
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
      pollTimers: { arm: ({ vcpu }, ns) => void (ns ? this.#polls.set(vcpu, ns) : this.#polls.delete(vcpu)) },
      shutdown: (domain, reason) => this.#shutdown(domain, reason),
    }
  }

  // --- domains -------------------------------------------------------------------------------------------------------

  /**
   * Creates a domain: its vCPUs online, its memory as it is, two levels, no channels.
   * @throws ParameterError for an option of the wrong type or range.
   */
  createDomain(options: DomainOptions): Domain {
    const domain = this.#build('createDomain', options)
    this.#add(domain)
    return domain
  }

  /** A domain that is not on the host yet. It may have the number of the source that it replaces. */
  #build(call: string, options: DomainOptions, replaced?: Domain): Domain {
    if (typeof options !== 'object' || options === null)
      throw new ParameterError(call, 'options', options, 'an object with at least a domid')
    const domid = integer(call, 'domid', options.domid, 0, DOMID_FIRST_RESERVED - 1)
    if (this.#byId[domid] && this.#byId[domid] !== replaced)
      throw new ParameterError(call, 'domid', domid, 'a number that no domain of this host has')
    const frames = options.frames ?? 256
    let left = this.#maxFrames
    for (const other of this.#domains()) left -= other.memory.frames
    if (frames > left) throw new XenError(call, Errno.ENOMEM, `frames is ${frames}, and the host has ${left} left`)
    const memory = new GuestMemory({
      frames,
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
    return new Domain(config, memory, this.#host)
  }

  #add(domain: Domain): void {
    const { domid } = domain
    this.#byId[domid] = domain
    this.#domids.add(domid)
    domain.updateWallclock()
    this.virqs.domainCreated(domid)
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
    this.#goesOn(domain)
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
      domain.pirqs.dropEoiMap(domain.memory)
      domain.dying = 'dead'
      this.#endMigration(domain, 'gone')
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
    this.#goesOn(domain)
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
    const domain = this.#must('resumeDomain', domid)
    if (domain.frozen) throw new XenError('resumeDomain', Errno.EAGAIN, frozenText(domain))
    domain.shutdownCode = -1
    this.#goesOn(domain)
  }

  /** The port that the domain signals when it has suspended itself; 0 = VIRQ_DOM_EXC instead. Not checked (EC-xsm-7). */
  subscribeSuspend(domid: number, port: number): void {
    this.#must('subscribeSuspend', domid).suspendEvtchn = integer('subscribeSuspend', 'port', port, 0, 2 ** 32 - 1)
  }

  // --- hypercalls ----------------------------------------------------------------------------------------------------

  /**
   * A hypercall with the guest's registers: `op` is the number, `args` up to six registers, pointers as guest virtual
   * addresses. Answers 0 or more, or -errno; nothing a guest passes makes it throw.
   */
  hypercall(vcpu: Vcpu, op: Register, args: readonly Register[]): number {
    const domain = this.#byId[vcpu.domid]
    if (domain?.vcpus[vcpu.vcpuId] !== vcpu || domain.dying !== 'alive') return -Errno.ESRCH
    if (domain.frozen) return this.#world.fail(Errno.EAGAIN, frozenText(domain))
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
   * an upcall handler there is no return to guest code. An HVM vCPU's own vector is no level but an edge (EC-up-3).
   */
  #returnToGuest(vcpu: Vcpu): void {
    if (!this.#depth && !this.#delivering && !vcpu.upcallVector) this.#upcalls.push(vcpu)
    this.deliverUpcalls()
  }

  /** A domain that was paused or shut down runs again: its vCPUs return to guest code. */
  #goesOn(domain: Domain): void {
    this.#upcalls.push(...domain.vcpus)
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
    if (domain.frozen) throw new XenError(`EVTCHNOP_${op}`, Errno.EAGAIN, frozenText(domain))
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
   * made an upcall deliverable by itself, by clearing evtchn_upcall_mask or setting evtchn_upcall_pending. vCPUs of a
   * domain that is paused, shut down or dying return to no guest code.
   */
  deliverUpcalls(also?: Vcpu): void {
    if (also) this.#upcalls.push(also)
    if (this.#depth || this.#delivering) return
    this.#delivering = true
    try {
      for (;;) {
        const woken = this.#unblocked.shift()
        if (woken) {
          this.#options.onUnblock?.(woken)
          continue
        }
        const vcpu = this.#upcalls.shift()
        if (!vcpu) return
        const domain = this.#running(vcpu)
        if (domain && upcallDeliverable(domain, vcpu)) this.#enter(domain, vcpu)
      }
    } finally {
      this.#delivering = false
    }
  }

  /** The vCPU's domain, if it is one that runs guest code. */
  #running(vcpu: Vcpu): Domain | null {
    const domain = this.#byId[vcpu.domid]
    if (domain?.vcpus[vcpu.vcpuId] !== vcpu || domain.dying !== 'alive') return null
    return domain.pauseCount || domain.shutdownCode >= 0 ? null : domain
  }

  /** The upcall itself. PV: the mask is 1 in the handler and what it was when the handler returns (EC-up-6, EC-up-7). */
  #enter(domain: Domain, vcpu: Vcpu): void {
    const { onUpcall } = this.#options
    if (!onUpcall) return
    const saved = vcpu.upcallMask
    if (domain.type === 'pv') vcpu.setUpcallMask(1)
    this.#inUpcall.add(vcpu)
    try {
      onUpcall(vcpu)
    } finally {
      this.#inUpcall.delete(vcpu)
      if (domain.type === 'pv') vcpu.setUpcallMask(saved)
    }
  }

  // --- interrupts and ports of the host ------------------------------------------------------------------------------

  /** Raises a per-vCPU VIRQ; dropped if it is not bound (EC-vclass-2). */
  sendVirq(domid: number, vcpuId: number, virq: number): void {
    const domain = this.#must('sendVirq', domid)
    integer('sendVirq', 'virq', virq, 0, NR_VIRQS - 1)
    this.#outside(() => this.virqs.sendVcpu(domain, vcpuId, virq))
  }

  /** Raises a per-domain VIRQ (EC-vclass-3). */
  sendDomainVirq(domid: number, virq: number): void {
    integer('sendDomainVirq', 'virq', virq, 0, NR_VIRQS - 1)
    this.#outside(() => this.virqs.sendDomain(this.#byId[domid], virq))
  }

  /** Raises a global VIRQ for its handler domain (EC-vclass-4). */
  sendGlobalVirq(virq: number): void {
    integer('sendGlobalVirq', 'virq', virq, 0, NR_VIRQS - 1)
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
   * @throws XenError as the allocation answers; ENOSPC if seven other functions are in use. ParameterError for a vCPU
   * that the domain has not, or a value of the wrong type.
   */
  allocXenPort(
    domid: number,
    options: { vcpuId?: number; remoteDomid: number; notify: Notifier; caller?: number },
  ): number {
    const op = 'alloc_unbound_xen_event_channel'
    const domain = this.#must(op, domid)
    const caller = this.#must(op, options.caller ?? domid)
    const vcpuId = integer(op, 'vcpuId', options.vcpuId ?? 0, 0, domain.vcpus.length - 1)
    const remoteDomid = integer(op, 'remoteDomid', options.remoteDomid, 0, 0xffff)
    if (typeof options.notify !== 'function') throw new ParameterError(op, 'notify', options.notify, 'a function')
    const slot = this.#notifiers.slotOf(options.notify)
    if (slot < 0) throw new XenError(op, Errno.ENOSPC, 'seven notification functions are in use')
    const rc = this.#outside(() => allocUnboundXen(this.#world, caller, domain, vcpuId, remoteDomid, slot))
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
   * A domain as plain data (save.ts). With `freeze` this begins a migration, whose handle `migrationOf` gives; without, it
   * is a copy, and the domain runs on. Default: true in transparent mode, where a source that ran on would be a second
   * owner of its channels; false in cooperative mode, which carries none.
   * @throws XenError ESRCH if there is no such domain; EBUSY in the middle of its hypercall, upcall or reset, or if it is
   * frozen already; EINVAL if it is dying; EOPNOTSUPP for an ABI that a transparent state cannot carry.
   */
  saveDomain(domid: number, options?: { mode?: 'cooperative'; freeze?: boolean }): SavedCooperative
  saveDomain(domid: number, options: { mode: 'transparent'; freeze?: boolean }): SavedTransparent
  saveDomain(domid: number, options: { mode?: SaveMode; freeze?: boolean }): SavedDomain
  saveDomain(domid: number, options: { mode?: SaveMode; freeze?: boolean } = {}): SavedDomain {
    const mode = readMode('saveDomain', options.mode)
    if (oneOf('saveDomain', 'freeze', options.freeze ?? mode === 'transparent', [true, false]))
      return this.beginMigration(domid, { mode }).state
    return this.#save('saveDomain', domid, mode)
  }

  /**
   * Freezes a domain and saves it. It stands still until the handle's `commit` or `abort` (migration.ts).
   * @throws as saveDomain.
   */
  beginMigration(domid: number, options?: { mode?: 'cooperative' }): Migration<SavedCooperative>
  beginMigration(domid: number, options: { mode: 'transparent' }): Migration<SavedTransparent>
  beginMigration(domid: number, options: { mode?: SaveMode }): Migration
  beginMigration(domid: number, options: { mode?: SaveMode } = {}): Migration {
    const state = this.#save('beginMigration', domid, readMode('beginMigration', options.mode))
    const domain = this.#byId[domid]!
    domain.frozen = 'saved'
    const migration = new Migration(domain, state, {
      destroy: (source) => {
        this.#migrations.delete(source)
        this.destroyDomain(source.domid)
      },
      thaw: (source) => {
        this.#migrations.delete(source)
        this.#thaw(source)
      },
    })
    this.#migrations.set(domain, migration)
    return migration
  }

  /** The migration that a frozen domain is the source of. */
  migrationOf(domid: number): Migration | undefined {
    const domain = this.#byId[domid]
    return domain && this.#migrations.get(domain)
  }

  #save(call: string, domid: number, mode: SaveMode): SavedDomain {
    const domain = this.#must(call, domid)
    const refuse = (errno: number, found: string): never => {
      throw new XenError(call, errno, `d${domid} ${found}`)
    }
    if (domain.frozen) refuse(Errno.EBUSY, domain.frozen === 'saved' ? 'is being migrated' : 'has not been started')
    if (domain.dying !== 'alive') refuse(Errno.EINVAL, `is ${domain.dying}`)
    if (domain.nextEvtchn) refuse(Errno.EBUSY, `is in the middle of a reset, at port ${domain.nextEvtchn}`)
    if (mode === 'cooperative') return saveCooperative(domain)
    // What a vCPU was about to do next is on the stack here, and no state could carry it.
    if (this.#depth) refuse(Errno.EBUSY, 'cannot be saved in the middle of a hypercall')
    if (domain.vcpus.some((vcpu) => this.#inUpcall.has(vcpu))) refuse(Errno.EBUSY, 'is in the middle of an upcall')
    const now = BigInt(Math.floor(this.clock.nowNs()))
    return saveTransparent(domain, (vcpu) => {
      const at = this.#polls.get(vcpu)
      return at === undefined ? null : at > now ? at - now : 0n
    })
  }

  /** A frozen domain goes on: what was held back is told, and every vCPU that has events is upcalled. */
  #thaw(domain: Domain): void {
    domain.frozen = null
    this.#outside(() => {
      for (const vcpu of domain.vcpus) {
        if (this.#unblockLater.delete(vcpu)) this.#unblocked.push(vcpu)
        this.#upcalls.push(vcpu)
      }
    })
  }

  #endMigration(source: Domain, status: 'committed' | 'gone'): void {
    this.#migrations.get(source)?.end(status)
    this.#migrations.delete(source)
    for (const vcpu of source.vcpus) this.#unblockLater.delete(vcpu)
  }

  /**
   * Makes a domain of a saved one, on this host's terms; `options` override what the state says of the domain's number,
   * its place in memory and its limits. Cooperative: two levels, no channels, masks set (EC-guest-6), and it runs.
   * Transparent: as it was, and it stands still until `startDomain`, so that its guest can be brought along first;
   * `Domain.restored` tells what became of its channels. With `replaces` the source is gone when this returns, and its
   * migration committed.
   * @throws SavedStateError for a damaged state, RestoreError for one that this host refuses, both naming the field;
   * ParameterError for the options. Nothing has changed then.
   */
  restoreDomain(state: unknown, options: RestoreOptions = {}): Domain {
    const checked = checkSaved(state)
    const { replaces, pirqs = [], globalVirqs = [], ...given } = options
    if (replaces && this.#migrations.get(replaces.source) !== replaces)
      throw new ParameterError('restoreDomain', 'replaces', replaces, 'a migration under way on this host')
    const source = replaces?.source
    const domain = this.#detached(checked, given, source)
    for (const pirq of [...(source?.pirqs.permitted ?? []), ...pirqs]) domain.pirqs.permitted.add(pirq)
    for (const virq of globalVirqs)
      if (
        this.virqs.refuses(integer('restoreDomain', 'globalVirqs', virq, 0, NR_VIRQS - 1), domain.domid, source, true)
      )
        throw new RestoreError('globalVirqs', Errno.EBUSY, `another domain has VIRQ ${virq} bound`)
    const target = { world: this.#world, found: () => this.#found }
    const attach = () => {
      this.#attach(domain, replaces)
      for (const virq of globalVirqs) this.virqs.setHandler(domain, virq)
    }
    if (checked.mode === 'cooperative') {
      loadRam(domain.memory, checked.ram, !given.memory)
      clearChannels(domain)
      if (source) {
        retire(target, source, new Set())
        this.virqs.closeDomExc(source)
      }
      this.#outside(attach)
      return domain
    }
    const restore = new Restore(target, domain, checked, replaces ?? null, globalVirqs)
    withMemory(() => restore.prepare())
    domain.frozen = 'restored'
    this.#outside(() => {
      domain.restored = restore.carryOut(attach, !given.memory)
    })
    const now = BigInt(Math.floor(this.clock.nowNs()))
    for (const [i, { poll }] of checked.vcpuState.entries())
      if (poll?.leftNs != null && domain.vcpus[i]!.polling) this.#polls.set(domain.vcpus[i]!, now + poll.leftNs)
    return domain
  }

  /** The domain that a state describes, not on the host yet, its memory untouched. */
  #detached(
    checked: CheckedCooperative | CheckedTransparent,
    given: Omit<RestoreOptions, 'pirqs' | 'globalVirqs' | 'replaces'>,
    source: Domain | undefined,
  ): Domain {
    const { bits, type, vcpus, frames, sharedInfoGfn, maxEvtchnPort, nrPirqs } = checked
    const domid = given.domid ?? source?.domid ?? checked.domid
    if (given.bits !== undefined && given.bits !== bits)
      throw new RestoreError('bits', Errno.EINVAL, `is ${bits}, and a state is not converted to ${given.bits}`)
    if (this.#byId[domid] && this.#byId[domid] !== source)
      throw new RestoreError('domid', Errno.EEXIST, `this host has a domain ${domid}`)
    // Domain 0 is the hardware domain, and handles what no other domain does.
    if (domid === 0 && given.domid !== 0 && !source)
      throw new RestoreError(
        'domid',
        Errno.EPERM,
        'is 0, and a state does not make a hardware domain; options.domid does',
      )
    const inherited = source && { privileged: source.privileged, ...source.nlevelLimits }
    const kept = { privileged: false, ...inherited, sharedInfoGfn, maxEvtchnPort, nrPirqs, ...given }
    return withMemory(() => this.#build('restoreDomain', { ...kept, domid, bits, type, vcpus, frames }, source))
  }

  /** Puts a restored domain on the host, in the place of the source that it replaces. */
  #attach(domain: Domain, replaces: Migration | undefined): void {
    if (!replaces) {
      this.#add(domain)
      return
    }
    const { source } = replaces
    domain.target = source.target
    this.virqs.replace(source, domain)
    this.#byId[source.domid] = undefined
    this.#domids.delete(source.domid)
    this.#add(domain)
    for (const other of this.#domains()) if (other.target === source) other.target = domain
    for (const vcpu of source.vcpus) this.#polls.delete(vcpu)
    this.#endMigration(source, 'committed')
    if (source.domid === domain.domid) return
    for (const other of this.#migrations.values()) other.renamed.set(source.domid, domain.domid)
    this.virqs.domainChanged(source.domid)
  }

  /**
   * Lets a restored domain run. `raised` are the ports that others raised at its source after it was saved
   * (`Migration.commit`): each is set pending, if it is still open. Answers how many were not pending before.
   * @throws XenError ESRCH if there is no such domain, EINVAL if it does not wait for its start.
   */
  startDomain(domid: number, { raised = [] }: { raised?: readonly number[] } = {}): number {
    const domain = this.#must('startDomain', domid)
    if (domain.frozen !== 'restored') throw new XenError('startDomain', Errno.EINVAL, `d${domid} does not wait for it`)
    for (const port of raised) integer('startDomain', 'raised', port, 1, INT_MAX)
    let added = 0
    for (const port of raised) {
      if (!domain.ports.isValid(port) || !domain.ports.isUsable(port) || domain.isPending(port)) continue
      domain.setPending(port)
      added++
    }
    this.#thaw(domain)
    return added
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

const frozenText = ({ domid, frozen }: Domain) =>
  `d${domid} stands still, ${frozen === 'saved' ? 'saved for its migration' : 'restored and not started'}`

const readMode = (call: string, mode: SaveMode | undefined): SaveMode =>
  oneOf<SaveMode>(call, 'mode', mode ?? 'cooperative', ['cooperative', 'transparent'])

/** What an engine says when it has no memory left is ENOMEM. */
function withMemory<T>(body: () => T): T {
  try {
    return body()
  } catch (error) {
    if (error instanceof RangeError) throw new RestoreError('frames', Errno.ENOMEM, error.message)
    if (error instanceof XenError && error.errno === Errno.ENOMEM && !(error instanceof RestoreError))
      throw new RestoreError('frames', Errno.ENOMEM, error.found)
    throw error
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
