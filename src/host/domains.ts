/** The domains of one host: made within its RAM, found by number. */

import { DOMID_FIRST_RESERVED } from '../abi/index.js'
import type { Callouts } from '../callout.js'
import { object, options, ParameterError } from '../check.js'
import type { DomainHost } from '../domain/config.js'
import { Domain } from '../domain/domain.js'
import { domainHandle, type Vcpu as VcpuHandle } from '../domain/handles.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Errno, XenError } from '../errno.js'
import { GuestMemory, type PageWalk } from '../machine/memory.js'
import { DOMAIN_OPTIONS, type DomainOptions, readDomain, readDomid, readMemory, type Translate } from './options.js'

/** All domains by number. Dying and dead ones are found until they are removed. */
export class Domains implements Iterable<Domain> {
  readonly #byId: (Domain | undefined)[] = new Array(DOMID_FIRST_RESERVED)
  readonly #domids = new Set<number>()
  readonly #callouts: Callouts
  readonly #maxFrames: number
  /** Frames that all domains have, and the windows of each memory: nothing here walks over all domains. */
  #frames = 0
  readonly #windows = new Windows()
  /** Off the host, but threads of their vCPUs may still look at them. */
  readonly #leaving = new Set<Domain>()

  /** `maxFrames`: RAM of the host, of which every domain has its part. */
  constructor(callouts: Callouts, maxFrames = Number.MAX_SAFE_INTEGER) {
    this.#callouts = callouts
    this.#maxFrames = maxFrames
  }

  /** The domain with this number, if there is one. */
  get(domid: number): Domain | undefined {
    return this.#byId[domid]
  }

  /** The same. @throws ParameterError for what is no domain's number; XenError ESRCH if no domain has it. */
  must(call: string, domid: number, name = 'domid'): Domain {
    const domain = this.#byId[readDomid(call, domid, name)]
    if (!domain) throw new XenError(call, Errno.ESRCH, `there is no domain ${domid}`)
    return domain
  }

  /** The domain that a vCPU is one of, if it is still on this host. */
  of(vcpu: Vcpu): Domain | undefined {
    const domain = this.#byId[vcpu.domid]
    return domain?.vcpus[vcpu.vcpuId] === vcpu ? domain : undefined
  }

