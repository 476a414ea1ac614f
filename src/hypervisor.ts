/**
 * The host: domains, hypercalls, and what the embedder does to them (create, kill, raise interrupts, move, dump). What it
 * consists of: domains.ts, upcall_queue.ts, poll_timers.ts, moving.ts; here they are one thing with checked arguments.
 */

import { type EvtchnOpName, type In, MAX_IRQ, NR_VIRQS, type OpArgs, type Out, SHUTDOWN, U32_MAX } from './abi/index.js'
import { anything, func, integer, oneOf, ParameterError, options as readOptions, within } from './check.js'
import { type Clock, ManualClock, systemTime } from './clock.js'
import { Domain, type DomainHost } from './domain/domain.js'
import { deliverPirq } from './domain/pirq_list.js'
import { Vcpu } from './domain/vcpu.js'
import { checkDumpOptions, type DumpItem, type DumpOptions, dumpInTurns, dumpItems, dumpLines } from './dump/dump.js'
import { Errno, type Outcome, Refusal, refuse, toRegister, XenError } from './errno.js'
import type { GuestPlatform } from './guest/platform.js'
import { Domains } from './host/domains.js'
import { IrqLines } from './host/irq.js'
import { checkHostOptions, type DomainOptions, type HypervisorOptions, readDomid, readLimits } from './host/options.js'
import { PollTimers } from './host/poll_timers.js'
import { Softirqs } from './host/softirq.js'
import { UpcallQueue } from './host/upcall_queue.js'
import { Virqs } from './host/virq.js'
import type { Caller, HostLimits, Notifier } from './host/world.js'
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
function callingDomain(vcpu: Vcpu, domain: Domain | undefined): Domain | Refusal {
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

/** One emulated host. */
export class Hypervisor {
  readonly clock: Clock
  readonly softirqs: Softirqs
  readonly irqs = new IrqLines()
  readonly virqs: Virqs
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
    this.#queue = new UpcallQueue(this.#domains, this.#seam?.entries(options) ?? options)
    this.softirqs = new Softirqs(() => this.clock.nowNs())
    this.virqs = new Virqs(() => this.#domains.get(0))
    this.#world = this.#makeWorld(readLimits(options))
    this.#host = {
      kick: (vcpu) => {
        trace?.upcall?.(vcpu)
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
      destroy: (domid) => this.destroyDomain(domid),
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
      xsm: this.#options.xsm ?? defaultPolicy,
      limits,
      virqs: this.virqs,
      irqs: this.irqs,
      domainById: (domid) => this.#domains.get(domid),
      domids: () => this.domids(),
      notifier: (slot) => this.#notifiers.get(slot),
      preempt: () => this.#options.preempt?.() ?? false,
      continuation: () => this.softirqs.processPending(),
      pollTimers: { arm: ({ vcpu }, ns) => this.#timers.arm(vcpu, ns) },
      shutdown: (domain, reason) => this.#shutdown(domain, reason),
      seam: this.#seam,
    }
  }

  // --- domains -------------------------------------------------------------------------------------------------------

  /**
   * Creates a domain: its vCPUs online, its memory as it is, two levels, no channels.
   * @throws ParameterError for an option of the wrong type or range.
   */
  createDomain(options: DomainOptions): Domain {
    const domain = this.#domains.build('createDomain', this.#host, options)
    this.#add(domain)
    return domain
  }

  #add(domain: Domain): void {
    this.#domains.add(domain)
    this.#seam?.host(domain.domid, 'is created')
    domain.updateWallclock()
    this.virqs.domainCreated(domain.domid)
  }

  /** The domain with this number, dying ones included. */
  domain(domid: number): Domain | undefined {
    return this.#domains.get(readDomid('domain', domid))
  }

  /** Numbers of all domains, ascending. */
  domids(): number[] {
    return this.#domains.domids()
  }

  /** Makes `domid` the stub device model of `target` (EC-xsm-1); null ends it. */
  setTarget(domid: number, target: number | null): void {
    this.#domains.must('setTarget', domid).target =
      target === null ? null : this.#domains.must('setTarget', target, 'target')
  }

  /** Pauses a domain by its controller; counted. A paused domain may be reset by others (EC-reset-4). */
  pauseDomain(domid: number): void {
    this.#domains.must('pauseDomain', domid).pauseCount++
  }

  /** Takes one pause back. */
  unpauseDomain(domid: number): void {
    const domain = this.#domains.must('unpauseDomain', domid)
    if (!domain.pauseCount) throw new XenError('unpauseDomain', Errno.EINVAL, `d${domid} is not paused`)
    domain.pauseCount--
    this.#queue.goesOn(domain)
  }

  /**
   * One step of killing a domain: true when it is dead, false when preemption was due and the call is to be repeated
   * (EC-die-1, EC-die-3). Its number can still be looked up; peers find their ports unbound, silently (EC-die-5).
   */
  killStep(domid: number): boolean {
    const domain = this.#domains.must('killDomain', domid)
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
      this.#seam?.host(domid, 'is dead')
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
    this.#queue.around(() => {
      this.#domains.remove(domid)
      this.#seam?.host(domid, 'is gone')
      for (const other of this.#domains) if (other.target?.domid === domid) other.target = null
      this.virqs.domainChanged(domid)
    })
  }

  /**
   * Soft reset: channels closed, vcpu_info back in its legacy place, the domain runs on (EC-die-6).
   * @throws XenError EINVAL unless the domain was shut down; any refusal of the reset.
   */
  softReset(domid: number): void {
    const domain = this.#domains.must('softReset', domid)
    if (domain.shutdownCode < 0) throw new XenError('softReset', Errno.EINVAL, `d${domid} is not shut down`)
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
  #shutdown(domain: Domain, reason: number): void {
    if (domain.shutdownCode >= 0) return
    domain.shutdownCode = reason & 0xff
    this.#seam?.host(domain.domid, `is shut down: ${domain.shutdownCode}`)
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
    const domain = this.#domains.must('resumeDomain', domid)
    if (domain.frozen) throw new XenError('resumeDomain', Errno.EAGAIN, frozenText(domain))
    domain.shutdownCode = -1
    this.#queue.goesOn(domain)
  }

  /** The port that the domain signals when it has suspended itself; 0 = VIRQ_DOM_EXC instead. Not checked (EC-xsm-7). */
  subscribeSuspend(domid: number, port: number): void {
    this.#domains.must('subscribeSuspend', domid).suspendEvtchn = integer('subscribeSuspend', 'port', port, 0, U32_MAX)
  }

  // --- hypercalls ----------------------------------------------------------------------------------------------------

  /**
   * A hypercall with the guest's registers: `op` is the number, `args` up to six registers, pointers as guest virtual
   * addresses. Returns 0 or more, or -errno, whose reason `onRefusal` gets if it is given; nothing that a guest passes
   * makes it throw.
   */
  hypercall(vcpu: Vcpu, op: Register, args: readonly Register[], onRefusal?: (refusal: Refusal) => void): number {
    checkRegisters(vcpu, op, args)
    const domain = callingDomain(vcpu, this.#domains.of(vcpu))
    const result =
      domain instanceof Refusal
        ? domain
        : this.#queue.hypercall(vcpu, () => dispatch(this.#world, { domain, vcpu }, op, args))
    if (result instanceof Refusal) onRefusal?.(result)
    return toRegister(result)
  }

  /** The machine of a domain as its own kernel sees it: RAM and hypercalls, for `GuestKernel.boot`. */
  platform(domain: Domain): GuestPlatform {
    if (!(domain instanceof Domain)) throw new ParameterError('platform', 'domain', domain, 'a Domain')
    return {
      memory: domain.memory,
      bits: domain.bits,
      vcpus: domain.vcpus.length,
      sharedInfoGfn: domain.sharedInfoGfn,
      hypercall: (vcpuId, op, args, onRefusal) => this.hypercall(domain.vcpu(vcpuId), op, args, onRefusal),
    }
  }

  #typedCall<N extends EvtchnOpName>(vcpu: Vcpu, op: N, given: Readonly<In<N>>): Out<N> {
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
    if (also !== undefined) {
      if (!(also instanceof Vcpu)) throw new ParameterError('deliverUpcalls', 'also', also, 'a vCPU of a domain')
      this.#queue.add(also)
    }
    this.#queue.deliver()
  }

  // --- interrupts and ports of the host ------------------------------------------------------------------------------

  /** Raises a per-vCPU VIRQ; dropped if it is not bound there, or there is no such vCPU (EC-vclass-2). */
  sendVirq(domid: number, vcpuId: number, virq: number): void {
    const domain = this.#domains.must('sendVirq', domid)
    integer('sendVirq', 'vcpuId', vcpuId, 0, U32_MAX)
    integer('sendVirq', 'virq', virq, 0, NR_VIRQS - 1)
    this.#queue.around(() => this.virqs.sendVcpu(domain, vcpuId, virq))
  }

  /** Raises a per-domain VIRQ (EC-vclass-3). */
  sendDomainVirq(domid: number, virq: number): void {
    const domain = this.#domains.get(readDomid('sendDomainVirq', domid))
    integer('sendDomainVirq', 'virq', virq, 0, NR_VIRQS - 1)
    this.#queue.around(() => this.virqs.sendDomain(domain, virq))
  }

  /** Raises a global VIRQ for its handler domain (EC-vclass-4). */
  sendGlobalVirq(virq: number): void {
    integer('sendGlobalVirq', 'virq', virq, 0, NR_VIRQS - 1)
    this.#queue.around(() => this.virqs.sendGlobal(virq))
  }

  /** Makes a domain the handler of a global VIRQ. @throws XenError as EC-vclass-5 says. */
  setGlobalVirqHandler(domid: number, virq: number): void {
    const domain = this.#domains.must('set_global_virq_handler', domid)
    integer('set_global_virq_handler', 'virq', virq, -(2 ** 31), U32_MAX)
    must('set_global_virq_handler', this.virqs.setHandler(domain, virq))
  }

  /** Raises a host interrupt for every domain on its line; `level` stays asserted until lowered by `lowerIrq`. */
  raiseIrq(irq: number, level = false): void {
    integer('raiseIrq', 'irq', irq, 0, MAX_IRQ)
    oneOf('raiseIrq', 'level', level, [true, false])
    this.#queue.around(() => {
      if (level) this.irqs.assert(irq, true)
      for (const domid of this.irqs.guests(irq)) deliverPirq(this.#domains.get(domid)!, irq)
    })
  }

  /** Lowers a level-triggered line. */
  lowerIrq(irq: number): void {
    this.irqs.assert(integer('lowerIrq', 'irq', irq, 0, MAX_IRQ), false)
  }

  /** Raises a PIRQ of one domain; nothing if it is not bound (EC-irq-1). */
  sendPirq(domid: number, pirq: number): void {
    const domain = this.#domains.must('sendPirq', domid)
    integer('sendPirq', 'pirq', pirq, 0, MAX_IRQ)
    this.#queue.around(() => deliverPirq(domain, pirq))
  }

  /**
   * A Xen-attached port of `domid` that `remoteDomid` may bind to (EC-xen-1). `notify` runs when the remote end sends.
   * @throws XenError for a refusal of the allocation; ENOSPC if seven other functions are in use. ParameterError for a vCPU
   * that the domain has not, or a value of the wrong type.
   */
  allocXenPort(
    domid: number,
    options: { vcpuId?: number; remoteDomid: number; notify: Notifier; caller?: number },
  ): number {
    const op = 'allocXenPort'
    const domain = this.#domains.must(op, domid)
    const {
      caller: by = domid,
      vcpuId = 0,
      notify,
    } = readOptions(op, options, {
      vcpuId: within(0, domain.vcpus.length - 1),
      remoteDomid: anything,
      notify: anything,
      caller: anything,
    })
    const caller = this.#domains.must(op, by, 'caller')
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
  notifyViaXenPort(domid: number, port: number): void {
    const domain = this.#domains.must('notify_via_xen_event_channel', domid)
    integer('notify_via_xen_event_channel', 'port', port, 0, U32_MAX)
    must(
      'notify_via_xen_event_channel',
      this.#queue.around(() => notifyViaXen(this.#world, domain, port)),
    )
  }

  /** Closes a Xen-attached port (EC-xen-4). */
  freeXenPort(domid: number, port: number): void {
    const domain = this.#domains.must('free_xen_event_channel', domid)
    integer('free_xen_event_channel', 'port', port, 0, U32_MAX)
    must(
      'free_xen_event_channel',
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
  saveDomain(domid: number, options?: { mode?: 'cooperative'; freeze?: boolean }): SavedCooperative
  saveDomain(domid: number, options: { mode: 'transparent'; freeze?: boolean }): SavedTransparent
  saveDomain(domid: number, options: { mode?: SaveMode; freeze?: boolean }): SavedDomain
  saveDomain(domid: number, options: { mode?: SaveMode; freeze?: boolean } = {}): SavedDomain {
    const { mode, freeze } = readSaveOptions('saveDomain', options)
    return freeze ? this.#moving.begin('saveDomain', domid, mode).state : this.#moving.save('saveDomain', domid, mode)
  }

  /**
   * Freezes a domain and saves it. It stands still until the handle's `commit` or `abort` (migration.ts).
   * @throws as saveDomain.
   */
  beginMigration(domid: number, options?: { mode?: 'cooperative' }): Migration<SavedCooperative>
  beginMigration(domid: number, options: { mode: 'transparent' }): Migration<SavedTransparent>
  beginMigration(domid: number, options: { mode?: SaveMode }): Migration
  beginMigration(domid: number, options: { mode?: SaveMode } = {}): Migration {
    const { mode } = readSaveOptions('beginMigration', options)
    this.#seam?.host(domid, `is frozen for a ${mode} move`)
    return this.#moving.begin('beginMigration', domid, mode)
  }

  /** The migration that a frozen domain is the source of. */
  migrationOf(domid: number): Migration | undefined {
    const domain = this.#domains.get(readDomid('migrationOf', domid))
    return domain && this.#moving.of(domain)
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
    return this.#moving.restore(state, options)
  }

  /**
   * Lets a restored domain run. `raised` are the ports that others raised at its source after it was saved
   * (`Migration.commit`): each is set pending, if it is still open. Answers how many were not pending before.
   * @throws XenError ESRCH if there is no such domain, EINVAL if it does not wait for its start.
   */
  startDomain(domid: number, options: { raised?: readonly number[] } = {}): number {
    this.#seam?.host(domid, 'is started')
    return this.#moving.start(domid, options)
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  /** Earliest time-out of a poll in ns of system time, or null: when to call `runTimers` next. */
  get nextTimerNs(): bigint | null {
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

  /** @internal The world as operations see it: for the library's own tests of single operations. */
  get world(): SchedWorld {
    return this.#world
  }

  /** @internal */
  callerOf(vcpu: Vcpu): Caller {
    return { domain: this.#domains.must('callerOf', vcpu.domid), vcpu }
  }
}
