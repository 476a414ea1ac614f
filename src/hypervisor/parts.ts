/**
 * The parts of one host, put together: domains, the queue of upcalls, timers, policy and limits, the ways in, migrations.
 * hypervisor.ts in this room is their public face.
 */

import { Callouts } from '../callout.js'
import { CheckedClock, type Clock, ManualClock } from '../clock.js'
import type { DomainHost } from '../domain/config.js'
import type { Domain } from '../domain/domain.js'
import { domainHandle, type Vcpu as VcpuHandle, vcpuHandle } from '../domain/handles.js'
import type { Vcpu } from '../domain/vcpu.js'
import { BootedGuests } from '../host/booted.js'
import { Domains } from '../host/domains.js'
import { IrqLines } from '../host/irq.js'
import { type HypervisorOptions, readLimits } from '../host/options.js'
import { ownOperations } from '../host/own_abi.js'
import { PollTimers } from '../host/poll_timers.js'
import { sealedPolicy } from '../host/sealed_policy.js'
import { Softirqs } from '../host/softirq.js'
import { checkThreads, Threads } from '../host/threads.js'
import { UpcallQueue } from '../host/upcall_queue.js'
import { Virqs } from '../host/virq.js'
import { defaultPolicy } from '../host/xsm.js'
import { Calls } from '../hypercalls/calls.js'
import { Domctl } from '../hypercalls/domctl.js'
import { Notifiers } from '../hypercalls/evtchn/xen_ports.js'
import { Interrupts } from '../hypercalls/raise.js'
import type { SchedWorld } from '../hypercalls/sched_op.js'
import { HostCore } from '../machine/host_core.js'
import { Moving } from '../migration/migrations.js'
import { ambient, Seam } from '../trace/index.js'
import { Grants } from './grants.js'

/** One host from the inside. */
export class Parts {
  readonly clock: Clock
  /** `clock` as the host reads it. */
  readonly time: Clock
  readonly callouts: Callouts
  readonly softirqs: Softirqs
  readonly domains: Domains
  readonly queue: UpcallQueue
  readonly timers = new PollTimers()
  readonly virqs: Virqs
  readonly irqs = new IrqLines()
  readonly notifiers: Notifiers
  readonly booted: BootedGuests
  readonly world: SchedWorld
  readonly domainHost: DomainHost
  readonly calls: Calls
  readonly domctl: Domctl
  readonly interrupts: Interrupts
  readonly moving: Moving
  readonly grants: Grants
  readonly threads: Threads
  readonly #seam: Seam | undefined

