/**
 * What the embedder raises: VIRQs, interrupt lines, PIRQs; and the ports that Xen itself owns (spec 6.1 to 6.3). Arguments
 * are checked here, then the operation runs and due upcalls are delivered.
 */

import { DOMID_MASK, MAX_IRQ, NR_VIRQS, U32_MAX } from '../abi/index.js'
import { anything, func, integer, oneOf, options as readOptions, within } from '../check.js'
import type { Domain } from '../domain/domain.js'
import type { Vcpu as VcpuHandle } from '../domain/handles.js'
import { deliverPirq } from '../domain/pirq_list.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Errno, Refusal, XenError } from '../errno.js'
import type { Domains } from '../host/domains.js'
import type { IrqLines } from '../host/irq.js'
import type { UpcallQueue } from '../host/upcall_queue.js'
import type { Virqs } from '../host/virq.js'
import { allocUnboundXen, freeXen, type Notifiers, notifyViaXen } from './evtchn/xen_ports.js'
import type { SchedWorld } from './sched_op.js'

/** How an interrupt line is raised: one edge, or high until it is lowered. */
export type Trigger = 'edge' | 'level'

/** Options of a Xen-attached port. */
export interface XenPortOptions {
  /** The vCPU that `notify` names. Default 0. */
  vcpuId?: number
  /** Who may bind to the port. */
  remoteDomid: number
  /** Runs when the remote end sends. At most seven different functions are in use at one time. */
  notify: (vcpu: VcpuHandle, port: number) => void
}

/** The parts of a host that interrupts need. */
export interface RaiseHost {
  readonly domains: Domains
  readonly queue: UpcallQueue
  readonly virqs: Virqs
  readonly irqs: IrqLines
  readonly notifiers: Notifiers
  readonly world: SchedWorld
}

/** The result of `op`. @throws XenError if it was refused */
function must(op: string, result: number | Refusal): number {
  if (result instanceof Refusal) throw XenError.of(op, result)
  return result
}

const virqNumber = (call: string, virq: number): number => integer(call, 'virq', virq, 0, NR_VIRQS - 1)
const irqNumber = (call: string, irq: number, name = 'irq'): number => integer(call, name, irq, 0, MAX_IRQ)

/** Interrupts and Xen's own ports of one host. */
export class Interrupts {
  readonly #host: RaiseHost

  constructor(host: RaiseHost) {
    this.#host = host
  }

  /** EC-vclass-2. @throws XenError ESRCH if the vCPU's domain is gone */
  vcpuVirq(vcpu: Vcpu, virq: number): void {
    const { domains, queue, virqs } = this.#host
    const domain = domains.of(vcpu)
    if (!domain) throw new XenError('sendVirq', Errno.ESRCH, `d${vcpu.domid} is not on this host, or not any more`)
    virqNumber('sendVirq', virq)
    queue.around(() => virqs.sendVcpu(domain, vcpu.vcpuId, virq))
  }

  /** EC-vclass-3. */
  domainVirq(domain: Domain, virq: number): void {
    virqNumber('sendDomainVirq', virq)
    this.#host.queue.around(() => this.#host.virqs.sendDomain(domain, virq))
  }

  /** EC-vclass-4. */
  globalVirq(virq: number): void {
    virqNumber('sendGlobalVirq', virq)
    this.#host.queue.around(() => this.#host.virqs.sendGlobal(virq))
  }

  /** EC-vclass-5. Any number is taken: which ones are not global is Xen's to say. */
  setGlobalHandler(domain: Domain, virq: number): void {
    integer('setGlobalVirqHandler', 'virq', virq, -(2 ** 31), U32_MAX)
    must('setGlobalVirqHandler', this.#host.virqs.setHandler(domain, virq))
  }

  /** Keeps a line for the host itself. */
  claim(irq: number): void {
    this.#host.irqs.claim(irqNumber('claimIrq', irq))
  }

  /** Raises a line for every domain on it. */
  raise(irq: number, trigger: Trigger): void {
    const { queue, irqs, domains } = this.#host
    irqNumber('raiseIrq', irq)
    oneOf('raiseIrq', 'trigger', trigger, ['edge', 'level'])
    queue.around(() => {
      if (trigger === 'level') irqs.assert(irq, true)
      for (const domid of irqs.guests(irq)) deliverPirq(domains.get(domid)!, irq)
    })
  }

  /** Lowers a level-triggered line. */
  lower(irq: number): void {
    this.#host.irqs.assert(irqNumber('lowerIrq', irq), false)
  }

  /** EC-irq-1. */
  pirq(domain: Domain, pirq: number): void {
    irqNumber('sendPirq', pirq, 'pirq')
    this.#host.queue.around(() => deliverPirq(domain, pirq))
  }

  /** Lets a domain bind a PIRQ, or takes the permission back. */
  permit(call: 'permitPirq' | 'forbidPirq', domain: Domain, pirq: number): void {
    const { permitted } = domain.pirqs
    irqNumber(call, pirq, 'pirq')
    if (call === 'permitPirq') permitted.add(pirq)
    else permitted.delete(pirq)
  }

  /** EC-xen-1. `caller` is whom the policy is asked about. */
  allocXenPort(domain: Domain, caller: Domain, options: XenPortOptions): number {
    const op = 'allocXenPort'
    const { vcpuId = 0, notify } = readOptions(op, options, {
      vcpuId: within(0, domain.vcpus.length - 1),
      remoteDomid: anything,
      notify: anything,
    })
    const remoteDomid = integer(op, 'remoteDomid', options.remoteDomid, 0, DOMID_MASK)
    func(op, 'notify', notify)
    const slot = this.#host.notifiers.slotOf(notify)
    if (slot < 0) throw new XenError(op, Errno.ENOSPC, 'seven notification functions are in use')
    const { queue, world } = this.#host
    const result = queue.around(() => allocUnboundXen(world, caller, domain, vcpuId, remoteDomid, slot))
    return must(op, result)
  }

  /** EC-xen-3. */
  notifyViaXenPort(domain: Domain, port: number): void {
    const { queue, world } = this.#host
    integer('notifyViaXenPort', 'port', port, 0, U32_MAX)
    const result = queue.around(() => notifyViaXen(world, domain, port))
    must('notifyViaXenPort', result)
  }

  /** EC-xen-4. */
  freeXenPort(domain: Domain, port: number): void {
    const { queue, world } = this.#host
    integer('freeXenPort', 'port', port, 0, U32_MAX)
    const result = queue.around(() => freeXen(world, domain, port))
    must('freeXenPort', result)
  }
}
