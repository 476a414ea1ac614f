/**
 * The host: domains, hypercalls, and what the embedder does to them (create, kill, raise interrupts, move, dump). What it
 * consists of: domains.ts, upcall_queue.ts, poll_timers.ts, moving.ts; here they are one thing with checked arguments.
 */

import { type EvtchnOpName, type In, MAX_IRQ, NR_VIRQS, type OpArgs, type Out, SHUTDOWN, U32_MAX } from './abi/index.js'
import { anything, func, integer, oneOf, ParameterError, options as readOptions, within } from './check.js'
import { type Clock, ManualClock, systemTime } from './clock.js'
import type { DomainHost, Domain as InnerDomain } from './domain/domain.js'
import { type Domain, domainHandle, insideDomain, insideVcpu, type Vcpu, vcpuHandle } from './domain/handles.js'
import { deliverPirq } from './domain/pirq_list.js'
import { upcallHow } from './domain/upcall.js'
import type { Vcpu as InnerVcpu } from './domain/vcpu.js'
import { checkDumpOptions, type DumpItem, type DumpOptions, dumpInTurns, dumpItems, dumpLines } from './dump/dump.js'
import { Errno, type Outcome, Refusal, refuse, toRegister, XenError } from './errno.js'
import type { GuestPlatform } from './guest/platform.js'
import { Domains } from './host/domains.js'
import { IrqLines } from './host/irq.js'
import { checkHostOptions, type DomainOptions, type HypervisorOptions, readDomid, readLimits } from './host/options.js'
import { PollTimers } from './host/poll_timers.js'
import { sealedPolicy } from './host/sealed_policy.js'
import { Softirqs } from './host/softirq.js'
import { type Entry, UpcallQueue } from './host/upcall_queue.js'
import { Virqs } from './host/virq.js'
import type { Caller, HostLimits } from './host/world.js'
import { defaultPolicy } from './host/xsm.js'
import { dispatch, type Register, tracedCaller } from './hypercalls/dispatch.js'
import { continueReset, destroyChannels, PREEMPTED, resetDomain } from './hypercalls/evtchn/close.js'
import { runOperation } from './hypercalls/evtchn/index.js'
import { sendPort } from './hypercalls/evtchn/send.js'
import { allocUnboundXen, freeXen, Notifiers, notifyViaXen } from './hypercalls/evtchn/xen_ports.js'
import type { SchedWorld } from './hypercalls/sched_op.js'
import { checkArgs, checkRegisters, outArgs } from './hypercalls/typed_args.js'
import type { SavedCooperative, SavedDomain, SavedTransparent, SaveMode } from './migration/format.js'
import type { Migration } from './migration/handle.js'
import { frozenText, Moving, readSaveOptions } from './migration/migrations.js'
import type { RestoreOptions } from './migration/options.js'
import { ambient, Seam } from './trace/index.js'

/**
 * The domain that makes a hypercall, raw and typed calls alike; ESRCH if it dies or is gone, EAGAIN if it is frozen.
 */
function callingDomain(vcpu: InnerVcpu, domain: InnerDomain | undefined): InnerDomain | Refusal {
  if (domain?.dying !== 'alive') {
    const state = domain?.dying ?? 'gone'
    return refuse(Errno.ESRCH, () => `d${vcpu.domid} is ${state}`)
  }
  return domain.frozen ? refuse(Errno.EAGAIN, frozenText(domain)) : domain
}

/** The result of `op`. @throws XenError if it was refused */
function must(op: string, result: number | Refusal): number {
  if (result instanceof Refusal) throw XenError.of(op, result)
  return result
}

let worldIn: (xen: Hypervisor) => SchedWorld

/** The world of a host as its operations see it: for the library's own tests, and not exported by the package. */
export const worldOf = (xen: Hypervisor): SchedWorld => worldIn(xen)

/** One emulated host. */
export class Hypervisor {
  static {
    worldIn = (xen) => xen.#world
  }

  readonly clock: Clock
  readonly softirqs: Softirqs
  readonly #irqs = new IrqLines()
  readonly #virqs: Virqs
  readonly #domains: Domains
  readonly #queue: UpcallQueue
  readonly #timers = new PollTimers()
  readonly #moving: Moving
  readonly #notifiers = new Notifiers()
  readonly #options: HypervisorOptions
  readonly #world: SchedWorld
  readonly #host: DomainHost
  readonly #seam: Seam | undefined

