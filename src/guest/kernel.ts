/**
 * A guest kernel's event channel driver: boots the channels of a domain, binds handlers, runs upcalls, masks and unmasks,
 * resumes after a migration (nlevel.md section 4). It sees the hypervisor through hypercalls only. Arguments are checked
 * here; the work is done by the parts.
 *
 *     machine.ts    platform, frames, vcpu_info, the form of the channels
 *     bindings.ts   ports: made, bound, moved, closed
 *     upcalls.ts    the scan and its handlers
 *     lifecycle.ts  suspend, resume, moves
 */

import { type Args, EVTCHN_STRUCTS, EVTCHNOP, type EvtchnOpName, MAX_FRAMES, PAGE_SIZE } from '../abi/index.js'
import { func, integer, members, ParameterError } from '../check.js'
import { Errno, XenError } from '../errno.js'
import { type Binding, Bindings, type Origin, type VcpuReport } from './bindings.js'
import type { Attempt } from './form.js'
import type { FrameAllocator } from './frames.js'
import type { GuestGrants } from './grants.js'
import { Lifecycle, type ResumeReport } from './lifecycle.js'
import { GuestMachine } from './machine.js'
import {
  type BindOptions,
  type BootOptions,
  checkBinding,
  checkDomid,
  checkU32,
  type HandlerOrOptions,
  LOWEST_PRIORITY,
} from './options.js'
import type { GuestPlatform } from './platform.js'
import { checkShared, JOINING_FRAMES, type SharedGuest } from './share.js'
import { takeOver } from './takeover.js'
import { Upcalls } from './upcalls.js'

/** The event channel driver of one guest. */
export class GuestKernel {
  readonly #machine: GuestMachine
  readonly #bindings: Bindings
  readonly #upcalls: Upcalls
  readonly #lifecycle: Lifecycle

  private constructor(platform: GuestPlatform, options: BootOptions, joins?: SharedGuest) {
    const machine = new GuestMachine(platform, options, joins)
    this.#machine = machine
    this.#upcalls = new Upcalls(machine, (port) => this.#bindings.at(port))
    this.#bindings = new Bindings(machine, (vcpu) => void this.#upcalls.run(vcpu))
    this.#lifecycle = new Lifecycle(machine, this.#bindings, this.#upcalls)
    if (joins) return
    takeOver(machine.calls, machine.options.reset === true)
    this.#lifecycle.start(() => machine.start())
  }

  /**
   * Boots the event channels of a domain: masks everything, registers a form, enables upcalls.
   * @throws ParameterError; XenError with the hypervisor's reason, ENOMEM if the guest has too few frames, EBUSY if an
   * earlier kernel has registered the domain's channels and `reset` is not given.
   */
  static boot(platform: GuestPlatform, options: BootOptions = {}): GuestKernel {
    return new GuestKernel(platform, options)
  }

  /**
   * Joins a guest that the driver of another thread has booted, for one vCPU: `platform` is that of the vCPU's own thread. Ports
   * that are bound here are served here. Suspend and moves are the booting driver's.
   * @throws ParameterError for what is no `share`.
   */
  static join(platform: GuestPlatform, shared: SharedGuest): GuestKernel {
    return new GuestKernel(platform, {}, checkShared('GuestKernel.join', shared))
  }

