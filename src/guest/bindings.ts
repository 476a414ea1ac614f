/**
 * The channels of a guest: how each came to be, which vCPU handles it, and who handles its events. A port's handler,
 * its place in the vCPU's filter and the vCPU that the hypervisor notifies change together, here.
 *
 *     create (hypercall) → install: room for the words → filter → bind_vcpu → priority → unmask
 *
 * A port without a handler stays masked: it is there to be sent on, or waits for `bindHandler`.
 */

import { type Args, DOMID_SELF, EVTCHNSTAT, type EvtchnOpName } from '../abi/index.js'
import { integer, ParameterError } from '../check.js'
import { Errno, XenError } from '../errno.js'
import type { GuestMachine } from './machine.js'
import type { BindOptions, EventHandler } from './options.js'

/** How a port came to be, and so how it is made again on another host. */
export type Origin =
  | { kind: 'unbound'; remoteDomid: number }
  | { kind: 'interdomain'; remoteDomid: number; remotePort: number }
  | { kind: 'virq'; virq: number; vcpu: number }
  | { kind: 'ipi' }
  | { kind: 'given' }

/** What became of the channels of a vCPU that went offline. */
export interface VcpuReport {
  /** Ports that another vCPU handles now. */
  readonly moved: readonly number[]
  /** Ports that were the vCPU's own, its IPIs and per-vCPU VIRQs: they are closed. */
  readonly closed: readonly number[]
}

/** A port of this driver's. Every one has the same members in the same order, for the scan looks at thousands. */
export class Binding implements BindOptions {
  handler?: EventHandler
  vcpu: number
  readonly port: number
  readonly origin: Origin
  priority?: number
  readonly onRebound?: (port: number, oldPort: number) => void
  readonly onLost?: (reason: string, oldPort: number) => void
  readonly #name: string | undefined

  /** `options` come before those of `earlier`, the same port without a handler. */
  constructor(port: number, vcpu: number, origin: Origin, options: BindOptions, earlier?: Binding) {
    this.handler = options.handler ?? earlier?.handler
    this.vcpu = vcpu
    this.port = port
    this.origin = origin
    this.priority = options.priority ?? earlier?.priority
    this.onRebound = options.onRebound ?? earlier?.onRebound
    this.onLost = options.onLost ?? earlier?.onLost
    this.#name = options.name ?? earlier?.name
  }

  /** Made when it is asked for: most ports are never reported. */
  get name(): string {
    return this.#name ?? `port ${this.port}`
  }
}

/** All ports of one driver. */
export class Bindings {
  readonly #machine: GuestMachine
  readonly #scan: (vcpu: number) => void
  #all: (Binding | undefined)[] = []

  /** `scan` runs the upcall of a vCPU, for an event that the guest has found by itself (NL-scan-6). */
  constructor(machine: GuestMachine, scan: (vcpu: number) => void) {
    this.#machine = machine
    this.#scan = scan
  }

  at(port: number): Binding | undefined {
    return this.#all[port]
  }

  /** In the order of their numbers. */
  *[Symbol.iterator](): Generator<Binding, void, void> {
    for (const binding of this.#all) if (binding) yield binding
  }

  /** Forgets all ports, which are gone with the old host, and returns them. */
  takeAll(): Binding[] {
    const all = [...this]
    this.#all = []
    return all
  }

  /** Makes a port and binds its handler. If the second cannot be had, the port is closed again. */
  make(call: string, origin: Origin, options: BindOptions): number {
    const port = this.#create(origin, options.vcpu ?? this.#machine.home)
    try {
      this.#install(call, port, origin, options)
    } catch (error) {
      this.#machine.calls.evtchn(this.#machine.current, 'close', { port })
      // The next port of this number may belong to another vCPU.
      const binding = this.#all[port]
      if (binding) this.#machine.form.filter(binding.vcpu, port, false)
      this.#all[port] = undefined
      throw error
    }
    return port
  }

  /** Makes a port as its origin says. */
  #create(origin: Origin, vcpu: number): number {
    switch (origin.kind) {
      case 'unbound':
        return this.#op('alloc_unbound', { dom: DOMID_SELF, remote_dom: origin.remoteDomid }).port!
      case 'interdomain':
        return this.#op('bind_interdomain', { remote_dom: origin.remoteDomid, remote_port: origin.remotePort })
          .local_port!
      case 'virq':
        // Where it was bound first: one that is not per vCPU binds on vCPU 0 only and moves from there (EC-virq-2).
        return this.#op('bind_virq', { virq: origin.virq, vcpu: origin.vcpu }).port!
      case 'ipi':
        return this.#op('bind_ipi', { vcpu }).port!
      case 'given':
        throw new XenError(
          'GuestKernel.resume',
          Errno.ENOENT,
          'the driver did not make this port and cannot make it again',
        )
    }
  }

