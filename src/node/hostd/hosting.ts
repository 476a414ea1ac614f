/** What devices and hypercalls of native programs ask of the host that they are on. `NativeHost` is one. */

import type { Hypervisor } from '../../hypervisor/index.js'
import type { XenStored } from '../../xenstore/index.js'
import type { HostConsole } from './host_console.js'
import type { Machine } from './machine.js'
import type { NativeDomain } from './native_domain.js'

/** What the toolstack asks of a new domain. */
export interface ToolstackDomain {
  /** The number that it is to have; 0: any. */
  readonly wanted: number
  readonly vcpus: number
  readonly maxEvtchnPort: number
  readonly maxGrantFrames: number
}

/** A host, as its devices see it. */
export interface Hosting {
  readonly xen: Hypervisor
  readonly machine: Machine
  readonly console: HostConsole
  /** The library's store, unless another daemon serves. */
  readonly store: XenStored | undefined
  /** Called with a line for each request, if anybody listens. */
  readonly traced: ((line: string) => void) | undefined
  /** All domains, by number. */
  readonly domains: readonly NativeDomain[]
  /** System time in ns. */
  readonly nowNs: number
  /** The domain with this number. */
  domain(domid: number): NativeDomain | undefined
  /** XEN_DOMCTL_createdomain. @throws XenError */
  createByToolstack(asked: ToolstackDomain): NativeDomain
  /** XEN_DOMCTL_destroydomain: dead at once; its number and memory are free when the last of its pages is unmapped. */
  destroyByToolstack(domain: NativeDomain): void
  /** XEN_DOMCTL_pausedomain. */
  pause(domain: NativeDomain): void
  /** XEN_DOMCTL_unpausedomain. @throws XenError */
  unpause(domain: NativeDomain): void
  /** Takes a grant back and frees its frame, as soon as nobody uses it. */
  endGrant(domain: NativeDomain, ref: number, gfn: number): void
  /** Lets threads run after whatever has just happened. */
  kick(): void
  /** @throws XenError ENODEV if native programs cannot map the machine's pages here. */
  mustShare(device: string): void
  /** Debug keys, as `xl debug-keys` sends them. */
  debugKeys(keys: string): void
  /** Something worth knowing. */
  note(line: string): void
  /** A fault of the host's own. */
  report(error: unknown, where: string): void
  /** Refuses what is not known here, and counts it. @throws XenError */
  unknown(what: string, errno: number): never
}