  constructor(options: HypervisorOptions) {
    const { trace = ambient().trace, faults = ambient().faults } = options
    this.callouts = new Callouts(options.onError)
    this.notifiers = new Notifiers(this.callouts)
    this.clock = options.clock ?? new ManualClock()
    this.time = new CheckedClock(this.clock, this.callouts)
    this.#seam = Seam.of(trace, faults, () => this.time.nowNs(), this.callouts)
    this.domains = new Domains(this.callouts, options.maxFrames)
    this.booted = new BootedGuests(options, (vcpu) => this.#handle(vcpu))
    const entry = this.booted.entry()
    this.queue = new UpcallQueue(this.domains, { ...entry, ...this.#seam?.entries(entry) }, this.callouts)
    this.softirqs = new Softirqs(() => this.time.nowNs(), this.callouts)
    this.virqs = new Virqs(() => this.domains.get(0))
    this.world = this.#makeWorld(options)
    const { evtchnSend } = options.xsm ?? defaultPolicy
    const core = checkThreads(options.threads ?? 0) ? HostCore.create(true) : HostCore.create()
    this.domainHost = this.#makeDomainHost(core, evtchnSend !== defaultPolicy.evtchnSend, trace?.upcall)
    this.calls = new Calls(this.domains, this.queue, this.world)
    this.domctl = new Domctl(this)
    this.interrupts = new Interrupts(this)
    this.moving = new Moving(this)
    this.grants = new Grants(this.domains)
    this.threads = this.#makeThreads(options.threads ?? 0)
  }

  #makeWorld(options: HypervisorOptions): SchedWorld {
    const { onShutdown } = options
    return {
      xsm: options.xsm ? sealedPolicy(options.xsm, this.callouts) : defaultPolicy,
      limits: readLimits(options),
      ownOperations: ownOperations('Hypervisor.create', options.abis),
      callouts: this.callouts,
      virqs: this.virqs,
      irqs: this.irqs,
      domainById: (domid) => this.domains.get(domid),
      domids: () => this.domains.domids(),
      notify: (slot, vcpu, port) => this.notifiers.call(slot, this.#handle(vcpu), port),
      preempt: () => this.callouts.run('preempt', false, () => options.preempt?.() ?? false),
      continuation: () => {
        if (this.calls.stepping) return false
        this.softirqs.processPending()
        return true
      },
      pollTimers: { arm: ({ vcpu }, ns) => this.timers.arm(vcpu, ns) },
      shutdown: (domain, reason) => {
        const before = domain.shutdownCode
        this.domctl.shutdown(domain, reason)
        if (before < 0)
          this.callouts.run('onShutdown', undefined, () => onShutdown?.(domainHandle(domain), domain.shutdownCode))
      },
      fallThrough: options.hypercall,
      seam: this.#seam,
    }
  }

  #makeThreads(most: number): Threads {
    return new Threads(
      {
        core: this.domainHost.core,
        domains: this.domains,
        queue: this.queue,
        timers: this.timers,
        callouts: this.callouts,
        raw: (vcpu, nr, args, onRefusal) => this.calls.raw(vcpu, nr, args, onRefusal),
        virq: (vcpu, virq) => this.interrupts.vcpuVirq(vcpu, virq),
        send: (vcpu, port) => this.calls.send(vcpu, port),
      },
      most,
    )
  }

  /** `policyOnSend`: the policy has a say in sends, so no send is the host core's alone. */
  #makeDomainHost(
    core: HostCore,
    policyOnSend: boolean,
    traceUpcall: ((vcpu: VcpuHandle) => void) | undefined,
  ): DomainHost {
    return {
      core,
      policyOnSend,
      kick: (vcpu) => {
        if (traceUpcall) this.callouts.run('trace.upcall', undefined, () => traceUpcall(this.#handle(vcpu)))
        this.#seam?.pending(vcpu)
        this.queue.add(vcpu)
      },
      unblocked: (vcpu) => {
        this.timers.disarm(vcpu)
        this.queue.unblocked(vcpu)
      },
      comesUp: (vcpu) => this.queue.comesUp(vcpu),
      wallclockNs: () => this.time.wallclockNs(),
      typedCall: (vcpu, op, args) => this.calls.typed(vcpu, op, args),
    }
  }

  /** The handle that a user's function gets. */
  #handle(vcpu: Vcpu): VcpuHandle {
    return (vcpu.handle as VcpuHandle | undefined) ?? vcpuHandle(vcpu, this.domains.of(vcpu)!)
  }

  /** What a dump walks over. */
  readonly dumped = {
    domainAfter: (domid: number) => this.domains.after(domid),
    domainById: (domid: number) => this.domains.get(domid),
    nowNs: () => this.time.nowNs(),
  }

  /** Puts a domain on the host. */
  readonly add = (domain: Domain): void => {
    this.domains.add(domain)
    this.tell(domain, 'is created')
    domain.updateWallclock()
    this.virqs.domainCreated(domain.domid)
  }

  /** Kills a domain and forgets its number. */
  readonly destroy = (domain: Domain): void => {
    this.domctl.destroy(domain)
  }

  /** A domain died: its migration, if there is one, has no source any more. */
  readonly died = (domain: Domain): void => {
    this.moving.end(domain, 'gone')
  }

  /** A vCPU of the domain that runs on a thread of its own now. */
  readonly runningVcpu = (domain: Domain): Vcpu | undefined => this.threads.running(domain)

  /** Tells the trace what happened to a domain. */
  readonly tell = (domain: Domain, what: string): void => {
    this.#seam?.host(domain.domid, what)
  }
}
