/**
 * A guest kernel's event channel driver: boots the channels of a domain, registers levels, binds handlers, dispatches
 * upcalls, masks and unmasks, resumes after migration (nlevel.md section 4). It sees the hypervisor through hypercalls.
 *
 * Ports begin masked; a bound handler has a name and a vCPU. One upcall scans until its flag stays 0, a bounded buffer a
 * round, cyclic by port number, so no port can starve another (NL-scan-3).
 */

import {
  type Args,
  DOMID_SELF,
  type EvtchnOpName,
  HYPERVISOR,
  PAGE_SIZE,
  SCHEDOP,
  SHUTDOWN,
  sharedInfo,
  UPCALL_MASK,
  UPCALL_PENDING,
  VCPU_INFO_SIZE,
  VCPUOP,
  XEN_LEGACY_MAX_VCPUS,
} from '../abi/index.js'
import { integer, ParameterError } from '../check.js'
import { Errno, errnoName, XenError } from '../errno.js'
import type { ChannelForm } from './form.js'
import { FrameAllocator, fillFrame } from './frames.js'
import {
  type BindOptions,
  type BootOptions,
  checkBinding,
  checkBoot,
  checkDomid,
  checkOp,
  checkPlatform,
  checkU32,
  type EventHandler,
} from './options.js'
import { GuestHypercalls, type GuestPlatform } from './platform.js'
import { type Attempt, type Registrar, registerForm } from './register.js'

/** How a port came to be, and so how it is made again on another host. */
type Origin =
  | { kind: 'unbound'; remoteDomid: number }
  | { kind: 'interdomain'; remoteDomid: number; remotePort: number }
  | { kind: 'virq'; virq: number; vcpu: number }
  | { kind: 'ipi' }
  | { kind: 'given' }

interface Binding extends BindOptions {
  name: string
  vcpu: number
  port: number
  origin: Origin
}

/** What a channel became on the new host. */
export interface ResumeReport {
  levels: number | 'fifo'
  channels: number
  attempts: Attempt[]
  rebound: { name: string; oldPort: number; port: number }[]
  lost: { name: string; oldPort: number; reason: string }[]
}

/** The event channel driver of one guest. */
export class GuestKernel {
  readonly options: Readonly<Required<Pick<BootOptions, 'levels'>> & BootOptions>
  #platform: GuestPlatform
  readonly #frames: FrameAllocator
  readonly #argumentGfn: number
  #calls: GuestHypercalls
  #tree!: ChannelForm
  #infoGpas: number[] = []
  #outGfns: number[] = []
  /** Frames for the vcpu_info of vCPUs beyond the legacy 32, by 64 vCPUs. */
  readonly #infoFrames = new Map<number, number>()
  #attempts: Attempt[] = []
  #handlers: (Binding | undefined)[] = []
  /** Per vCPU: it is in its upcall, or not to be entered yet. */
  #running: boolean[] = []
  /** A suspend was asked for in an upcall, whose handlers all run first. */
  #suspendDue = false
  #suspended = false
  readonly #suspendHandlers = new Set<EventHandler>()
  /** The vCPU whose code runs: the one that is in an upcall, else vCPU 0. */
  #current = 0

  private constructor(platform: GuestPlatform, options: BootOptions) {
    this.options = checkBoot(options)
    this.#platform = checkPlatform('GuestKernel.boot', platform)
    this.#frames = this.#newAllocator()
    this.#argumentGfn = this.#mustFrame('hypercall arguments')
    this.#calls = new GuestHypercalls(platform, this.#argumentGfn)
    this.#start()
  }

  /** Boots the event channels of a domain: masks everything, registers the levels, enables upcalls. */
  static boot(platform: GuestPlatform, options: BootOptions = {}): GuestKernel {
    return new GuestKernel(platform, options)
  }

