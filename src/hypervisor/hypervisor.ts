/**
 * The host: domains, hypercalls, and what the embedder does to them. Here the arguments are checked and handles become the
 * hypervisor's own objects; the work is done below: booting.ts, hypercalls/calls.ts (both ways in), hypercalls/domctl.ts (life and
 * death), hypercalls/raise.ts (interrupts, Xen's own ports), migration/, dump/.
 */

import { type HvmParamName, U32_MAX } from '../abi/index.js'
import { integer, object } from '../check.js'
import { type Clock, systemTime } from '../clock.js'
import type { Domain as InnerDomain } from '../domain/domain.js'
import { type Domain, domainHandle, hvmParamIndex, type Vcpu } from '../domain/handles.js'
import { type DumpItem, dumpInTurns, dumpItems, dumpLines } from '../dump/dump.js'
import { checkDumpOptions, type DumpOptions } from '../dump/walk.js'
import type { OnRefusal } from '../errno.js'
import type { BootOptions, GuestKernel, GuestPlatform } from '../guest/index.js'
import { domainBehind, domainOn, vcpuBehind } from '../host/named.js'
import { checkHostOptions, type DomainOptions, type HypervisorOptions, readDomid } from '../host/options.js'
import type { Softirqs } from '../host/softirq.js'
import type { Continuation as HypercallContinuation, Register } from '../hypercalls/dispatch.js'
import type { Trigger, XenPortOptions } from '../hypercalls/raise.js'
import type { SchedWorld } from '../hypercalls/sched_op.js'
import { checkRegisters } from '../hypercalls/typed_args.js'
import type { SavedCooperative, SavedDomain, SavedTransparent } from '../migration/format.js'
import type { Migration } from '../migration/handle.js'
import { readSaveOptions } from '../migration/migrations.js'
import type { RestoreOptions, SaveOptions } from '../migration/options.js'
import { Booting } from './booting.js'
import type { Grants } from './grants.js'
import { Parts } from './parts.js'
import { ThreadedHost } from './threaded.js'

let worldIn: (xen: Hypervisor) => SchedWorld

/** The world of a host as its operations see it: for the library's own tests, and not exported by the package. */
export const worldOf = (xen: Hypervisor): SchedWorld => worldIn(xen)

/** One emulated host. */
export class Hypervisor extends ThreadedHost {
  static {
    worldIn = (xen) => xen.#parts.world
  }

  readonly #parts: Parts
  readonly #booting: Booting

  private constructor(parts: Parts) {
    // JavaScript does not know `private`, and only `create` checks the options.
    if (!(parts instanceof Parts)) throw new TypeError('new Hypervisor: use Hypervisor.create(options)')
    super(parts)
    this.#parts = parts
    this.#booting = new Booting(parts)
  }

  /** Where the host gets its time from. */
  get clock(): Clock {
    return this.#parts.clock
  }

  /** Pages that domains grant one another. */
  get grants(): Grants {
    return this.#parts.grants
  }

  /** The softirqs of the host's processor. */
  get softirqs(): Softirqs {
    return this.#parts.softirqs
  }

  /**
   * A host without domains.
   * @throws ParameterError for an option of the wrong type or range.
   */
  static create(options: HypervisorOptions = {}): Hypervisor {
    return new Hypervisor(new Parts(checkHostOptions(options)))
  }

  #domain(call: string, handle: Domain, name?: string): InnerDomain {
    return domainOn(this.#parts.domains, call, handle, name)
  }

  /**
   * Creates a domain: its vCPUs online, its memory as it is, two levels, no channels.
   * @throws ParameterError for an option of the wrong type or range; XenError ENOMEM.
   */
  createDomain(options: DomainOptions): Domain {
    const domain = this.#parts.domains.build('createDomain', this.#parts.domainHost, options)
    this.#parts.add(domain)
    return domainHandle(domain)
  }

  /**
   * Creates a domain and boots the library's own guest on it, whose upcalls arrive by themselves. Takes the options of
   * `createDomain` and of `GuestKernel.boot` together. If the guest cannot boot, there is no domain.
   * @throws ParameterError for an option of the wrong type or range; XenError with the hypervisor's reason.
   */
  boot(options: DomainOptions & BootOptions): GuestKernel {
    return this.#booting.boot(options)
  }

  /**
   * Gives the upcalls of a domain to a guest that was booted elsewhere: after `restoreDomain`, and after the guest's
   * `moveTo` or before its `resume`.
   * @throws ParameterError for what is no domain or no GuestKernel; XenError ESRCH if the domain is gone.
   */
  adopt(domain: Domain, guest: GuestKernel): void {
    this.#booting.adopt(this.#domain('adopt', domain), guest)
  }

