/**
 * What the package exports of a domain and a vCPU: read-only handles. They name whom a call is about, and show what an
 * embedder may know. Nothing that is reachable from a handle changes what the hypervisor believes.
 *
 *     handle ──#in──▶ the hypervisor's own object (domain.ts, vcpu.ts); `inside` is the way there, and is not exported
 */

import {
  type Bits,
  type EvtchnOpName,
  HVM_PARAMS,
  type HvmParamName,
  type In,
  MAX_PORT,
  type Out,
} from '../abi/index.js'
import { integer, oneOf } from '../check.js'
import type { GuestMemory } from '../machine/memory.js'
import type { DomainType, Dying, RestoreReport } from './config.js'
import type { Domain as InnerDomain } from './domain.js'
import type { Subject } from './subject.js'
import type { Vcpu as InnerVcpu } from './vcpu.js'
import { WordMap } from './words.js'

let domainIn: (handle: Domain) => InnerDomain
let vcpuIn: (handle: Vcpu) => InnerVcpu
let isDomain: (value: unknown) => value is Domain
let isVcpu: (value: unknown) => value is Vcpu

const PARAM_NAMES = Object.keys(HVM_PARAMS) as HvmParamName[]

/** Number of the HVM parameter with a name. @throws ParameterError */
export const hvmParamIndex = (call: string, name: unknown): number =>
  HVM_PARAMS[oneOf(call, 'name', name, PARAM_NAMES)].index

/** One domain, as its creator sees it. Made by `Hypervisor.createDomain`; the same domain is always the same handle. */
export class Domain implements Subject {
  readonly #in: InnerDomain
  readonly #vcpus: readonly Vcpu[]

  static {
    domainIn = (handle) => handle.#in
    isDomain = (value): value is Domain => typeof value === 'object' && value !== null && #in in value
  }

  /** @internal */
  constructor(inner: InnerDomain) {
    this.#in = inner
    this.#vcpus = Object.freeze(inner.vcpus.map((each) => new Vcpu(each, inner)))
    Object.freeze(this)
  }

  get domid(): number {
    return this.#in.domid
  }
  /** Width of shared_info: what the guest's mode was when it was last latched. */
  get bits(): Bits {
    return this.#in.bits
  }
  get type(): DomainType {
    return this.#in.type
  }
  /** A control domain: may act on every domain. */
  get privileged(): boolean {
    return this.#in.privileged
  }
  get vcpus(): readonly Vcpu[] {
    return this.#vcpus
  }
  /** Its RAM. */
  get memory(): GuestMemory {
    return this.#in.memory
  }
  get sharedInfoGfn(): number {
    return this.#in.sharedInfoGfn
  }
  /** Levels of the tree in force; `fifo` on the FIFO ABI. */
  get levels(): number | 'fifo' {
    return this.#in.fifo ? 'fifo' : this.#in.levels
  }
  /** Highest port number that the domain may use, inclusive; undefined: whatever its ABI has. */
  get maxEvtchnPort(): number | undefined {
    const { maxEvtchnPort } = this.#in
    return maxEvtchnPort < MAX_PORT ? maxEvtchnPort : undefined
  }
  /** Alive, being torn down, or dead. */
  get dying(): Dying {
    return this.#in.dying
  }
  /** Stands still: saved for its migration, or restored and not started. */
  get frozen(): 'saved' | 'restored' | undefined {
    return this.#in.frozen ?? undefined
  }
  /** How many ports are open. */
  get openPorts(): number {
    return this.#in.ports.activeEvtchns
  }
  /** How often it is paused. */
  get pauseCount(): number {
    return this.#in.pauseCount
  }
  /** Reason of SCHEDOP_shutdown, if the domain was shut down. */
  get shutdownCode(): number | undefined {
    const { shutdownCode } = this.#in
    return shutdownCode < 0 ? undefined : shutdownCode
  }
  /** What became of its channels when it was restored transparently. */
  get restored(): RestoreReport | undefined {
    return this.#in.restored ?? undefined
  }
  /** The domain that this one serves as stub device model, if any. */
  get target(): Domain | undefined {
    return this.#in.target ? domainHandle(this.#in.target) : undefined
  }