  /**
   * What the driver of another thread needs to join for one vCPU, which `upVcpus` named at boot. Plain data, for postMessage; use
   * it once. `nrFrames` frames of the guest's are the other driver's from here on.
   * @throws XenError EOPNOTSUPP on the FIFO ABI, EINVAL for a vCPU that takes no part, ENOMEM
   */
  share(vcpu: number, nrFrames = JOINING_FRAMES): SharedGuest {
    const id = integer('GuestKernel.share', 'vcpu', vcpu, 1, this.#machine.platform.vcpus - 1)
    return this.#machine.share(id, integer('GuestKernel.share', 'nrFrames', nrFrames, 4, MAX_FRAMES))
  }

  /** The options of boot, with defaults. */
  get options(): Readonly<BootOptions> {
    return this.#machine.options
  }
  /** Levels in force, or 'fifo'. */
  get levels(): number | 'fifo' {
    return this.#machine.form.levels
  }
  /** Usable port numbers, 0 included. */
  get channels(): number {
    return this.#machine.form.channels
  }
  /** What came of each attempt to register, the successful one last. */
  get attempts(): readonly Attempt[] {
    return this.#machine.attempts
  }
  /** The guest's free frames, for rings and whatever else it shares. */
  get frames(): FrameAllocator {
    return this.#machine.frames
  }

  /**
   * Sets up the guest's grant table with `frames` frames of 512 entries, where its creator or itself placed them.
   * @throws XenError ENOMEM if the host grants no such table, or a frame of it is placed nowhere; ParameterError.
   */
  setupGrants(frames = 1): GuestGrants {
    return this.#machine.setupGrants(integer('GuestKernel.setupGrants', 'frames', frames, 1, PAGE_SIZE / 8))
  }

  // --- channels ------------------------------------------------------------------------------------------------------

  /** An event channel operation by a vCPU. Returns the struct's members after it. @throws XenError */
  op(op: EvtchnOpName, args: Args, vcpu = this.#machine.current): Args {
    return this.#machine.op(op, checkOp(op, args), this.#vcpuId('op', vcpu))
  }

  /** A port that `remoteDomid` may bind to. */
  allocUnbound(remoteDomid: number, handlerOrOptions: HandlerOrOptions = {}): number {
    checkDomid('GuestKernel.allocUnbound', remoteDomid)
    return this.#make('allocUnbound', { kind: 'unbound', remoteDomid }, handlerOrOptions)
  }

  /** A port connected to `remotePort` of `remoteDomid`. Its handler runs once at first (EC-inter-8). */
  bindInterdomain(remoteDomid: number, remotePort: number, handlerOrOptions: HandlerOrOptions = {}): number {
    checkDomid('GuestKernel.bindInterdomain', remoteDomid)
    checkU32('GuestKernel.bindInterdomain', 'remotePort', remotePort)
    return this.#make('bindInterdomain', { kind: 'interdomain', remoteDomid, remotePort }, handlerOrOptions)
  }

  /** A port for a VIRQ, on the vCPU of the options. */
  bindVirq(virq: number, handlerOrOptions: HandlerOrOptions = {}): number {
    checkU32('GuestKernel.bindVirq', 'virq', virq)
    const { vcpu = this.#machine.home } = this.#checked('bindVirq', handlerOrOptions)
    return this.#make('bindVirq', { kind: 'virq', virq, vcpu }, handlerOrOptions)
  }

  /** A port that signals a vCPU of this guest. */
  bindIpi(handlerOrOptions: HandlerOrOptions = {}): number {
    return this.#make('bindIpi', { kind: 'ipi' }, handlerOrOptions)
  }

  /**
   * A handler for a port without one: one that the toolstack or another part of the guest made, or that was bound
   * without. It stays on the vCPU that the hypervisor notifies, or moves to that of the options. Unmasks it.
   */
  bindHandler(port: number, handlerOrOptions: HandlerOrOptions): void {
    this.#bindings.bindHandler('GuestKernel.bindHandler', port, this.#checked('bindHandler', handlerOrOptions))
  }

  #checked(call: string, handlerOrOptions: HandlerOrOptions): BindOptions {
    return checkBinding(`GuestKernel.${call}`, handlerOrOptions, this.#machine.platform.vcpus)
  }

  #make(call: string, origin: Origin, handlerOrOptions: HandlerOrOptions): number {
    return this.#bindings.make(`GuestKernel.${call}`, origin, this.#checked(call, handlerOrOptions))
  }

  /** The channel's name, or undefined if the port is not this driver's. */
  nameOf(port: number): string | undefined {
    return this.#bindings.at(port)?.name
  }

  /** Moves a port, and what is pending on it, to another vCPU. @throws XenError EINVAL for an IPI or a per-vCPU VIRQ. */
  moveToVcpu(port: number, vcpu: number): void {
    this.#bindings.move(this.#binding('moveToVcpu', port), this.#vcpuId('moveToVcpu', vcpu))
  }

  /**
   * Changes a port's priority, 0 to 15. An event that is queued already stays in its place (EC-prio-5).
   * @throws XenError ENOSYS unless the guest is on the FIFO ABI.
   */
  setPriority(port: number, priority: number): void {
    const binding = this.#binding('setPriority', port)
    this.#bindings.setPriority(binding, integer('GuestKernel.setPriority', 'priority', priority, 0, LOWEST_PRIORITY))
  }

  #binding(call: string, port: number): Binding {
    const binding = this.#bindings.at(port)
    if (!binding) throw new ParameterError(`GuestKernel.${call}`, 'port', port, 'a port that this driver bound')
    return binding
  }