  /** The domain with this number, dying ones included. */
  domain(domid: number): Domain | undefined {
    const domain = this.#parts.domains.get(readDomid('domain', domid))
    return domain && domainHandle(domain)
  }

  /** Numbers of all domains, ascending. */
  domids(): number[] {
    return this.#parts.domains.domids()
  }

  /** Makes `domain` the stub device model of `target`; undefined ends it. It may then act on its target (EC-xsm-1). */
  setTarget(domain: Domain, target: Domain | undefined): void {
    this.#domain('setTarget', domain).target =
      target === undefined ? undefined : this.#domain('setTarget', target, 'target')
  }

  /** Pauses a domain by its controller; counted. A paused domain may be reset by others (EC-reset-4). */
  pauseDomain(domain: Domain): void {
    this.#domain('pauseDomain', domain).pauseCount++
  }

  /** Takes one pause back. @throws XenError EINVAL if the domain is not paused */
  unpauseDomain(domain: Domain): void {
    this.#parts.domctl.unpause(this.#domain('unpauseDomain', domain))
  }

  /** Allows a domain to bind a PIRQ. */
  permitPirq(domain: Domain, pirq: number): void {
    this.#parts.interrupts.permit('permitPirq', this.#domain('permitPirq', domain), pirq)
  }

  /** Takes the permission back; a PIRQ that is bound stays so. */
  forbidPirq(domain: Domain, pirq: number): void {
    this.#parts.interrupts.permit('forbidPirq', this.#domain('forbidPirq', domain), pirq)
  }

  /**
   * One step of killing a domain: true when it is dead, false when preemption was due and the call is to be repeated
   * (EC-die-1, EC-die-3). Its number can still be looked up; peers find their ports unbound, silently (EC-die-5).
   */
  killStep(domain: Domain): boolean {
    return this.#parts.domctl.killStep(this.#domain('killStep', domain))
  }

  /** Kills a domain, continuing after each preemption. */
  killDomain(domain: Domain): void {
    this.#parts.domctl.kill(this.#domain('killDomain', domain))
  }

  /** Kills a domain if that is not done yet and forgets its number, which may then be used again. */
  destroyDomain(domain: Domain): void {
    this.#parts.domctl.destroy(this.#domain('destroyDomain', domain))
  }

  /** One step of a soft reset: true when it is done, false when preemption was due and the call is to be repeated. */
  softResetStep(domain: Domain): boolean {
    return this.#parts.domctl.softResetStep(this.#domain('softResetStep', domain))
  }

  /**
   * Soft reset: channels closed, vcpu_info back in its legacy place, and the domain runs (EC-die-6).
   * @throws XenError EINVAL unless the domain was shut down; any refusal of the reset.
   */
  softReset(domain: Domain): void {
    this.#parts.domctl.softReset(this.#domain('softReset', domain))
  }

  /** Lets a domain run that was shut down: after a cancelled suspend. @throws XenError EAGAIN while it is frozen */
  resumeDomain(domain: Domain): void {
    this.#parts.domctl.resume(this.#domain('resumeDomain', domain))
  }

  /** The port that the domain signals when it has suspended itself; undefined: VIRQ_DOM_EXC instead. Not checked (EC-xsm-7). */
  subscribeSuspend(domain: Domain, port: number | undefined): void {
    const inner = this.#domain('subscribeSuspend', domain)
    inner.suspendEvtchn = port === undefined ? 0 : integer('subscribeSuspend', 'port', port, 0, U32_MAX)
  }

  /** Sets an HVM parameter, as the toolstack does. @throws XenError EINVAL for a PV domain, EEXIST for HVM_PARAM_ALTP2M twice. */
  setHvmParam(domain: Domain, name: HvmParamName, value: bigint): void {
    this.#parts.domctl.setHvmParam(this.#domain('setHvmParam', domain), hvmParamIndex('setHvmParam', name), value)
  }

  // --- hypercalls ----------------------------------------------------------------------------------------------------

  /**
   * A hypercall with the guest's registers: `nr` is the number, `args` up to six registers, pointers as guest virtual
   * addresses. Returns 0 or more, or -errno, whose reason `onRefusal` gets if it is given; nothing that a guest passes
   * makes it throw.
   */
  hypercall(vcpu: Vcpu, nr: Register, args: readonly Register[], onRefusal?: OnRefusal): number {
    const inner = vcpuBehind('hypercall', vcpu)
    checkRegisters(nr, args)
    return this.#parts.calls.raw(inner, nr, args, onRefusal)
  }

