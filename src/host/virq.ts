/** Virtual interrupts: classes, handler domains, delivery (spec 6.1; xen/common/event_channel.c). */

import { DOMID_FIRST_RESERVED, NR_VIRQS, VIRQ } from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import { Summary } from '../domain/summary.js'
import { Errno, type Outcome, refuse } from '../errno.js'

/** One port per vCPU, one per domain, or one handler domain for the host. */
export type VirqClass = 'vcpu' | 'domain' | 'global'

/** The class of a VIRQ; unassigned numbers and ARCH_* are global. */
export function virqClass(virq: number): VirqClass {
  switch (virq) {
    case VIRQ.TIMER:
    case VIRQ.DEBUG:
    case VIRQ.XENOPROF:
    case VIRQ.XENPMU:
      return 'vcpu'
    case VIRQ.ARGO:
      return 'domain'
    default:
      return 'global'
  }
}

/** Name of a VIRQ for messages. */
export function virqName(virq: number): string {
  const name = Object.entries(VIRQ).find(([, value]) => value === virq)?.[0]
  return name ? `VIRQ_${name}` : `VIRQ ${virq}`
}

/** Handler domains of global VIRQs, delivery, and the record of changed domains that VIRQ_DOM_EXC stands for. */
export class Virqs {
  readonly #handlers: (Domain | null)[] = Array(NR_VIRQS).fill(null)
  readonly #hardwareDomain: () => Domain | undefined
  /** While VIRQ_DOM_EXC is bound: its owner and the domains whose state changed since they were last asked for (EC-vclass-6). */
  #domExc: { owner: Domain; changed: Summary } | null = null

  constructor(hardwareDomain: () => Domain | undefined) {
    this.#hardwareDomain = hardwareDomain
  }

  /** The domain that handles a global VIRQ, if any (EC-vclass-4). */
  handler(virq: number): Domain | undefined {
    return this.#handlers[virq] ?? this.#hardwareDomain()
  }

  /** Makes a domain the handler of a global VIRQ (EC-vclass-5). */
  setHandler(domain: Domain, virq: number): Outcome {
    if (!(virq >= 0 && virq < NR_VIRQS) || virqClass(virq) !== 'global')
      return refuse(Errno.EINVAL, () => `${virqName(virq)} is not global`)
    if (this.handler(virq) === domain) return 0
    if (domain.dying !== 'alive') return refuse(Errno.EINVAL, () => `d${domain.domid} is dying`)
    const refused = this.mayReplaceHandler(virq)
    if (!refused) this.#handlers[virq] = domain
    return refused
  }

  /** May another domain become the handler? Not while the handler has the VIRQ bound (EC-vclass-5), unless it is `leaving`. */
  mayReplaceHandler(virq: number, leaving?: Domain): Outcome {
    const current = this.handler(virq)
    if (!current || current === leaving || !current.vcpus[0]!.virqPort(virq)) return 0
    return refuse(Errno.EBUSY, () => `d${current.domid} has ${virqName(virq)} bound`)
  }

  /**
   * Will a domain that does not exist yet handle this VIRQ without `setHandler`? It does if it takes the place of `replaced`,
   * or is the hardware domain.
   */
  willHandle(virq: number, domid: number, replaced: Domain | undefined): boolean {
    const explicit = this.#handlers[virq]
    return explicit ? explicit === replaced : domid === 0
  }

  /** A dying domain gives its roles back to the hardware domain. */
  dropHandlers(domain: Domain): void {
    for (let virq = 0; virq < NR_VIRQS; virq++) if (this.#handlers[virq] === domain) this.#handlers[virq] = null
  }

  /** A restored domain takes the roles of the one that it replaces, and its record of changed domains. */
  replace(old: Domain, by: Domain): void {
    for (let virq = 0; virq < NR_VIRQS; virq++) if (this.#handlers[virq] === old) this.#handlers[virq] = by
    if (this.#domExc?.owner === old) this.#domExc = { owner: by, changed: this.#domExc.changed }
  }

  /** Does this domain keep the record of changed domains? */
  ownsDomExc(domain: Domain): boolean {
    return this.#domExc?.owner === domain
  }

  /** Is the VIRQ bound (EC-vclass-7)? One that is not per vCPU is bound on vCPU 0, whichever existing vCPU is asked about. */
  enabled(domain: Domain, vcpuId: number, virq: number): boolean {
    const vcpu = domain.vcpus[vcpuId]
    if (!vcpu) return false
    return (virqClass(virq) === 'vcpu' ? vcpu : domain.vcpus[0]!).virqPort(virq) > 0
  }

  /** Raises a VIRQ on the port that this vCPU bound, if it did (EC-vclass-2). */
  sendVcpu(domain: Domain, vcpuId: number, virq: number): void {
    const vcpu = domain.vcpus[vcpuId]
    if (vcpu) domain.raiseVirq(vcpu, virq)
  }

  /** Raises a per-domain VIRQ: its port is in vCPU 0's table, delivery goes to the port's notify vCPU (EC-vclass-3). */
  sendDomain(domain: Domain | undefined, virq: number): void {
    if (domain) this.sendVcpu(domain, 0, virq)
  }

  /** Raises a global VIRQ for its handler domain (EC-vclass-4). */
  sendGlobal(virq: number): void {
    this.sendDomain(this.handler(virq), virq)
  }

  /** Binding VIRQ_DOM_EXC begins a record in which every existing domain has changed (EC-virq-6). */
  openDomExc(owner: Domain, domids: Iterable<number>): void {
    const changed = new Summary(DOMID_FIRST_RESERVED)
    for (const domid of domids) changed.add(domid)
    this.#domExc = { owner, changed }
  }

  /** Ends the record, if it is this domain's (EC-XSA-496). */
  closeDomExc(owner: Domain): void {
    if (this.#domExc?.owner === owner) this.#domExc = null
  }

  /** A new domain is recorded as changed, but no VIRQ is raised. */
  domainCreated(domid: number): void {
    this.#domExc?.changed.add(domid)
  }

  /** A domain was shut down, killed or destroyed: recorded and signalled. */
  domainChanged(domid: number): void {
    this.#domExc?.changed.add(domid)
    this.sendGlobal(VIRQ.DOM_EXC)
  }

  /** Takes the lowest changed domain id, or -1: what the owner asks for after the interrupt. */
  takeChanged(owner: Domain): number {
    if (this.#domExc?.owner !== owner) return -1
    const domid = this.#domExc.changed.next(0)
    if (domid >= 0) this.#domExc.changed.delete(domid)
    return domid
  }
}