  /** Closes a port and forgets its handler. If the hypervisor refuses, the port stays as it was. */
  close(port: number): void {
    this.#bindings.close(this.#binding('close', port))
  }

  /** Signals the other end. @throws XenError */
  send(port: number): void {
    this.#machine.onPort('send', checkU32('GuestKernel.send', 'port', port))
  }

  // --- masks ---------------------------------------------------------------------------------------------------------

  /** Holds a port's events back; they stay pending. */
  mask(port: number): void {
    this.#machine.form.mask(this.#port('mask', port))
  }
  isPending(port: number): boolean {
    return this.#machine.form.isPending(this.#port('isPending', port))
  }
  isMasked(port: number): boolean {
    return this.#machine.form.isMasked(this.#port('isMasked', port))
  }

  /** Lets a port's events through: without a hypercall where the code runs on the port's own vCPU. @throws XenError */
  unmask(port: number): void {
    this.#bindings.unmask(checkU32('GuestKernel.unmask', 'port', port))
  }

  /** A port whose words the guest has. */
  #port(call: string, port: number): number {
    return integer(`GuestKernel.${call}`, 'port', port, 0, this.#machine.form.maxEvtchns - 1)
  }
  #vcpuId(call: string, vcpu: number): number {
    return integer(`GuestKernel.${call}`, 'vcpu', vcpu, 0, this.#machine.platform.vcpus - 1)
  }

  // --- upcalls -------------------------------------------------------------------------------------------------------

  /**
   * The upcall of a vCPU: scans until its flag stays 0 and runs the handlers. Returns how many events were handled. In an
   * upcall of the same vCPU it does nothing: that one continues until the flag is 0. What a handler throws is reported to
   * the platform's `onError`, and the other handlers run.
   */
  upcall(vcpu = this.#machine.home): number {
    return this.#upcalls.run(this.#vcpuId('upcall', vcpu))
  }

  // --- vCPUs ---------------------------------------------------------------------------------------------------------

  /** vCPUs that take part, online or not: vCPU 0, those of `upVcpus`, and those that were brought up. Ascending. */
  get upVcpus(): readonly number[] {
    return this.#machine.up
  }

  /**
   * Brings a vCPU online, before or after the channels were registered. If it never was up, its vcpu_info and its selectors are
   * registered first. What was raised for it meanwhile is handled now. Harmless for one that is up.
   * @throws XenError with the hypervisor's reason; the vCPU does not take part then.
   */
  bringUp(vcpu: number): void {
    const id = this.#vcpuId('bringUp', vcpu)
    this.#machine.bringUp(id)
    this.#upcalls.run(id)
  }