  /**
   * The same, a piece at a time: where `preempt` says that preemption is due, a multicall or a reset ends, and what is
   * returned are the registers to make the hypercall with again, as Xen leaves them to a guest (EC-op-7). Between the
   * pieces the embedder's event loop and other vCPUs run.
   */
  hypercallStep(
    vcpu: Vcpu,
    nr: Register,
    args: readonly Register[],
    onRefusal?: OnRefusal,
  ): number | HypercallContinuation {
    const inner = vcpuBehind('hypercallStep', vcpu)
    checkRegisters(nr, args)
    return this.#parts.calls.step(inner, nr, args, onRefusal)
  }

  /** The machine of a domain as its own kernel sees it: RAM and hypercalls, for `GuestKernel.boot`. */
  platform(domain: Domain): GuestPlatform {
    return this.#booting.platform(domainBehind('platform', domain))
  }

  /**
   * Delivers due upcalls, which happens by itself after every call. Name a vCPU when its guest has made an upcall
   * deliverable by itself, by clearing evtchn_upcall_mask or setting evtchn_upcall_pending. vCPUs of a domain that is
   * paused, shut down or dying return to no guest code.
   */
  deliverUpcalls(vcpu?: Vcpu): void {
    if (vcpu !== undefined) this.#parts.queue.add(vcpuBehind('deliverUpcalls', vcpu))
    this.#parts.queue.deliver()
  }

  /** Raises a per-vCPU VIRQ; dropped if it is not bound there (EC-vclass-2). @throws XenError ESRCH if the domain is gone */
  sendVirq(vcpu: Vcpu, virq: number): void {
    this.#parts.interrupts.vcpuVirq(vcpuBehind('sendVirq', vcpu), virq)
  }

  /** Raises a per-domain VIRQ (EC-vclass-3). */
  sendDomainVirq(domain: Domain, virq: number): void {
    this.#parts.interrupts.domainVirq(this.#domain('sendDomainVirq', domain), virq)
  }

  /** Raises a global VIRQ for its handler domain (EC-vclass-4). */
  sendGlobalVirq(virq: number): void {
    this.#parts.interrupts.globalVirq(virq)
  }

  /** Makes a domain the handler of a global VIRQ. @throws XenError as EC-vclass-5 says. */
  setGlobalVirqHandler(domain: Domain, virq: number): void {
    this.#parts.interrupts.setGlobalHandler(this.#domain('setGlobalVirqHandler', domain), virq)
  }

  /**
   * Takes the lowest number of a domain that was created, shut down or destroyed since it was last asked for; undefined if
   * there is none, or `domain` has not bound VIRQ_DOM_EXC (EC-vclass-6).
   */
  takeChangedDomain(domain: Domain): number | undefined {
    const domid = this.#parts.virqs.takeChanged(this.#domain('takeChangedDomain', domain))
    return domid < 0 ? undefined : domid
  }

  /** Keeps a line for the host itself: guests that bind it get EBUSY. */
  claimIrq(irq: number): void {
    this.#parts.interrupts.claim(irq)
  }

  /** Raises a host interrupt for every domain on its line. With `level` it stays asserted until `lowerIrq`. */
  raiseIrq(irq: number, trigger: Trigger = 'edge'): void {
    this.#parts.interrupts.raise(irq, trigger)
  }

  /** Lowers a level-triggered line. */
  lowerIrq(irq: number): void {
    this.#parts.interrupts.lower(irq)
  }

  /** Raises a PIRQ of one domain; nothing if it is not bound (EC-irq-1). */
  sendPirq(domain: Domain, pirq: number): void {
    this.#parts.interrupts.pirq(this.#domain('sendPirq', domain), pirq)
  }

  /**
   * A Xen-attached port of a domain that `remoteDomid` may bind to (EC-xen-1). `notify` runs when the remote end sends.
   * The policy is asked about `caller`, by default the domain itself.
   * @throws XenError for a refusal of the allocation; ENOSPC if seven other functions are in use. ParameterError for a vCPU
   * that the domain has not, or a value of the wrong type.
   */
  allocXenPort(domain: Domain, options: XenPortOptions & { caller?: Domain }): number {
    const { caller = domain, ...port } = object('allocXenPort', 'options', options)
    const inner = this.#domain('allocXenPort', domain)
    return this.#parts.interrupts.allocXenPort(inner, this.#domain('allocXenPort', caller, 'caller'), port)
  }

  /** Signals the peer of a Xen-attached port (EC-xen-3). */
  notifyViaXenPort(domain: Domain, port: number): void {
    this.#parts.interrupts.notifyViaXenPort(this.#domain('notifyViaXenPort', domain), port)
  }

