/**
 * What a domain is made with, what its creator grants it, what it asks of its host, and how a restore of it went: data and
 * types only.
 */

import type { Bits } from '../abi/index.js'
import type { HostCore } from '../machine/host_core.js'
import type { TypedCall, Vcpu } from './vcpu.js'

/** Alive, being torn down, or dead (EC-die-1). */
export type Dying = 'alive' | 'dying' | 'dead'

/** How a guest takes upcalls: PV respects evtchn_upcall_mask, HVM ignores it (EC-up-6, EC-up-8). */
export type DomainType = 'pv' | 'hvm'

/** What the domain's creator grants beyond two levels; the host's own limits apply beside it. */
export interface NlevelLimits {
  nlevelAllowed: boolean
  maxLevels: number
  maxLeafPages: number
  fifoAllowed: boolean
}

/** A domain's N-level registration: frames held until reset or death. */
export interface NlevelRegistration {
  readonly levels: number
  readonly nrPages: number
  /** The width recorded at registration (NL-tree-3). */
  readonly bits: Bits
  readonly pendingGfns: readonly number[]
  readonly maskGfns: readonly number[]
}

/** A channel whose other end was looked for when a saved domain was restored. */
export interface RestoredEnd {
  port: number
  /** The other end as the saved state has it. */
  domid: number
  remotePort: number
}

/** How a transparent restore went (NL-mig-6). */
export interface RestoreReport {
  /** Ends that are connected again; both were set pending once. */
  connected: RestoredEnd[]
  /** Ends that are UNBOUND towards the other end's domain now, and why. */
  unbound: (RestoredEnd & { reason: string })[]
  /** Ports that Xen itself had, which are free now. */
  xenPorts: number[]
  /** Ports that were raised at the frozen source, after it was saved, and here when it was replaced. */
  raised: number[]
}

/** What a domain calls on the hypervisor. */
export interface DomainHost {
  /** The private memory and the core that works on it. */
  readonly core: HostCore
  /** A policy is asked about sends: the host core leaves them to TypeScript. */
  readonly policyOnSend: boolean
  kick(vcpu: Vcpu): void
  /** A vCPU that was blocked runs again. */
  unblocked(vcpu: Vcpu): void
  /** A vCPU is online again. */
  comesUp(vcpu: Vcpu): void
  /** Wallclock in ns since 1970. */
  wallclockNs(): bigint
  typedCall: TypedCall
}

/** Settled description of a domain, made by Hypervisor.createDomain. */
export interface DomainConfig {
  domid: number
  vcpus: number
  bits: Bits
  type: DomainType
  maxEvtchnPort: number
  privileged: boolean
  /** Created with one pause. */
  paused: boolean
  sharedInfoGfn: number
  /** Where the grant table's frames are; -1: the guest places them. */
  grantTableGfn: number
  maxGrantFrames: number
  /** Feature word 0; undefined: what is there for its type. */
  features: number | undefined
  nrPirqs: number
  nlevel: NlevelLimits
}

/** Says in which way a domain stands still. */
export const frozenText = ({ domid, frozen }: { domid: number; frozen: 'saved' | 'restored' | null }): string =>
  `d${domid} stands still, ${frozen === 'saved' ? 'saved for its migration' : 'restored and not started'}`