  /** The vCPU with this number. @throws ParameterError if the domain has none. */
  vcpu(vcpuId: number): Vcpu {
    return this.#vcpus[integer(`d${this.domid}.vcpu`, 'vcpuId', vcpuId, 0, this.#vcpus.length - 1)]!
  }
  /** The value of an HVM parameter; 0 for one that nobody set. @throws ParameterError for a name that there is not. */
  hvmParam(name: HvmParamName): bigint {
    return this.#in.hvmParams.get(hvmParamIndex(`d${this.domid}.hvmParam`, name))
  }
  /** Is the port's pending bit set? False for a port that is not open. */
  isPending(port: number): boolean {
    return this.#in.isPending(integer(`d${this.domid}.isPending`, 'port', port, 0, 0xffff_ffff))
  }
  /** Is the port masked? True for a port that is not open. */
  isMasked(port: number): boolean {
    return this.#in.isMasked(integer(`d${this.domid}.isMasked`, 'port', port, 0, 0xffff_ffff))
  }
  /** Names of the words that its events go through, as they lie at present. */
  words(): WordMap {
    return new WordMap(this.#in)
  }
  /** An event channel operation by vCPU 0. See `Vcpu.eventChannelOp`. */
  eventChannelOp<N extends EvtchnOpName>(op: N, args: Readonly<In<N>>): Out<N> {
    return this.#in.eventChannelOp(op, args)
  }
}

/** One vCPU of a domain. */
export class Vcpu {
  readonly #in: InnerVcpu
  readonly #domain: InnerDomain

  static {
    vcpuIn = (handle) => handle.#in
    isVcpu = (value): value is Vcpu => typeof value === 'object' && value !== null && #in in value
  }

  /** @internal */
  constructor(inner: InnerVcpu, domain: InnerDomain) {
    this.#in = inner
    this.#domain = domain
    inner.handle = this
    Object.freeze(this)
  }

  get domid(): number {
    return this.#in.domid
  }
  get vcpuId(): number {
    return this.#in.vcpuId
  }
  /** Blocked in SCHEDOP_block or SCHEDOP_poll. */
  get blocked(): boolean {
    return this.#in.blocked
  }
  /** Blocked in SCHEDOP_poll. */
  get polling(): boolean {
    return this.#in.polling
  }
  /** Offline. */
  get down(): boolean {
    return this.#in.down
  }
  /**
   * May it run guest code? Not while it is blocked or offline, nor while its domain is paused, shut down, frozen or dying.
   * An emulator looks after each hypercall, and halts the vCPU until `onUnblock`, or until whoever stopped the domain is done.
   */
  get runnable(): boolean {
    const { dying, frozen, pauseCount, shutdownCode } = this.#domain
    return dying === 'alive' && !frozen && !pauseCount && shutdownCode < 0 && !this.#in.down && !this.#in.blocked
  }
  /** Byte evtchn_upcall_pending; 0 while the vCPU has no vcpu_info. */
  get upcallPending(): number {
    return this.#in.upcallPending
  }
  /** Byte evtchn_upcall_mask; 1 while the vCPU has no vcpu_info. */
  get upcallMask(): number {
    return this.#in.upcallMask
  }

  /**
   * An event channel operation with plain values. Returns the OUT members by Xen's names.
   * @throws XenError with operation, errno and what was found; ParameterError for a value of the wrong type or range.
   */
  eventChannelOp<N extends EvtchnOpName>(op: N, args: Readonly<In<N>>): Out<N> {
    return this.#in.eventChannelOp(op, args)
  }
}

/** The handle of a domain. */
export function domainHandle(inner: InnerDomain): Domain {
  inner.handle ??= new Domain(inner)
  return inner.handle as Domain
}

/** The handle of a vCPU. `vcpus` are those of its domain. */
export function vcpuHandle(inner: InnerVcpu, domain: InnerDomain): Vcpu {
  if (!inner.handle) domainHandle(domain)
  return inner.handle as Vcpu
}

/** The hypervisor's own object behind a handle; undefined for what is no handle. */
export function insideDomain(handle: unknown): InnerDomain | undefined {
  return isDomain(handle) ? domainIn(handle) : undefined
}

/** The same for a vCPU. */
export function insideVcpu(handle: unknown): InnerVcpu | undefined {
  return isVcpu(handle) ? vcpuIn(handle) : undefined
}

/** For the library's own tests: what is behind a handle; the hypervisor's own object is returned as it is. */
export function inside(handle: Domain | InnerDomain): InnerDomain
export function inside(handle: Vcpu | InnerVcpu): InnerVcpu
export function inside(handle: unknown): unknown {
  return insideDomain(handle) ?? insideVcpu(handle) ?? handle
}