  /**
   * Takes a vCPU offline. Its channels move to vCPU `to` first, with what is pending on them; those that cannot move are
   * closed, and their `onLost` is called. Bind them anew after `bringUp`.
   * @throws XenError EBUSY if the vCPU is in its upcall; with the hypervisor's reason if that refuses.
   */
  takeDown(vcpu: number, to = 0): VcpuReport {
    const id = integer('GuestKernel.takeDown', 'vcpu', vcpu, 1, this.#machine.platform.vcpus - 1)
    const other = this.#vcpuId('takeDown', to)
    if (other === id || !this.#machine.takesPart(other))
      throw new ParameterError('GuestKernel.takeDown', 'to', to, 'another vCPU that is up')
    if (this.#upcalls.isBusy(id)) throw new XenError('GuestKernel.takeDown', Errno.EBUSY, `vCPU ${id} is in its upcall`)
    const report = this.#bindings.leave(id, other)
    this.#machine.takeDown(id)
    return report
  }

  // --- migration -----------------------------------------------------------------------------------------------------

  /**
   * The suspend channel: whoever may bind to it asks the guest to suspend itself by signalling it. The toolstack may have
   * the same port signalled back when that is done (`Hypervisor.subscribeSuspend`). An event can be spurious (EC-inter-8,
   * NL-mig-6): `wanted` says whether a suspend is really meant, as control/shutdown in XenStore does. Default: always.
   */
  offerSuspend(
    toolstackDomid: number,
    { wanted = () => true, ...options }: Omit<BindOptions, 'handler'> & { wanted?: () => boolean } = {},
  ): number {
    func('GuestKernel.offerSuspend', 'wanted', wanted)
    const handler = this.#lifecycle.suspendHandler(wanted)
    return this.allocUnbound(toolstackDomid, { name: 'suspend', ...options, handler })
  }

  /**
   * Suspends the guest: SCHEDOP_shutdown with reason suspend. No handler runs from here on until `resume`,
   * `cancelSuspend`, or, after a transparent move, `cancelSuspend` there. In an upcall it waits for the upcall's end.
   */
  suspend(): void {
    this.#lifecycle.suspend()
  }

  /** Suspended, and not resumed yet. */
  get suspended(): boolean {
    return this.#lifecycle.suspended
  }

  /** The suspend was cancelled and the domain is the same: channels are as they were (EC-die-8), what came in is handled. */
  cancelSuspend(): void {
    this.#lifecycle.cancelSuspend()
  }

  /**
   * The domain was restored with all that belongs to it (transparent mode): the guest continues as it was and makes no
   * hypercall. For the embedder, before it starts the domain: this driver's code lives outside the guest's RAM.
   */
  moveTo(platform: GuestPlatform): void {
    this.#lifecycle.moveTo(platform)
  }

  /**
   * Runs every handler once. After a cooperative resume it is not known what was signalled while the guest was away: the
   * old pending bits are gone with the old channels, and peers that re-connected signalled nobody. So a driver that has
   * its channels again looks at each as if it had just been signalled, as after EC-inter-8. The suspend channel, whose
   * signal is a request, is left out. Returns how many ran. What a handler throws is reported, as in an upcall.
   */
  rescan(): number {
    return this.#lifecycle.rescan()
  }

  /**
   * Continues in a restored domain, which starts with two levels and no channels (NL-mig-1): registers again the deepest
   * tree that the new host grants, makes the channels again in the order of their old numbers, and tells the handlers of
   * those that no longer fit why (NL-mig-2). A port that was given is the toolstack's to make again: reported as lost.
   */
  resume(platform: GuestPlatform): ResumeReport {
    return this.#lifecycle.resume(platform)
  }
}

/** The members of an operation's struct, each known and an integer that it can hold. OUT members may be named. */
function checkOp(op: EvtchnOpName, args: Args): Args {
  if (typeof op !== 'string' || !Object.hasOwn(EVTCHNOP, op))
    throw new ParameterError('GuestKernel.op', 'op', op, Object.keys(EVTCHNOP).join(', '))
  return members(`EVTCHNOP_${op}`, EVTCHN_STRUCTS[op].fields, args, ['in', 'out'])
}
