/**
 * Who takes the upcalls of a domain: the guest that the host booted or adopted, else the embedder's `onUpcall`. An event for
 * a domain for which nobody listens is reported once.
 */

import type { Domain } from '../domain/domain.js'
import type { Vcpu as VcpuHandle } from '../domain/handles.js'
import { upcallHow } from '../domain/upcall.js'
import type { Vcpu } from '../domain/vcpu.js'
import type { HypervisorOptions } from './options.js'
import type { Entry } from './upcall_queue.js'

/** A guest's driver, as its host calls it. */
export interface Booted {
  upcall(vcpuId: number): unknown
}

/** The guests of one host. */
export class BootedGuests {
  readonly #guests = new WeakMap<Domain, Booted | 'booting'>()
  readonly #unheard = new WeakSet<Domain>()
  readonly #options: HypervisorOptions
  readonly #handle: (vcpu: Vcpu) => VcpuHandle

  constructor(options: HypervisorOptions, handle: (vcpu: Vcpu) => VcpuHandle) {
    this.#options = options
    this.#handle = handle
  }

  /** From now on `guest` takes the upcalls of this domain. A guest that is `booting` scans every vCPU when it is ready. */
  set(domain: Domain, guest: Booted | 'booting'): void {
    this.#guests.set(domain, guest)
  }

  /** How the upcall queue enters guests. */
  entry(): Entry {
    const { onUpcall, onUnblock } = this.#options
    const entry: Entry = {
      listens: (domain) => onUpcall !== undefined || this.#guests.has(domain),
      onUpcall: (vcpu, domain) => {
        const guest = this.#guests.get(domain)
        if (guest === undefined) onUpcall?.(this.#handle(vcpu), upcallHow(domain, vcpu))
        else if (guest !== 'booting') guest.upcall(vcpu.vcpuId)
      },
      unheard: (vcpu, domain) => this.#report(vcpu, domain),
    }
    if (onUnblock) entry.onUnblock = (vcpu) => onUnblock(this.#handle(vcpu))
    return entry
  }

  #report(vcpu: Vcpu, domain: Domain): void {
    if (this.#unheard.has(domain)) return
    this.#unheard.add(domain)
    const platform = globalThis as { console?: { warn(text: string): void } }
    const { warn = (text: string) => platform.console?.warn(text) } = this.#options
    warn(
      `evtchn: d${domain.domid}v${vcpu.vcpuId} has an event and nobody takes its upcalls; ` +
        'boot its guest with Hypervisor.boot, or give Hypervisor.create an onUpcall',
    )
  }
}
