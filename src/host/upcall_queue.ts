/**
 * Which vCPU is entered next. Upcalls never enter a guest in the middle of a hypercall: they queue, and are handed over one
 * after the other when the outermost call is over. What a handler raises joins the same queue. vCPUs that were unblocked
 * come before upcalls.
 */

import type { Callouts } from '../callout.js'
import type { Domain } from '../domain/domain.js'
import { upcallDeliverable } from '../domain/upcall.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Queue } from '../queue.js'
import type { Domains } from './domains.js'

/** Where a vCPU is entered; see HypervisorOptions. */
export interface Entry {
  /** Does anybody take the upcalls of this domain? */
  listens(domain: Domain): boolean
  onUpcall(vcpu: Vcpu, domain: Domain): void
  /** An upcall is due for a domain for which nobody listens. */
  unheard(vcpu: Vcpu, domain: Domain): void
  onUnblock?: (vcpu: Vcpu) => void
}

/** The queue of one host. */
export class UpcallQueue {
  readonly #domains: Domains
  readonly #entry: Entry
  readonly #callouts: Callouts
  readonly #upcalls = new Queue<Vcpu>()
  readonly #unblocked = new Queue<Vcpu>()
  /** vCPUs that were unblocked while they, or their whole domain, returned to no guest code. */
  readonly #unblockLater = new Set<Vcpu>()
  #depth = 0
  #delivering = false

  constructor(domains: Domains, entry: Entry, callouts: Callouts) {
    this.#domains = domains
    this.#entry = entry
    this.#callouts = callouts
  }

  /** True in the middle of a call. */
  get inCall(): boolean {
    return this.#depth > 0
  }

  /** True while a vCPU is in its upcall. */
  inUpcall(vcpu: Vcpu): boolean {
    return vcpu.inUpcall
  }

  /** An upcall may be due. */
  add(vcpu: Vcpu): void {
    this.#upcalls.push(vcpu)
  }

  /** A vCPU was unblocked. `onUnblock` is called for it at once, or as soon as it is online and its domain runs. */
  unblocked(vcpu: Vcpu): void {
    this.#unblocked.push(vcpu)
    this.deliver()
  }

  /** Runs something that may raise events, then delivers upcalls. */
  around<T>(body: () => T): T {
    this.#depth++
    try {
      return body()
    } finally {
      this.#depth--
      this.deliver()
    }
  }

  /** A hypercall begins; `leave` follows, whatever happens. */
  enter(): void {
    this.#depth++
  }

  /**
   * The hypercall is over and its vCPU goes back to guest code. There a deliverable upcall is taken whether its flag
   * was just raised or not (EC-up-6): a guest that set its own flag (NL-scan-6) or has just unmasked upcalls is not
   * forgotten. In the middle of an upcall handler there is no return to guest code. An HVM vCPU's own vector is no level
   * but an edge (EC-up-3).
   */
  leave(vcpu: Vcpu): void {
    this.#depth--
    if (this.#depth || this.#delivering) return
    if (!vcpu.thread && !vcpu.upcallVector && vcpu.upcallPending) this.#upcalls.push(vcpu)
    if (this.#upcalls.length || this.#unblocked.length) this.deliver()
  }

  /**
   * A domain that stood still, was paused, shut down or reset runs again: unblocks that were held back are reported, and
   * every vCPU that has events is upcalled.
   */
  resume(domain: Domain): void {
    for (const vcpu of domain.vcpus) {
      this.comesUp(vcpu)
      this.#upcalls.push(vcpu)
    }
    this.deliver()
  }

  /** A vCPU is online: an unblock that was held back for it is reported when the call is over. */
  comesUp(vcpu: Vcpu): void {
    if (this.#unblockLater.delete(vcpu)) this.#unblocked.push(vcpu)
  }

  /** Drops the unblock that was held back for a vCPU that runs elsewhere from here on. */
  forgetUnblock(vcpu: Vcpu): void {
    this.#unblockLater.delete(vcpu)
  }

  /** Drops the unblocks that were held back for a domain that will not run again. */
  forget(domain: Domain): void {
    for (const vcpu of domain.vcpus) this.#unblockLater.delete(vcpu)
  }

  /** Enters whoever is due, unless a call or another delivery is under way, whose end will do it. */
  deliver(): void {
    if (this.#depth || this.#delivering) return
    this.#delivering = true
    try {
      for (;;) {
        const woken = this.#unblocked.shift()
        if (woken) {
          this.#goOn(woken)
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

  /** Reports that a vCPU was unblocked, unless its domain has ended or moved since, or it blocked again. */
  #goOn(vcpu: Vcpu): void {
    const domain = this.#domains.of(vcpu)
    if (domain?.dying !== 'alive' || vcpu.blocked || vcpu.thread) return
    if (domain.frozen || !this.#running(vcpu)) this.#unblockLater.add(vcpu)
    else
      this.#callouts.run(`onUnblock of d${vcpu.domid}v${vcpu.vcpuId}`, undefined, () => this.#entry.onUnblock?.(vcpu))
  }

  /** The vCPU's domain, if both run guest code here. One with a thread of its own looks for its upcalls there. */
  #running(vcpu: Vcpu): Domain | null {
    const domain = this.#domains.of(vcpu)
    if (domain?.dying !== 'alive' || vcpu.thread) return null
    return domain.pauseCount || domain.shutdownCode >= 0 || vcpu.down ? null : domain
  }

  /** The upcall itself. PV: the mask is 1 in the handler and what it was when the handler returns (EC-up-6, EC-up-7). */
  #enter(domain: Domain, vcpu: Vcpu): void {
    if (!this.#entry.listens(domain)) {
      this.#callouts.run('warn', undefined, () => this.#entry.unheard(vcpu, domain))
      return
    }
    const saved = vcpu.upcallMask
    if (domain.type === 'pv') vcpu.setUpcallMask(1)
    vcpu.inUpcall = true
    try {
      this.#entry.onUpcall(vcpu, domain)
    } catch (error) {
      this.#callouts.report(error, `onUpcall of d${vcpu.domid}v${vcpu.vcpuId}`)
    } finally {
      vcpu.inUpcall = false
      if (domain.type === 'pv') vcpu.setUpcallMask(saved)
    }
  }
}