  #install(call: string, port: number, origin: Origin, options: BindOptions): void {
    const { form, home } = this.#machine
    integer(call, 'port', port, 1, form.maxEvtchns - 1)
    form.prepare(port)
    const { vcpu = home } = options
    const binding = new Binding(port, vcpu, origin, options)
    this.#all[port] = binding
    // The filter first: an event that the vCPU is sent before its filter knows the port would be passed over.
    form.filter(vcpu, port, true)
    const bornOn = origin.kind === 'ipi' ? vcpu : origin.kind === 'virq' ? origin.vcpu : 0
    if (vcpu !== bornOn) this.#op('bind_vcpu', { port, vcpu })
    if (form.levels === 'fifo' && binding.priority !== undefined) this.#applyPriority(port, binding.priority)
    if (binding.handler) this.unmask(port)
  }

  /**
   * A handler for a port that has none: one that somebody else made, or one that was bound without. By default it stays
   * on the vCPU that the hypervisor notifies.
   */
  bindHandler(call: string, port: number, options: BindOptions): void {
    const { form } = this.#machine
    integer(call, 'port', port, 1, form.maxEvtchns - 1)
    const there = this.#all[port]
    if (there?.handler) throw new ParameterError(call, 'port', port, 'a port without a handler')
    const { status, vcpu: notified } = this.#op('status', { dom: DOMID_SELF, port })
    if (status === EVTCHNSTAT.closed) throw new XenError(call, Errno.EINVAL, `port ${port} is not open`)
    const { vcpu = notified! } = options
    form.prepare(port)
    const binding = new Binding(port, notified!, there?.origin ?? { kind: 'given' }, options, there)
    this.#all[port] = binding
    form.filter(notified!, port, true)
    try {
      if (vcpu !== notified) this.move(binding, vcpu)
      if (form.levels === 'fifo' && options.priority !== undefined) this.#applyPriority(port, options.priority)
    } catch (error) {
      if (!there) form.filter(binding.vcpu, port, false)
      this.#all[port] = there
      throw error
    }
    this.unmask(port)
  }

  /**
   * Moves a port to another vCPU. Above two levels the hypervisor raises a pending event there, after the filter was
   * changed (NL-vcpu-1). At two levels Xen moves nothing, so the port is masked meanwhile and unmasked by hypercall.
   */
  move(binding: Binding, vcpu: number): void {
    const { form } = this.#machine
    const { port, vcpu: old } = binding
    const two = form.levels === 2
    const wasMasked = form.isMasked(port)
    if (two) form.mask(port)
    else this.#refilter(port, old, vcpu)
    binding.vcpu = vcpu
    try {
      this.#op('bind_vcpu', { port, vcpu })
    } catch (error) {
      // Refused, as for an IPI: the port stays where it was, and what a scan passed over meanwhile is raised again.
      binding.vcpu = old
      if (!two) this.#refilter(port, vcpu, old)
      form.mask(port)
      if (!wasMasked) this.#machine.onPort('unmask', port)
      throw error
    }
    if (!two) return
    this.#refilter(port, old, vcpu)
    if (!wasMasked) this.#machine.onPort('unmask', port)
  }

  #refilter(port: number, from: number, to: number): void {
    const { form } = this.#machine
    form.filter(to, port, true)
    if (from !== to) form.filter(from, port, false)
  }

  /**
   * Takes everything from a vCPU that goes offline: what can move goes to `to`, what belongs to the vCPU itself, an IPI or a
   * VIRQ of its own, is closed and its owner told.
   */
  leave(vcpu: number, to: number): VcpuReport {
    const moved: number[] = []
    const closed: number[] = []
    for (const binding of this) {
      if (binding.vcpu !== vcpu) continue
      const own = binding.origin.kind === 'ipi' || !this.#moves(binding, to)
      if (own) {
        this.close(binding)
        this.#machine.callouts.run(`onLost of ${binding.name}`, undefined, () =>
          binding.onLost?.(`vCPU ${vcpu} is offline`, binding.port),
        )
      }
      ;(own ? closed : moved).push(binding.port)
    }
    return { moved, closed }
  }

  /** Moves a port, or finds that it belongs to its vCPU. */
  #moves(binding: Binding, to: number): boolean {
    try {
      this.move(binding, to)
      return true
    } catch (error) {
      if (error instanceof XenError && error.errno === Errno.EINVAL) return false
      throw error
    }
  }

  setPriority(binding: Binding, priority: number): void {
    this.#applyPriority(binding.port, priority)
    binding.priority = priority
  }

  #applyPriority(port: number, priority: number): void {
    this.#op('set_priority', { port, priority })
  }

  /** Closes a port and forgets its handler. If the hypervisor refuses, the port stays as it was. */
  close(binding: Binding): void {
    const { form } = this.#machine
    const { port, vcpu } = binding
    const open = !form.isMasked(port)
    form.mask(port)
    try {
      this.#op('close', { port })
    } catch (error) {
      // An event that came meanwhile sets the vCPU's flag, which the vCPU finds when it continues.
      if (open) form.unmaskLocally(vcpu, port)
      throw error
    }
    form.filter(vcpu, port, false)
    this.#all[port] = undefined
  }

  /**
   * Lets a port's events through. On the port's own vCPU without a hypercall. On any other the mask stays set and
   * EVTCHNOP_unmask does it, for only the hypervisor may raise events on another vCPU (NL-scan-5).
   */
  unmask(port: number): void {
    const { form, current } = this.#machine
    const binding = this.#all[port]
    if (binding && binding.vcpu === current) {
      // This code is the vCPU's own, so its upcalls are held off until it returns.
      const unmasked = form.unmaskLocally(binding.vcpu, port)
      if (unmasked === 'scan') this.#scan(binding.vcpu)
      if (unmasked !== 'hypercall') return
    }
    this.#machine.onPort('unmask', port)
  }

  #op(op: EvtchnOpName, args: Args): Args {
    return this.#machine.op(op, args)
  }
}