  /** Closes a Xen-attached port (EC-xen-4). */
  freeXenPort(domain: Domain, port: number): void {
    this.#parts.interrupts.freeXenPort(this.#domain('freeXenPort', domain), port)
  }

  /**
   * A domain as plain data (migration/format.ts). With `freeze` this begins a migration, whose handle `migrationOf` gives; without, it
   * is a copy, and the domain runs on. Default: true in transparent mode, where a source that ran on would be a second
   * owner of its channels; false in cooperative mode, which carries none.
   * @throws XenError ESRCH if there is no such domain; EBUSY in the middle of its hypercall, upcall or reset, or if it is
   * frozen already; EINVAL if it is dying; EOPNOTSUPP for an ABI that a transparent state cannot carry.
   */
  saveDomain(domain: Domain, options?: SaveOptions & { mode?: 'cooperative'; freeze?: boolean }): SavedCooperative
  saveDomain(domain: Domain, options: SaveOptions & { mode: 'transparent'; freeze?: boolean }): SavedTransparent
  saveDomain(domain: Domain, options: SaveOptions & { freeze?: boolean }): SavedDomain
  saveDomain(domain: Domain, options: SaveOptions & { freeze?: boolean } = {}): SavedDomain {
    const inner = this.#domain('saveDomain', domain)
    const { freeze, ...how } = readSaveOptions('saveDomain', options)
    return freeze
      ? this.#parts.moving.begin('saveDomain', inner, how).state
      : this.#parts.moving.save('saveDomain', inner, how)
  }

  /** Freezes a domain and saves it. It stands still until the handle's `commit` or `abort`. @throws as saveDomain. */
  beginMigration(domain: Domain, options?: SaveOptions & { mode?: 'cooperative' }): Migration<SavedCooperative>
  beginMigration(domain: Domain, options: SaveOptions & { mode: 'transparent' }): Migration<SavedTransparent>
  beginMigration(domain: Domain, options: SaveOptions): Migration
  beginMigration(domain: Domain, options: SaveOptions = {}): Migration {
    const inner = this.#domain('beginMigration', domain)
    const how = readSaveOptions('beginMigration', options)
    this.#parts.tell(inner, `is frozen for a ${how.mode} move`)
    return this.#parts.moving.begin('beginMigration', inner, how)
  }

  /** The migration that a frozen domain is the source of. */
  migrationOf(domain: Domain): Migration | undefined {
    return this.#parts.moving.of(domainBehind('migrationOf', domain))
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
    return domainHandle(this.#parts.moving.restore(state, options))
  }

  /**
   * Lets a restored domain run. `raised` are the ports that others raised at its source after it was saved
   * (`Migration.commit`): each is set pending, if it is still open. Returns how many were not pending before.
   * @throws XenError ESRCH if there is no such domain, EINVAL if it does not wait for its start.
   */
  startDomain(domain: Domain, options: { raised?: readonly number[] } = {}): number {
    const inner = this.#domain('startDomain', domain)
    this.#parts.tell(inner, 'is started')
    return this.#parts.moving.start(inner, options)
  }

  /** Earliest time-out of a poll in ns of system time, if there is one: when to call `runTimers` next. */
  get nextTimerNs(): bigint | undefined {
    return this.#parts.timers.nextNs
  }

  /** Ends the polls whose time has come (EC-poll-12). */
  runTimers(): void {
    this.#parts.queue.around(() => {
      for (const vcpu of this.#parts.timers.takeDue(systemTime(this.#parts.time)))
        this.#parts.domains.of(vcpu)?.unblock(vcpu)
    })
  }

  /** Debug key 'e' as items; see `dump`. */
  dumpItems(options: DumpOptions = {}): Generator<DumpItem, void, void> {
    const { pause = () => this.softirqs.processPending() } = checkDumpOptions(options)
    return dumpItems(this.#parts.dumped, { ...options, pause })
  }

  /**
   * Debug key 'e' as lines of text. The event lock is never held while control is with the caller; softirqs run after
   * every hold, at most `slotsPerHold` slots of the table apart (NL-dump-2).
   * @throws ParameterError for an option of the wrong type or range.
   */
  dump(options: DumpOptions = {}): Generator<string, void, void> {
    const { pause = () => this.softirqs.processPending() } = checkDumpOptions(options)
    return dumpLines(this.#parts.dumped, { ...options, pause })
  }

  /** The same, giving the JavaScript event loop a turn after every hold. */
  dumpAsync(options: DumpOptions = {}): AsyncGenerator<string, void, void> {
    const { pause = () => this.softirqs.processPending() } = checkDumpOptions(options)
    return dumpInTurns((marked) => this.dump({ ...options, pause: marked }), pause)
  }
}