  private constructor(options: HypervisorOptions) {
    this.#options = options
    this.#domains = new Domains(options.maxFrames)
    this.clock = options.clock ?? new ManualClock()
    const { trace = ambient().trace, faults = ambient().faults } = options
    this.#seam = Seam.of(trace, faults, () => this.clock.nowNs())
    this.#queue = new UpcallQueue(this.#domains, this.#seam?.entries(this.#entry()) ?? this.#entry())
    this.softirqs = new Softirqs(() => this.clock.nowNs())
    this.#virqs = new Virqs(() => this.#domains.get(0))
    this.#world = this.#makeWorld(readLimits(options))
    this.#host = {
      kick: (vcpu) => {
        trace?.upcall?.(this.#vcpuHandle(vcpu))
        this.#seam?.pending(vcpu)
        this.#queue.add(vcpu)
      },
      unblocked: (vcpu) => {
        this.#timers.disarm(vcpu)
        this.#queue.unblocked(vcpu)
      },
      comesUp: (vcpu) => this.#queue.comesUp(vcpu),
      wallclockNs: () => this.clock.wallclockNs(),
      typedCall: (vcpu, op, args) => this.#typedCall(vcpu, op, args),
    }
    this.#moving = new Moving({
      domains: this.#domains,
      queue: this.#queue,
      timers: this.#timers,
      clock: this.clock,
      world: this.#world,
      domainHost: this.#host,
      add: (domain) => this.#add(domain),
      destroy: (domain) => this.#destroy(domain),
    })
  }

  /**
   * A host without domains.
   * @throws ParameterError for an option of the wrong type or range.
   */
  static create(options: HypervisorOptions = {}): Hypervisor {
    return new Hypervisor(checkHostOptions(options))
  }

  #makeWorld(limits: HostLimits): SchedWorld {
    return {
      xsm: this.#options.xsm ? sealedPolicy(this.#options.xsm) : defaultPolicy,
      limits,
      virqs: this.#virqs,
      irqs: this.#irqs,
      domainById: (domid) => this.#domains.get(domid),
      domids: () => this.domids(),
      notifier: (slot) => {
        const notify = this.#notifiers.get(slot)
        return (vcpu, port) => notify(this.#vcpuHandle(vcpu), port)
      },
      preempt: () => this.#options.preempt?.() ?? false,
      continuation: () => this.softirqs.processPending(),
      pollTimers: { arm: ({ vcpu }, ns) => this.#timers.arm(vcpu, ns) },
      shutdown: (domain, reason) => this.#shutdown(domain, reason),
      seam: this.#seam,
    }
  }

  // --- domains -------------------------------------------------------------------------------------------------------

  /** The hypervisor's own domain behind a handle. @throws ParameterError for no handle; XenError ESRCH if it is not here. */
  #domain(call: string, handle: Domain, name = 'domain'): InnerDomain {
    const domain = this.#given(call, handle, name)
    if (this.#domains.get(domain.domid) !== domain)
      throw new XenError(call, Errno.ESRCH, `d${domain.domid} is not on this host, or not any more`)
    return domain
  }

  /** What is behind a handle; the domain may be gone. @throws ParameterError for no handle */
  #given(call: string, handle: Domain, name = 'domain'): InnerDomain {
    const domain = insideDomain(handle)
    if (!domain) throw new ParameterError(call, name, handle, 'a Domain, from createDomain or domain(domid)')
    return domain
  }

  /** The same for a vCPU, which may be gone. @throws ParameterError for no handle */
  #vcpu(call: string, handle: Vcpu): InnerVcpu {
    const vcpu = insideVcpu(handle)
    if (!vcpu) throw new ParameterError(call, 'vcpu', handle, 'a vCPU of a domain')
    return vcpu
  }

  /** The handle that a user's function gets. */
  #vcpuHandle(vcpu: InnerVcpu): Vcpu {
    return (vcpu.handle as Vcpu | undefined) ?? vcpuHandle(vcpu, this.#domains.of(vcpu)!)
  }

  #entry(): Entry {
    const { onUpcall, onUnblock } = this.#options
    const entry: Entry = {}
    if (onUpcall) entry.onUpcall = (vcpu, domain) => onUpcall(this.#vcpuHandle(vcpu), upcallHow(domain, vcpu))
    if (onUnblock) entry.onUnblock = (vcpu) => onUnblock(this.#vcpuHandle(vcpu))
    return entry
  }

  /**
   * Creates a domain: its vCPUs online, its memory as it is, two levels, no channels.
   * @throws ParameterError for an option of the wrong type or range; XenError ENOMEM.
   */
  createDomain(options: DomainOptions): Domain {
    const domain = this.#domains.build('createDomain', this.#host, options)
    this.#add(domain)
    return domainHandle(domain)
  }

  #add(domain: InnerDomain): void {
    this.#domains.add(domain)
    this.#seam?.host(domain.domid, 'is created')
    domain.updateWallclock()
    this.#virqs.domainCreated(domain.domid)
  }

  /** The domain with this number, dying ones included. */
  domain(domid: number): Domain | undefined {
    const domain = this.#domains.get(readDomid('domain', domid))
    return domain && domainHandle(domain)
  }

  /** Numbers of all domains, ascending. */
  domids(): number[] {
    return this.#domains.domids()
  }

  /** Makes `domain` the stub device model of `target`; undefined ends it. It may then act on its target (EC-xsm-1). */
  setTarget(domain: Domain, target: Domain | undefined): void {
    const inner = this.#domain('setTarget', domain)
    inner.target = target === undefined ? undefined : this.#domain('setTarget', target, 'target')
  }

  /** Pauses a domain by its controller; counted. A paused domain may be reset by others (EC-reset-4). */
  pauseDomain(domain: Domain): void {
    this.#domain('pauseDomain', domain).pauseCount++
  }

  /** Takes one pause back. */
  unpauseDomain(domain: Domain): void {
    const inner = this.#domain('unpauseDomain', domain)
    if (!inner.pauseCount) throw new XenError('unpauseDomain', Errno.EINVAL, `d${inner.domid} is not paused`)
    inner.pauseCount--
    this.#queue.goesOn(inner)
  }

  /** Allows a domain to bind a PIRQ. */
  permitPirq(domain: Domain, pirq: number): void {
    const { pirqs } = this.#domain('permitPirq', domain)
    pirqs.permitted.add(integer('permitPirq', 'pirq', pirq, 0, MAX_IRQ))
  }

  /** Takes the permission back; a PIRQ that is bound stays so. */
  forbidPirq(domain: Domain, pirq: number): void {
    const { pirqs } = this.#domain('forbidPirq', domain)
    pirqs.permitted.delete(integer('forbidPirq', 'pirq', pirq, 0, MAX_IRQ))
  }

  /**
   * One step of killing a domain: true when it is dead, false when preemption was due and the call is to be repeated
   * (EC-die-1, EC-die-3). Its number can still be looked up; peers find their ports unbound, silently (EC-die-5).
   */
  killStep(domain: Domain): boolean {
    return this.#killStep(this.#domain('killStep', domain))
  }

  #killStep(domain: InnerDomain): boolean {
    return this.#queue.around(() => {
      if (domain.dying === 'dead') return true
      domain.dying = 'dying'
      if (destroyChannels(this.#world, domain) === PREEMPTED) return false
      for (const vcpu of domain.vcpus) {
        if (vcpu.infoGfn >= 0) domain.memory.release(vcpu.infoGfn)
        vcpu.infoGfn = -1
        vcpu.loseInfo()
        domain.endPoll(vcpu)
        this.#timers.disarm(vcpu)
        vcpu.down = true
      }
      domain.pirqs.dropEoiMap(domain.memory)
      domain.dying = 'dead'
      this.#moving.end(domain, 'gone')
      this.#seam?.host(domain.domid, 'is dead')
      this.#virqs.domainChanged(domain.domid)
      return true
    })
  }

  /** Kills a domain, continuing after each preemption. */
  killDomain(domain: Domain): void {
    this.#kill(this.#domain('killDomain', domain))
  }

  #kill(domain: InnerDomain): void {
    while (!this.#killStep(domain)) this.softirqs.processPending()
  }

  /** Kills a domain if that is not done yet and forgets its number, which may then be used again. */
  destroyDomain(domain: Domain): void {
    this.#destroy(this.#domain('destroyDomain', domain))
  }

  #destroy(domain: InnerDomain): void {
    this.#kill(domain)
    this.#queue.around(() => {
      this.#domains.remove(domain.domid)
      this.#seam?.host(domain.domid, 'is gone')
      for (const other of this.#domains) if (other.target === domain) other.target = undefined
      this.#virqs.domainChanged(domain.domid)
    })
  }

  /**
   * Soft reset: channels closed, vcpu_info back in its legacy place, the domain runs on (EC-die-6).
   * @throws XenError EINVAL unless the domain was shut down; any refusal of the reset.
   */
  softReset(handle: Domain): void {
    const domain = this.#domain('softReset', handle)
    if (domain.shutdownCode < 0) throw new XenError('softReset', Errno.EINVAL, `d${domain.domid} is not shut down`)
    this.#queue.around(() => {
      let outcome = resetDomain(this.#world, domain, domain)
      while (outcome === PREEMPTED) {
        this.softirqs.processPending()
        outcome = continueReset(this.#world, domain, domain)
      }
      if (outcome) throw XenError.of('softReset', outcome)
      for (const vcpu of domain.vcpus) domain.useLegacyInfo(vcpu)
      domain.shutdownCode = -1
    })
    this.#queue.goesOn(domain)
  }

  /** The first reason counts: until the domain is resumed, reset or dead, another one changes nothing. */
  #shutdown(domain: InnerDomain, reason: number): void {
    if (domain.shutdownCode >= 0) return
    domain.shutdownCode = reason & 0xff
    this.#seam?.host(domain.domid, `is shut down: ${domain.shutdownCode}`)
    // A suspend is told to the suspend event channel, anything else to the handler of VIRQ_DOM_EXC (EC-vclass-6).
    if (domain.shutdownCode === SHUTDOWN.suspend && domain.suspendEvtchn) this.#sendSuspend(domain)
    else this.#virqs.domainChanged(domain.domid)
  }

  /** The port was stored unchecked: a send that fails is harmless (EC-xsm-7). */
  #sendSuspend(domain: InnerDomain): void {
    sendPort(this.#world, domain, domain.suspendEvtchn)
  }

  /** A domain that was shut down runs on: after a cancelled suspend. */
  resumeDomain(handle: Domain): void {
    const domain = this.#domain('resumeDomain', handle)
    if (domain.frozen) throw new XenError('resumeDomain', Errno.EAGAIN, frozenText(domain))
    domain.shutdownCode = -1
    this.#queue.goesOn(domain)
  }

  /** The port that the domain signals when it has suspended itself; undefined: VIRQ_DOM_EXC instead. Not checked (EC-xsm-7). */
  subscribeSuspend(domain: Domain, port: number | undefined): void {
    const inner = this.#domain('subscribeSuspend', domain)
    inner.suspendEvtchn = port === undefined ? 0 : integer('subscribeSuspend', 'port', port, 0, U32_MAX)
  }

  // --- hypercalls ----------------------------------------------------------------------------------------------------

  /**
   * A hypercall with the guest's registers: `nr` is the number, `args` up to six registers, pointers as guest virtual
   * addresses. Returns 0 or more, or -errno, whose reason `onRefusal` gets if it is given; nothing that a guest passes
   * makes it throw.
   */
  hypercall(vcpu: Vcpu, nr: Register, args: readonly Register[], onRefusal?: (refusal: Refusal) => void): number {
    const inner = this.#vcpu('hypercall', vcpu)
    checkRegisters(nr, args)
    return this.#hypercall(inner, nr, args, onRefusal)
  }

  #hypercall(vcpu: InnerVcpu, op: Register, args: readonly Register[], onRefusal?: (refusal: Refusal) => void): number {
    const domain = callingDomain(vcpu, this.#domains.of(vcpu))
    const result =
      domain instanceof Refusal
        ? domain
        : this.#queue.hypercall(vcpu, () => dispatch(this.#world, { domain, vcpu }, op, args))
    if (result instanceof Refusal) onRefusal?.(result)
    return toRegister(result)
  }

  /** The machine of a domain as its own kernel sees it: RAM and hypercalls, for `GuestKernel.boot`. */
  platform(handle: Domain): GuestPlatform {
    const domain = insideDomain(handle)
    if (!domain) throw new ParameterError('platform', 'domain', handle, 'a Domain, from createDomain or domain(domid)')
    return {
      memory: domain.memory,
      bits: domain.bits,
      vcpus: domain.vcpus.length,
      sharedInfoGfn: domain.sharedInfoGfn,
      hypercall: (vcpuId, nr, args, onRefusal) => this.#hypercall(domain.vcpu(vcpuId), nr, args, onRefusal),
    }
  }

  #typedCall<N extends EvtchnOpName>(vcpu: InnerVcpu, op: N, given: Readonly<In<N>>): Out<N> {
    const args = checkArgs(op, given)
    const domain = callingDomain(vcpu, this.#domains.of(vcpu))
    const outcome =
      domain instanceof Refusal ? domain : this.#queue.hypercall(vcpu, () => this.#runTyped({ domain, vcpu }, op, args))
    if (outcome) throw XenError.of(`EVTCHNOP_${op}`, outcome)
    return outArgs(op, args)
  }

  #runTyped<N extends EvtchnOpName>(caller: Caller, op: N, args: OpArgs<N>): Outcome {
    const run = () => runOperation(this.#world, caller, op, args)
    const seam = this.#seam
    return seam ? seam.typed(tracedCaller(caller), `EVTCHNOP_${op}`, args, run, () => outArgs(op, args)) : run()
  }

  /**
   * Hands due upcalls to `onUpcall`: happens by itself after every call. An embedder names a vCPU when its guest has
   * made an upcall deliverable by itself, by clearing evtchn_upcall_mask or setting evtchn_upcall_pending. vCPUs of a
   * domain that is paused, shut down or dying return to no guest code.
   */
  deliverUpcalls(also?: Vcpu): void {
    if (also !== undefined) this.#queue.add(this.#vcpu('deliverUpcalls', also))
    this.#queue.deliver()
  }

  // --- interrupts and ports of the host ------------------------------------------------------------------------------

  /** Raises a per-vCPU VIRQ; dropped if it is not bound there (EC-vclass-2). */
  sendVirq(handle: Vcpu, virq: number): void {
    const vcpu = this.#vcpu('sendVirq', handle)
    const domain = this.#domains.of(vcpu)
    if (!domain) throw new XenError('sendVirq', Errno.ESRCH, `d${vcpu.domid} is not on this host, or not any more`)
    integer('sendVirq', 'virq', virq, 0, NR_VIRQS - 1)
    this.#queue.around(() => this.#virqs.sendVcpu(domain, vcpu.vcpuId, virq))
  }

  /** Raises a per-domain VIRQ (EC-vclass-3). */
  sendDomainVirq(handle: Domain, virq: number): void {
    const domain = this.#domain('sendDomainVirq', handle)
    integer('sendDomainVirq', 'virq', virq, 0, NR_VIRQS - 1)
    this.#queue.around(() => this.#virqs.sendDomain(domain, virq))
  }

  /** Raises a global VIRQ for its handler domain (EC-vclass-4). */
  sendGlobalVirq(virq: number): void {
    integer('sendGlobalVirq', 'virq', virq, 0, NR_VIRQS - 1)
    this.#queue.around(() => this.#virqs.sendGlobal(virq))
  }

  /** Makes a domain the handler of a global VIRQ. @throws XenError as EC-vclass-5 says. */
  setGlobalVirqHandler(handle: Domain, virq: number): void {
    const domain = this.#domain('setGlobalVirqHandler', handle)
    integer('setGlobalVirqHandler', 'virq', virq, -(2 ** 31), U32_MAX)
    must('setGlobalVirqHandler', this.#virqs.setHandler(domain, virq))
  }

  /**
   * Takes the lowest number of a domain that was created, shut down or destroyed since it was last asked for; undefined if
   * there is none, or `domain` has not bound VIRQ_DOM_EXC (EC-vclass-6).
   */
  takeChangedDomain(domain: Domain): number | undefined {
    const domid = this.#virqs.takeChanged(this.#domain('takeChangedDomain', domain))
    return domid < 0 ? undefined : domid
  }

  /** Keeps a line for the host itself: guests that bind it get EBUSY. */
  claimIrq(irq: number): void {
    this.#irqs.claim(integer('claimIrq', 'irq', irq, 0, MAX_IRQ))
  }

  /** Raises a host interrupt for every domain on its line; `level` stays asserted until lowered by `lowerIrq`. */
  raiseIrq(irq: number, level = false): void {
    integer('raiseIrq', 'irq', irq, 0, MAX_IRQ)
    oneOf('raiseIrq', 'level', level, [true, false])
    this.#queue.around(() => {
      if (level) this.#irqs.assert(irq, true)
      for (const domid of this.#irqs.guests(irq)) deliverPirq(this.#domains.get(domid)!, irq)
    })
  }

  /** Lowers a level-triggered line. */
  lowerIrq(irq: number): void {
    this.#irqs.assert(integer('lowerIrq', 'irq', irq, 0, MAX_IRQ), false)
  }

  /** Raises a PIRQ of one domain; nothing if it is not bound (EC-irq-1). */
  sendPirq(handle: Domain, pirq: number): void {
    const domain = this.#domain('sendPirq', handle)
    integer('sendPirq', 'pirq', pirq, 0, MAX_IRQ)
    this.#queue.around(() => deliverPirq(domain, pirq))
  }

  /**
   * A Xen-attached port of a domain that `remoteDomid` may bind to (EC-xen-1). `notify` runs when the remote end sends.
   * @throws XenError for a refusal of the allocation; ENOSPC if seven other functions are in use. ParameterError for a vCPU
   * that the domain has not, or a value of the wrong type.
   */
  allocXenPort(
    handle: Domain,
    options: { vcpuId?: number; remoteDomid: number; notify: (vcpu: Vcpu, port: number) => void; caller?: Domain },
  ): number {
    const op = 'allocXenPort'
    const domain = this.#domain(op, handle)
    const {
      caller: by = handle,
      vcpuId = 0,
      notify,
    } = readOptions(op, options, {
      vcpuId: within(0, domain.vcpus.length - 1),
      remoteDomid: anything,
      notify: anything,
      caller: anything,
    })
    const caller = this.#domain(op, by, 'caller')
    const remoteDomid = integer(op, 'remoteDomid', options.remoteDomid, 0, 0xffff)
    func(op, 'notify', notify)
    const slot = this.#notifiers.slotOf(notify)
    if (slot < 0) throw new XenError(op, Errno.ENOSPC, 'seven notification functions are in use')
    return must(
      op,
      this.#queue.around(() => allocUnboundXen(this.#world, caller, domain, vcpuId, remoteDomid, slot)),
    )
  }

  /** Signals the peer of a Xen-attached port (EC-xen-3). */
  notifyViaXenPort(handle: Domain, port: number): void {
    const domain = this.#domain('notifyViaXenPort', handle)
    integer('notifyViaXenPort', 'port', port, 0, U32_MAX)
    must(
      'notifyViaXenPort',
      this.#queue.around(() => notifyViaXen(this.#world, domain, port)),
    )
  }

  /** Closes a Xen-attached port (EC-xen-4). */
  freeXenPort(handle: Domain, port: number): void {
    const domain = this.#domain('freeXenPort', handle)
    integer('freeXenPort', 'port', port, 0, U32_MAX)
    must(
      'freeXenPort',
      this.#queue.around(() => freeXen(this.#world, domain, port)),
    )
  }

  // --- migration -----------------------------------------------------------------------------------------------------

  /**
   * A domain as plain data (saved_state.ts). With `freeze` this begins a migration, whose handle `migrationOf` gives; without, it
   * is a copy, and the domain runs on. Default: true in transparent mode, where a source that ran on would be a second
   * owner of its channels; false in cooperative mode, which carries none.
   * @throws XenError ESRCH if there is no such domain; EBUSY in the middle of its hypercall, upcall or reset, or if it is
   * frozen already; EINVAL if it is dying; EOPNOTSUPP for an ABI that a transparent state cannot carry.
   */
  saveDomain(domain: Domain, options?: { mode?: 'cooperative'; freeze?: boolean }): SavedCooperative
  saveDomain(domain: Domain, options: { mode: 'transparent'; freeze?: boolean }): SavedTransparent
  saveDomain(domain: Domain, options: { mode?: SaveMode; freeze?: boolean }): SavedDomain
  saveDomain(domain: Domain, options: { mode?: SaveMode; freeze?: boolean } = {}): SavedDomain {
    const inner = this.#domain('saveDomain', domain)
    const { mode, freeze } = readSaveOptions('saveDomain', options)
    return freeze ? this.#moving.begin('saveDomain', inner, mode).state : this.#moving.save('saveDomain', inner, mode)
  }

  /**
   * Freezes a domain and saves it. It stands still until the handle's `commit` or `abort` (migration.ts).
   * @throws as saveDomain.
   */
  beginMigration(domain: Domain, options?: { mode?: 'cooperative' }): Migration<SavedCooperative>
  beginMigration(domain: Domain, options: { mode: 'transparent' }): Migration<SavedTransparent>
  beginMigration(domain: Domain, options: { mode?: SaveMode }): Migration
  beginMigration(domain: Domain, options: { mode?: SaveMode } = {}): Migration {
    const inner = this.#domain('beginMigration', domain)
    const { mode } = readSaveOptions('beginMigration', options)
    this.#seam?.host(inner.domid, `is frozen for a ${mode} move`)
    return this.#moving.begin('beginMigration', inner, mode)
  }

  /** The migration that a frozen domain is the source of. */
  migrationOf(domain: Domain): Migration | undefined {
    const inner = this.#given('migrationOf', domain)
    return this.#moving.of(inner)
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
    return domainHandle(this.#moving.restore(state, options))
  }

  /**
   * Lets a restored domain run. `raised` are the ports that others raised at its source after it was saved
   * (`Migration.commit`): each is set pending, if it is still open. Answers how many were not pending before.
   * @throws XenError ESRCH if there is no such domain, EINVAL if it does not wait for its start.
   */
  startDomain(domain: Domain, options: { raised?: readonly number[] } = {}): number {
    const inner = this.#domain('startDomain', domain)
    this.#seam?.host(inner.domid, 'is started')
    return this.#moving.start(inner, options)
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  /** Earliest time-out of a poll in ns of system time, if there is one: when to call `runTimers` next. */
  get nextTimerNs(): bigint | undefined {
    return this.#timers.nextNs
  }

  /** Ends the polls whose time has come (EC-poll-12). */
  runTimers(): void {
    this.#queue.around(() => {
      for (const vcpu of this.#timers.takeDue(systemTime(this.clock))) this.#domains.of(vcpu)?.unblock(vcpu)
    })
  }

  // --- dump ----------------------------------------------------------------------------------------------------------

  /** Debug key 'e' as items; see `dump`. */
  dumpItems(options: DumpOptions = {}): Generator<DumpItem, void, void> {
    const { pause = () => this.softirqs.processPending() } = checkDumpOptions(options)
    const world = {
      domains: () => this.#domains,
      domainById: (domid: number) => this.#domains.get(domid),
      nowNs: () => this.clock.nowNs(),
    }
    return dumpItems(world, { ...options, pause })
  }

  /**
   * Debug key 'e' as lines of text. The event lock is never held while control is with the caller; softirqs run after
   * every hold, at most `slotsPerHold` slots of the table apart (NL-dump-2).
   * @throws ParameterError for an option of the wrong type or range.
   */
  dump(options: DumpOptions = {}): Generator<string, void, void> {
    return dumpLines(this.dumpItems(options))
  }

  /** The same, giving the JavaScript event loop a turn after every hold. */
  dumpAsync(options: DumpOptions = {}): AsyncGenerator<string, void, void> {
    const { pause = () => this.softirqs.processPending() } = checkDumpOptions(options)
    return dumpInTurns((marked) => this.dumpItems({ ...options, pause: marked }), pause)
  }
}