  #newAllocator(): FrameAllocator {
    const { memory, sharedInfoGfn } = this.#platform
    const { firstFreeGfn: first = sharedInfoGfn + 1 } = this.options
    return new FrameAllocator(
      integer('GuestKernel.boot', 'firstFreeGfn', first, 0, memory.frames - 1),
      sharedInfoGfn >= first ? sharedInfoGfn : memory.frames,
    )
  }

  #mustFrame(what: string): number {
    const gfn = this.#frames.allocate(1)?.[0]
    if (gfn === undefined) throw new Error(`guest: no frame left for ${what}`)
    fillFrame(this.#platform.memory, gfn, 0)
    return gfn
  }

  #start(): void {
    const { vcpus, memory, bits, sharedInfoGfn } = this.#platform
    const { mask, words } = sharedInfo(bits)
    const shared = sharedInfoGfn * PAGE_SIZE
    // No scan while the tree is being made: between two forms there is nothing to scan (NL-sel-3, NL-reg-5).
    this.#running = Array(vcpus).fill(true)
    memory.view().fill(0xff, shared + mask, shared + mask + (words * bits) / 8)
    this.#infoGpas = Array.from({ length: vcpus }, (_, vcpu) => this.#vcpuInfo(vcpu))
    this.#outGfns = Array.from({ length: vcpus }, () => this.#mustFrame('scan buffers'))
    this.#attempts = []
    const by: Registrar = {
      platform: this.#platform,
      calls: this.#calls,
      frames: this.#frames,
      infoGpas: this.#infoGpas,
    }
    const wanted = { levels: this.options.levels, nrPages: this.options.nrPages }
    this.#tree = registerForm(by, wanted, this.#attempts)
    for (const gpa of this.#infoGpas) memory.view()[gpa + UPCALL_MASK] = 0
    this.#suspended = false
    // Registering raised every vCPU's flag and selectors: one full scan each, or no edge would ever come (NL-sel-3).
    this.#running.fill(false)
    for (let vcpu = 0; vcpu < vcpus; vcpu++) this.upcall(vcpu)
  }

  /** Address of a vCPU's vcpu_info; one beyond the legacy 32 registers an area of its own first (EC-vi-2). */
  #vcpuInfo(vcpu: number): number {
    const { sharedInfoGfn } = this.#platform
    if (vcpu < XEN_LEGACY_MAX_VCPUS) return sharedInfoGfn * PAGE_SIZE + vcpu * VCPU_INFO_SIZE
    const perFrame = PAGE_SIZE / VCPU_INFO_SIZE
    const index = Math.floor(vcpu / perFrame)
    const gfn = this.#infoFrames.get(index) ?? this.#mustFrame('vcpu_info')
    this.#infoFrames.set(index, gfn)
    const offset = (vcpu % perFrame) * VCPU_INFO_SIZE
    const bytes = new Uint8Array(16)
    const view = new DataView(bytes.buffer)
    view.setBigUint64(0, BigInt(gfn), true)
    view.setUint32(8, offset, true)
    const rc = this.#calls.raw(vcpu, HYPERVISOR.vcpu_op, bytes, (gpa) => [VCPUOP.register_vcpu_info, vcpu, gpa])
    if (rc < 0) throw new XenError('VCPUOP_register_vcpu_info', rc, `vCPU ${vcpu}`)
    return gfn * PAGE_SIZE + offset
  }

  /** Levels in force, or 'fifo'. */
  get levels(): number | 'fifo' {
    return this.#tree.levels
  }
  /** Usable port numbers, 0 included. */
  get channels(): number {
    return this.#tree.channels
  }
  /** What each attempt to register was answered, the successful one last. */
  get attempts(): readonly Attempt[] {
    return this.#attempts
  }
  /** The guest's free frames, for rings and whatever else it shares. */
  get frames(): FrameAllocator {
    return this.#frames
  }

  // --- channels ------------------------------------------------------------------------------------------------------

  /** An event channel operation by a vCPU; throws XenError. Returns the struct's members after it. */
  op(op: EvtchnOpName, args: Args, vcpu = this.#current): Args {
    checkOp(op, args)
    return this.#op(op, args, this.#vcpuId('op', vcpu))
  }

  #op(op: EvtchnOpName, args: Args, vcpu = this.#current): Args {
    return this.#calls.must(vcpu, op, args)
  }

  /** A port that `remoteDomid` may bind to. */
  allocUnbound(remoteDomid: number, options: BindOptions): number {
    checkDomid('GuestKernel.allocUnbound', remoteDomid)
    return this.#make({ kind: 'unbound', remoteDomid }, options)
  }

  /** A port connected to `remotePort` of `remoteDomid`. Its handler runs once at first (EC-inter-8). */
  bindInterdomain(remoteDomid: number, remotePort: number, options: BindOptions): number {
    checkDomid('GuestKernel.bindInterdomain', remoteDomid)
    checkU32('GuestKernel.bindInterdomain', 'remotePort', remotePort)
    return this.#make({ kind: 'interdomain', remoteDomid, remotePort }, options)
  }

  /** A port for a VIRQ, on the vCPU of `options`. */
  bindVirq(virq: number, options: BindOptions): number {
    checkU32('GuestKernel.bindVirq', 'virq', virq)
    return this.#make({ kind: 'virq', virq, vcpu: options?.vcpu ?? 0 }, options)
  }

  /** A port that signals a vCPU of this guest. */
  bindIpi(options: BindOptions): number {
    return this.#make({ kind: 'ipi' }, options)
  }

  /** A handler for a port that the toolstack or another part of the guest made. Unmasks it. */
  bindHandler(port: number, options: BindOptions): void {
    this.#install(port, { kind: 'given' }, checkBinding('GuestKernel', options, this.#platform.vcpus))
  }

  #make(origin: Origin, options: BindOptions): number {
    checkBinding('GuestKernel', options, this.#platform.vcpus)
    const port = this.#create(origin, options.vcpu ?? 0)
    try {
      this.#install(port, origin, options)
    } catch (error) {
      this.#calls.evtchn(this.#current, 'close', { port })
      this.#handlers[port] = undefined
      throw error
    }
    return port
  }

  /** Makes a port as its origin says. */
  #create(origin: Origin, vcpu: number): number {
    switch (origin.kind) {
      case 'unbound':
        return this.#op('alloc_unbound', { dom: DOMID_SELF, remote_dom: origin.remoteDomid, port: 0 }).port!
      case 'interdomain': {
        const { remoteDomid, remotePort } = origin
        const args = { remote_dom: remoteDomid, remote_port: remotePort, local_port: 0 }
        return this.#op('bind_interdomain', args).local_port!
      }
      case 'virq':
        // Where it was bound first: one that is not per vCPU binds on vCPU 0 only and moves from there (EC-virq-2).
        return this.#op('bind_virq', { virq: origin.virq, vcpu: origin.vcpu, port: 0 }).port!
      case 'ipi':
        return this.#op('bind_ipi', { vcpu, port: 0 }).port!
      case 'given':
        throw new Error('guest: a port that was given cannot be made again')
    }
  }

  #install(port: number, origin: Origin, options: BindOptions): void {
    integer('GuestKernel', 'port', port, 1, this.#tree.maxEvtchns - 1)
    const { vcpu = 0 } = options
    this.#tree.prepare(port)
    const binding = { ...options, name: options.name ?? `port ${port}`, vcpu, port, origin }
    this.#handlers[port] = binding
    // The filter first: an event that the vCPU is sent before its filter knows the port would be passed over.
    this.#tree.filter(vcpu, port, true)
    const bornOn = origin.kind === 'ipi' ? vcpu : origin.kind === 'virq' ? origin.vcpu : 0
    if (vcpu !== bornOn) this.#op('bind_vcpu', { port, vcpu })
    if (this.levels === 'fifo' && binding.priority !== undefined) this.#applyPriority(port, binding.priority)
    this.unmask(port)
  }

  /** The handler's name, or undefined if no handler is bound. */
  nameOf(port: number): string | undefined {
    return this.#handlers[port]?.name
  }

  /**
   * Moves a port to another vCPU. Above two levels the hypervisor raises a pending event there, after the filter was
   * changed (NL-vcpu-1); at two levels Xen moves nothing, so the port is masked meanwhile and unmasked by hypercall.
   */
  moveToVcpu(port: number, vcpu: number): void {
    const binding = this.#binding('moveToVcpu', port)
    this.#vcpuId('moveToVcpu', vcpu)
    const old = binding.vcpu
    const two = this.#tree.levels === 2
    const wasMasked = this.#tree.isMasked(port)
    if (two) this.#tree.mask(port)
    else this.#refilter(port, old, vcpu)
    binding.vcpu = vcpu
    try {
      this.#op('bind_vcpu', { port, vcpu })
    } catch (error) {
      // Refused, as for an IPI: the port stays where it was, and what a scan passed over meanwhile is raised again.
      binding.vcpu = old
      if (!two) this.#refilter(port, vcpu, old)
      this.#tree.mask(port)
      if (!wasMasked) this.#op('unmask', { port })
      throw error
    }
    if (!two) return
    this.#refilter(port, old, vcpu)
    if (!wasMasked) this.#op('unmask', { port })
  }

  /**
   * Changes a port's priority, 0 to 15; an event that is queued already stays in its place (EC-prio-5).
   * @throws XenError ENOSYS unless the guest is on the FIFO ABI.
   */
  setPriority(port: number, priority: number): void {
    const binding = this.#binding('setPriority', port)
    this.#applyPriority(port, integer('GuestKernel.setPriority', 'priority', priority, 0, 15))
    binding.priority = priority
  }

  #applyPriority(port: number, priority: number): void {
    this.#op('set_priority', { port, priority })
  }

  #refilter(port: number, from: number, to: number): void {
    this.#tree.filter(to, port, true)
    if (from !== to) this.#tree.filter(from, port, false)
  }

  #binding(call: string, port: number): Binding {
    const binding = this.#handlers[port]
    if (!binding) throw new ParameterError(`GuestKernel.${call}`, 'port', port, 'a port with a handler')
    return binding
  }

  /** Closes a port and forgets its handler. If the hypervisor refuses, the port goes on as it was. */
  close(port: number): void {
    const binding = this.#binding('close', port)
    const open = !this.#tree.isMasked(port)
    this.#tree.mask(port)
    try {
      this.#op('close', { port })
    } catch (error) {
      // An event that came meanwhile sets the vCPU's flag, which is found when the guest goes on.
      if (open) this.#tree.unmaskLocally(binding.vcpu, port)
      throw error
    }
    this.#tree.filter(binding.vcpu, port, false)
    this.#handlers[port] = undefined
  }

  /** Signals the other end. */
  send(port: number): void {
    checkU32('GuestKernel.send', 'port', port)
    const rc = this.#calls.evtchn(this.#current, 'send', { port })
    if (rc < 0) throw new XenError('EVTCHNOP_send', rc, `port ${port}`)
  }

  // --- masks ---------------------------------------------------------------------------------------------------------

  /** Holds a port's events back; they stay pending. */
  mask(port: number): void {
    this.#tree.mask(this.#port('mask', port))
  }

  isPending(port: number): boolean {
    return this.#tree.isPending(this.#port('isPending', port))
  }
  isMasked(port: number): boolean {
    return this.#tree.isMasked(this.#port('isMasked', port))
  }

  /** A port whose words the guest has. */
  #port(call: string, port: number): number {
    return integer(`GuestKernel.${call}`, 'port', port, 0, this.#tree.maxEvtchns - 1)
  }
  #vcpuId(call: string, vcpu: number): number {
    return integer(`GuestKernel.${call}`, 'vcpu', vcpu, 0, this.#platform.vcpus - 1)
  }

  /**
   * Lets a port's events through. On the port's own vCPU without a hypercall; on any other the mask stays set and
   * EVTCHNOP_unmask does it, for only the hypervisor may raise events on another vCPU (NL-scan-5).
   */
  unmask(port: number): void {
    checkU32('GuestKernel.unmask', 'port', port)
    const binding = this.#handlers[port]
    if (binding && binding.vcpu === this.#current) {
      // This code is the vCPU's own, so its upcalls are held off until it returns.
      const unmasked = this.#tree.unmaskLocally(binding.vcpu, port)
      if (unmasked === 'scan') this.upcall(binding.vcpu)
      if (unmasked !== 'hypercall') return
    }
    this.#op('unmask', { port })
  }

  // --- upcalls -------------------------------------------------------------------------------------------------------

  /**
   * The upcall of a vCPU: scans until its flag stays 0 and runs the handlers. Answers how many events were handled. In an
   * upcall of the same vCPU already it does nothing: that one goes on until the flag is 0.
   * @throws what a handler threw, after all other handlers have run.
   */
  upcall(vcpu = 0): number {
    this.#vcpuId('upcall', vcpu)
    if (this.#running[vcpu]) return 0
    this.#running[vcpu] = true
    const before = this.#current
    this.#current = vcpu
    const errors: unknown[] = []
    let handled = 0
    try {
      do handled += this.#round(vcpu, errors)
      while (this.#upcallPending(vcpu))
    } finally {
      this.#running[vcpu] = false
      this.#current = before
    }
    if (this.#suspendDue && !this.#running.includes(true)) this.suspend()
    if (errors.length === 1) throw errors[0]
    if (errors.length) throw new AggregateError(errors, `${errors.length} event handlers failed`)
    return handled
  }

  #upcallPending(vcpu: number): boolean {
    return this.#platform.memory.data.getUint8(this.#infoGpas[vcpu]! + UPCALL_PENDING) !== 0
  }

  /** One scan and its handlers. */
  #round(vcpu: number, errors: unknown[]): number {
    const { memory } = this.#platform
    const out = this.#outGfns[vcpu]! * PAGE_SIZE
    const count = this.#tree.round(vcpu, memory.base + out, this.options.batch ?? this.#tree.batch)
    let handled = 0
    // Handlers may nest upcalls of other vCPUs, which have buffers of their own; this vCPU's next scan comes after.
    for (let i = 0; i < count; i++) {
      const port = memory.data.getUint32(out + 4 * i, true)
      const binding = this.#handlers[port]
      if (!binding) continue
      if (this.#tree.isMasked(port)) {
        // Masked by an earlier handler of this round: the event goes back and waits for the unmask.
        this.#tree.setPending(port)
        continue
      }
      handled++
      try {
        binding.handler(port)
      } catch (error) {
        errors.push(error)
      }
    }
    return handled
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
    const handler = () => {
      if (wanted()) this.suspend()
    }
    this.#suspendHandlers.add(handler)
    return this.allocUnbound(toolstackDomid, { name: 'suspend', ...options, handler })
  }

  /**
   * Suspends the guest: SCHEDOP_shutdown with reason suspend. No handler runs from here on until `resume`,
   * `cancelSuspend`, or, after a transparent move, `cancelSuspend` there. In an upcall it waits for the upcall's end.
   */
  suspend(): void {
    this.#suspendDue = this.#running.includes(true) && !this.#suspended
    if (this.#suspendDue || this.#suspended) return
    this.#suspended = true
    this.#running.fill(true)
    const reason = new Uint8Array(Uint32Array.of(SHUTDOWN.suspend).buffer)
    const rc = this.#calls.raw(this.#current, HYPERVISOR.sched_op, reason, (gpa) => [SCHEDOP.shutdown, gpa])
    if (rc >= 0) return
    this.cancelSuspend()
    throw new XenError('SCHEDOP_shutdown', rc, 'suspend')
  }

  /** Suspended, and not resumed yet. */
  get suspended(): boolean {
    return this.#suspended
  }

  /** The suspend came to nothing and the domain is the same: channels are as they were (EC-die-8), what came in is handled. */
  cancelSuspend(): void {
    if (!this.#suspended) return
    this.#suspended = false
    this.#running.fill(false)
    for (let vcpu = 0; vcpu < this.#platform.vcpus; vcpu++) this.upcall(vcpu)
  }

  /**
   * The domain was restored with all that belongs to it (transparent mode): the guest goes on as it was and makes no
   * hypercall. For the embedder, before it starts the domain: this driver's code lives outside the guest's RAM.
   */
  moveTo(platform: GuestPlatform): void {
    if (this.#running.includes(true) && !this.#suspended)
      throw new XenError('GuestKernel.moveTo', Errno.EBUSY, 'the guest is in the middle of an upcall')
    checkPlatform('GuestKernel.moveTo', platform)
    for (const part of ['bits', 'vcpus', 'sharedInfoGfn'] as const)
      if (platform[part] !== this.#platform[part])
        throw new ParameterError('GuestKernel.moveTo', part, platform[part], String(this.#platform[part]))
    this.#platform = platform
    this.#calls = new GuestHypercalls(platform, this.#argumentGfn)
    this.#tree.moveTo(platform, this.#calls)
  }

  /**
   * Runs every handler once. After a cooperative resume it is not known what was signalled while the guest was away: the
   * old pending bits are gone with the old channels, and peers that re-connected signalled nobody. So a driver that has
   * its channels again looks at each as if it had just been signalled, as after EC-inter-8; the suspend channel, whose
   * signal is a request, is left out. Answers how many ran.
   * @throws what handlers threw, after all have run.
   */
  rescan(): number {
    const errors: unknown[] = []
    let ran = 0
    for (const binding of this.#handlers) {
      if (!binding || this.#suspendHandlers.has(binding.handler)) continue
      ran++
      try {
        binding.handler(binding.port)
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length) throw new AggregateError(errors, `${errors.length} event handlers failed`)
    return ran
  }

  /**
   * Goes on in a restored domain, which starts with two levels and no channels (NL-mig-1): registers again the deepest
   * tree that the new host grants, makes the channels again in the order of their old numbers, and tells the handlers of
   * those that no longer fit why (NL-mig-2). A port that was given is the toolstack's to make again: reported as lost.
   */
  resume(platform: GuestPlatform): ResumeReport {
    checkPlatform('GuestKernel.resume', platform)
    const old = this.#handlers.filter((binding): binding is Binding => binding !== undefined)
    // RAM is the same, so are the guest's own frames in it; those of the old tree are free again.
    this.#tree.release()
    this.#frames.release(this.#outGfns)
    this.#frames.release(this.#infoFrames.values())
    this.#infoFrames.clear()
    this.#platform = platform
    this.#calls = new GuestHypercalls(platform, this.#argumentGfn)
    this.#handlers = []
    this.#start()
    const report: ResumeReport = {
      levels: this.levels,
      channels: this.channels,
      attempts: this.#attempts,
      rebound: [],
      lost: [],
    }
    for (const binding of old) this.#remake(binding, report)
    return report
  }

  #remake(binding: Binding, report: ResumeReport): void {
    const { name, port: oldPort, origin } = binding
    try {
      if (origin.kind === 'given') throw new XenError('resume', 2, 'not made by this driver')
      const port = this.#create(origin, binding.vcpu)
      this.#install(port, origin, binding)
      report.rebound.push({ name, oldPort, port })
      binding.onRebound?.(port, oldPort)
    } catch (error) {
      if (!(error instanceof XenError)) throw error
      const reason = errnoName(error.errno)
      report.lost.push({ name, oldPort, reason })
      binding.onLost?.(reason, oldPort)
    }
  }
}
