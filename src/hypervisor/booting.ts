/**
 * Guests that the host boots or adopts: a domain, the machine that its kernel sees, and the library's own driver on it,
 * which then takes the domain's upcalls.
 */

import { known, object, ParameterError } from '../check.js'
import type { Domain } from '../domain/domain.js'
import { BOOT_OPTION_NAMES, type BootOptions, GuestKernel, type GuestPlatform } from '../guest/index.js'
import { DOMAIN_OPTIONS, type DomainOptions } from '../host/options.js'
import type { Parts } from './parts.js'

const DOMAIN_OPTION_NAMES = Object.keys(DOMAIN_OPTIONS) as (keyof DomainOptions)[]

/** Boots and adopts guests on one host. */
export class Booting {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** A new domain with the library's guest on it. If the guest cannot boot, there is no domain. */
  boot(options: DomainOptions & BootOptions): GuestKernel {
    object('boot', 'options', options, 'an object with at least a domid')
    known('boot', options, [...DOMAIN_OPTION_NAMES, ...BOOT_OPTION_NAMES])
    const pick = (some: readonly string[]) =>
      Object.fromEntries(Object.entries(options).filter(([name]) => some.includes(name)))
    const { domains, domainHost, add, booted, domctl } = this.#parts
    const domain = domains.build('boot', domainHost, pick(DOMAIN_OPTION_NAMES) as unknown as DomainOptions)
    add(domain)
    booted.set(domain, 'booting')
    try {
      const guest = GuestKernel.boot(this.platform(domain), pick(BOOT_OPTION_NAMES))
      booted.set(domain, guest)
      return guest
    } catch (error) {
      domctl.destroy(domain)
      throw error
    }
  }

  /** From now on `guest` takes the upcalls of this domain. */
  adopt(domain: Domain, guest: GuestKernel): void {
    if (!(guest instanceof GuestKernel)) throw new ParameterError('adopt', 'guest', guest, 'a GuestKernel')
    this.#parts.booted.set(domain, guest)
    this.#parts.queue.resume(domain)
  }

  /** The machine of a domain as its own kernel sees it. */
  platform(domain: Domain): GuestPlatform {
    return {
      memory: domain.memory,
      bits: domain.bits,
      vcpus: domain.vcpus.length,
      sharedInfoGfn: domain.sharedInfoGfn,
      hypercall: (vcpuId, nr, args, onRefusal) => this.#parts.calls.raw(domain.vcpu(vcpuId), nr, args, onRefusal),
      onError: (error, where) => this.#parts.callouts.report(error, `${where} of d${domain.domid}`),
    }
  }
}
