/**
 * Grants as an embedder uses them: a domain maps a page that another has granted it, and the toolstack places the frames of
 * a table. Entries are those in the guest's own frames (domain/grants.ts).
 */

import { GNTST, PAGE_SIZE, U32_MAX } from '../abi/index.js'
import { flag, integer, object, options } from '../check.js'
import type { Domain as InnerDomain } from '../domain/domain.js'
import { GrantRefusal, type Pin } from '../domain/grants.js'
import type { Domain } from '../domain/handles.js'
import { Errno, XenError } from '../errno.js'
import type { Domains } from '../host/domains.js'
import { domainOn } from '../host/named.js'

/** Options of a mapping. */
export interface MapGrantOptions {
  /** False: for reading only, which a read-only grant permits. Default true. */
  write?: boolean
}

/** A page of another domain, mapped until `unmap`. */
export class GrantMapping {
  readonly domid: number
  readonly ref: number
  /** Its frame number in the RAM of the domain that granted it. */
  readonly gfn: number
  readonly write: boolean
  readonly #of: InnerDomain
  readonly #by: InnerDomain
  readonly #pin: Pin
  #mapped = true
  readonly #release = () => this.unmap()

  /** @internal */
  constructor(by: InnerDomain, of: InnerDomain, pin: Pin) {
    this.domid = of.domid
    this.ref = pin.ref
    this.gfn = pin.gfn
    this.write = pin.write
    this.#of = of
    this.#by = by
    this.#pin = pin
    by.grants.held.add(this.#release)
    Object.freeze(this)
  }

  /** False once it was unmapped, or the domain that mapped it died. */
  get mapped(): boolean {
    return this.#mapped
  }

  /** The page's bytes: a fresh view, valid until the memory grows. */
  bytes(): Uint8Array {
    const { memory } = this.#of
    return new Uint8Array(memory.memory.buffer, memory.base + this.gfn * PAGE_SIZE, PAGE_SIZE)
  }

  /** Ends the mapping; the entry says "not in use" when it was the last. */
  unmap(): void {
    if (!this.#mapped) return
    this.#mapped = false
    this.#by.grants.held.delete(this.#release)
    this.#of.grants.unpin(this.#pin)
  }
}

/** The grants of one host. */
export class Grants {
  readonly #domains: Domains

  /** @internal */
  constructor(domains: Domains) {
    this.#domains = domains
    Object.freeze(this)
  }

  /**
   * Maps a page that `of` has granted to `by`. The caller unmaps it, or the death of `by` does.
   * @throws XenError EINVAL for a reference that is none, is not for `by`, or is read-only, with the reason; ESRCH for a
   * domain that is not there; ParameterError.
   */
  map(by: Domain, of: Domain, ref: number, given: MapGrantOptions = {}): GrantMapping {
    const call = 'grants.map'
    const { write = true } = options<MapGrantOptions>(call, object(call, 'options', given), { write: flag })
    const [mapper, granter] = [domainOn(this.#domains, call, by, 'by'), domainOn(this.#domains, call, of, 'of')]
    const pin = granter.grants.pin(integer(call, 'ref', ref, 0, U32_MAX), mapper.domid, write)
    if (pin instanceof GrantRefusal) throw new XenError(call, Errno.EINVAL, `${pin.text} (${statusName(pin.status)})`)
    return new GrantMapping(mapper, granter, pin)
  }

  /** Frame of RAM that holds frame `index` of a domain's table; undefined if it is placed nowhere. */
  frame(domain: Domain, index: number): number | undefined {
    const { grants } = domainOn(this.#domains, 'grants.frame', domain)
    const gfn = grants.gfn(integer('grants.frame', 'index', index, 0, U32_MAX))
    return gfn < 0 ? undefined : gfn
  }

  /**
   * Puts frame `index` of a domain's table at `gfn`, as XENMEM_add_to_physmap does: the table grows to it, entries come along
   * from where they were.
   * @throws XenError EINVAL beyond the table's limit or the domain's RAM; ParameterError.
   */
  place(domain: Domain, index: number, gfn: number): void {
    const call = 'grants.place'
    const { grants, memory, domid } = domainOn(this.#domains, call, domain)
    integer(call, 'gfn', gfn, 0, memory.frames - 1)
    if (!grants.place(integer(call, 'index', index, 0, U32_MAX), gfn))
      throw new XenError(
        call,
        Errno.EINVAL,
        `d${domid} may have ${grants.maxFrames} grant frames, and index is ${index}`,
      )
  }

  /** Grants of a domain that are mapped at present. */
  inUse(domain: Domain): number {
    return domainOn(this.#domains, 'grants.inUse', domain).grants.inUse
  }
}

const statusName = (status: number): string =>
  `GNTST_${Object.entries(GNTST).find(([, value]) => value === status)?.[0] ?? status}`