  /** Numbers of all domains, ascending. */
  domids(): number[] {
    return [...this.#domids].sort((a, b) => a - b)
  }

  /** The domain with the lowest number above `domid`, if there is one. */
  after(domid: number): Domain | undefined {
    for (let next = domid + 1; next < DOMID_FIRST_RESERVED; next++) {
      const domain = this.#byId[next]
      if (domain) return domain
    }
    return undefined
  }

  *[Symbol.iterator](): Generator<Domain> {
    for (const domid of this.#domids) yield this.#byId[domid]!
  }

  /**
   * Makes a domain that is not on the host yet. It may have the number of the one that it replaces.
   * @throws ParameterError; XenError ENOMEM beyond the host's frames, or if the engine has no memory.
   */
  build(call: string, host: DomainHost, given: DomainOptions, replaced?: Domain): Domain {
    object(call, 'options', given, 'an object with at least a domid')
    const domid = readDomid(call, options(call, given, DOMAIN_OPTIONS).domid)
    if (this.#byId[domid] && this.#byId[domid] !== replaced)
      throw new ParameterError(call, 'domid', domid, 'a number that no domain of this host has')
    // The page walk is first used by a hypercall, when the domain is there.
    const translate = this.#checkedTranslate(domid, given.translate, (vcpuId) => domainHandle(domain).vcpu(vcpuId))
    const ram = { ...readMemory(given), translate }
    const left = this.#maxFrames - this.#frames
    if (ram.frames > left)
      throw new XenError(call, Errno.ENOMEM, `frames is ${ram.frames}, and the host has ${left} left`)
    const domain: Domain = withMemory(call, () => {
      const memory = new GuestMemory(ram, call)
      const other = this.#windows.overlapping(memory, replaced)
      if (other)
        throw new ParameterError(call, 'base', memory.base, `a window apart from that of domain ${other.domid}`)
      return new Domain(readDomain(call, given, memory.frames), memory, host)
    })
    return domain
  }

  /** Page tables of the embedder's. What they throw, or what is no address, is a page that is not there: EFAULT. */
  #checkedTranslate(
    domid: number,
    translate: Translate | undefined,
    handle: (vcpuId: number) => VcpuHandle,
  ): PageWalk | undefined {
    if (!translate) return undefined
    return (vcpuId, gva, write) => {
      const walk = () => translate(handle(vcpuId), gva, write)
      const gpa = this.#callouts.run(`translate of d${domid}`, -1, walk)
      return typeof gpa === 'number' ? gpa : -1
    }
  }

  /** Puts a domain on the host. */
  add(domain: Domain): void {
    this.#byId[domain.domid] = domain
    this.#domids.add(domain.domid)
    this.#frames += domain.memory.frames
    this.#windows.add(domain)
    domain.hostCore.publish(domain.domid, domain.record)
  }

  /** Takes a domain off the host; its number may be used again. */
  remove(domid: number): void {
    const domain = this.#byId[domid]
    if (!domain) return
    domain.hostCore.publish(domid, 0)
    this.#byId[domid] = undefined
    this.#domids.delete(domid)
    this.#leaving.add(domain)
    this.leave(domain)
  }

  /** Frees RAM and records of a domain that is off the host, as soon as no thread of its vCPUs can look at them any more. */
  leave(domain: Domain): void {
    if (domain.onThreads || !this.#leaving.delete(domain)) return
    this.#frames -= domain.memory.frames
    this.#windows.remove(domain)
    domain.dispose()
  }
}

/** Bytes of a cell by which windows are found. */
const CELL_SHIFT = 20

/** The windows that domains have in each memory, by the cells of 1 MiB that they lie in. */
class Windows {
  readonly #cells = new WeakMap<WebAssembly.Memory, Map<number, Set<Domain>>>()

  add(domain: Domain): void {
    const { memory } = domain.memory
    let cells = this.#cells.get(memory)
    if (!cells) {
      cells = new Map()
      this.#cells.set(memory, cells)
    }
    for (const cell of cellsOf(domain.memory)) {
      const there = cells.get(cell)
      if (there) there.add(domain)
      else cells.set(cell, new Set([domain]))
    }
  }

  remove(domain: Domain): void {
    const cells = this.#cells.get(domain.memory.memory)
    for (const cell of cellsOf(domain.memory)) {
      cells?.get(cell)?.delete(domain)
      if (!cells?.get(cell)?.size) cells?.delete(cell)
    }
  }

  /**
   * A domain that has bytes of this window and is neither `replaced` nor dead, with all threads of its vCPUs gone: it would be
   * the other's prey.
   */
  overlapping(memory: GuestMemory, replaced: Domain | undefined): Domain | undefined {
    const cells = this.#cells.get(memory.memory)
    if (!cells) return undefined
    for (const cell of cellsOf(memory))
      for (const other of cells.get(cell) ?? [])
        if (other !== replaced && (other.dying !== 'dead' || other.onThreads) && overlap(memory, other.memory))
          return other
    return undefined
  }
}

function* cellsOf({ base, bytes }: GuestMemory): Generator<number> {
  for (let cell = base >>> CELL_SHIFT; cell <= (base + bytes - 1) >>> CELL_SHIFT; cell++) yield cell
}

const overlap = (one: GuestMemory, other: GuestMemory): boolean =>
  one.base < other.base + other.bytes && other.base < one.base + one.bytes

/** Turns what an engine throws when it has no memory left into ENOMEM. */
function withMemory<T>(call: string, body: () => T): T {
  try {
    return body()
  } catch (error) {
    if (error instanceof RangeError) throw new XenError(call, Errno.ENOMEM, error.message)
    throw error
  }
}
