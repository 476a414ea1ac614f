/**
 * What an embedder may ask of a host, of a domain and of a restore, and the checks of all that: a wrong type or range is a
 * ParameterError that names the option. Undefined is the default; null is a value like any other.
 */

import {
  type Bits,
  DOMID_FIRST_RESERVED,
  GRANT_FRAMES,
  MAX_FRAMES,
  MAX_GRANT_FRAMES,
  MAX_LEAF_PAGES,
  MAX_PIRQS,
  MAX_PORT,
  MAX_VCPUS,
  maxDepth,
  U32_MAX,
} from '../abi/index.js'
import type { OnError } from '../callout.js'
import { among, anything, flag, func, having, integer, known, nested, options, type Table, within } from '../check.js'
import type { Clock } from '../clock.js'
import type { DomainConfig, DomainType } from '../domain/config.js'
import type { Domain, Vcpu } from '../domain/handles.js'
import type { UpcallHow } from '../domain/upcall.js'
import type { WasmMemory } from '../machine/core.js'
import { MOST_THREADS } from '../machine/host_layout.js'
import type { GuestMemoryOptions } from '../machine/memory.js'
import type { Faults, TraceSink } from '../trace/index.js'
import { checkAbis, type OwnAbi } from './own_abi.js'
import type { FallThrough, HostLimits } from './world.js'
import type { XsmPolicy } from './xsm.js'

/**
 * The page walk of an embedder: turns a guest virtual address into a guest physical one, or -1. Page tables belong to a vCPU:
 * it is the one whose hypercall reads or writes there.
 */
export type Translate = (vcpu: Vcpu, gva: number, write: boolean) => number

/** Options of a host. */
export interface HypervisorOptions {
  /**
   * A vCPU has events and may be upcalled: enter the guest's handler, whose return is the return from the interrupt.
   * Called after hypercalls, never inside one. A PV guest's evtchn_upcall_mask is 1 meanwhile.
   */
  onUpcall?: (vcpu: Vcpu, how: UpcallHow) => void
  /**
   * A vCPU that was blocked in SCHEDOP_block or _poll runs again. Called where `onUpcall` is, and before it; if it is
   * offline, or its domain paused, shut down or frozen, when that is over.
   */
  onUnblock?: (vcpu: Vcpu) => void
  /**
   * A domain was shut down: by SCHEDOP_shutdown, or since its last vCPU went down. None of its vCPUs may run (`Vcpu.runnable`).
   * `reason` is one of SHUTDOWN_*. Called as the last act of the call that did it.
   */
  onShutdown?: (domain: Domain, reason: number) => void
  /**
   * Asked for a hypercall, or an operation of one, that the library does not know, with the guest's registers as unsigned
   * numbers of its width. Returns 0 or more, or -errno; undefined is ENOSYS. Runs inside the hypercall.
   */
  hypercall?: FallThrough
  /**
   * Told once for each domain that has an event and for which nobody listens: no guest was booted on it and there is no
   * `onUpcall`. Default: `console.warn`, where the platform has it.
   */
  warn?: (text: string) => void
  /** Where calls, upcalls and what the host does are recorded: a Trace, or hooks that look on. Default: none. */
  trace?: TraceSink
  /** Calls that are to fail. Default: none. */
  faults?: Faults
  /**
   * Gets what a function of the embedder's or of a guest's driver threw: a handler, `onUpcall`, a policy, a clock. Such an
   * error ends that function alone; the call under way goes its way. `where` names the function. Default: the error is
   * thrown again in a microtask, so that the platform reports it.
   */
  onError?: OnError
  /** Where time comes from. Default: a ManualClock that stands still. */
  clock?: Clock
  /** Permissions. Default: Xen's default policy. */
  xsm?: XsmPolicy
  /** Deepest N-level tree for 64-bit and 32-bit guests. Default 4 and 5; 2 grants none. */
  maxLevels?: number | Partial<Record<Bits, number>>
  /** Leaf pages per bitmap that one domain may register. Default 512. */
  maxLeafPages?: number
  /** RAM of the host in 4 KiB frames, of which every domain has its part; ENOMEM beyond. Default: no limit. */
  maxFrames?: number
  /** False: a host without N levels; the operations return ENOSYS. Default true. */
  nlevel?: boolean
  /** False: a host without the FIFO ABI (EC-op-6). Default true. */
  fifo?: boolean
  /** ABIs of your own, beside Xen's and N levels: docs/own-abi.md. Default: none. */
  abis?: readonly OwnAbi[]
  /**
   * Asked at every 64th port of a reset or teardown, and between the entries of a multicall: is preemption due? Then pending
   * softirqs run, or a step ends (`hypercallStep`, `killStep`, `softResetStep`). Default never.
   */
  preempt?: () => boolean
  /** Threads that vCPUs may be attached to, beside the hypervisor's own: 0 to 62. Default 0 (docs/threads.md). */
  threads?: number
}

/** Options of a domain. */
export interface DomainOptions {
  /** 0 … 0x7fef, free on this host. */
  domid: number
  /** 1 … 8192. Default 1. */
  vcpus?: number
  /** Word width. Default 64. */
  bits?: Bits
  /** PV respects evtchn_upcall_mask, HVM needs a vector or callback to be upcalled. Default 'pv'. */
  type?: DomainType
  /** Highest port number, inclusive; Infinity: no limit. Default: no limit for domain 0, 1023 for others, as xl does. */
  maxEvtchnPort?: number
  /** Control domain. Default: domain 0 only. */
  privileged?: boolean
  /** Created with one pause that its creator takes back, as Xen creates every domain: it runs from `unpauseDomain` on. Default false. */
  paused?: boolean
  /** RAM in 4 KiB frames. Default 256. */
  frames?: number
  /** Live in this memory instead of one of its own, from byte `base` on. */
  memory?: WasmMemory
  base?: number
  /** A memory of its own is shared between threads. Default false. */
  shared?: boolean
  /** The guest's page tables, by vCPU. Default: virtual is physical. */
  translate?: Translate
  /** Frame of shared_info. Default 1, which leaves frame 0 for null pointers. */
  sharedInfoGfn?: number
  /**
   * First of the frames that the grant table may have, one behind the other: what they hold are its entries. Default: none;
   * the table is placed by `grants.place`.
   */
  grantTableGfn?: number
  /** Frames that the grant table may grow to, of 512 entries each. Default 64. */
  maxGrantFrames?: number
  /** Feature word 0 that xen_version tells the guest. Default: what is there for its type. */
  features?: number
  /** Number of PIRQs. Default 256. */
  nrPirqs?: number
  /** May the guest have more than two levels? Default true. */
  nlevelAllowed?: boolean
  /** May the guest have the FIFO ABI? If not, its operations fail as on a host without it (EC-op-6). Default true. */
  fifoAllowed?: boolean
  /** The domain's own limits, beside the host's. */
  maxLevels?: number
  maxLeafPages?: number
}

const HOST_OPTIONS: Table<HypervisorOptions> = {
  onUpcall: func,
  onUnblock: func,
  onShutdown: func,
  hypercall: func,
  warn: func,
  onError: func,
  trace: nested<TraceSink>({ record: func, upcall: func }),
  faults: having('refusal'),
  clock: having('nowNs', 'wallclockNs'),
  xsm: having('evtchnUnbound', 'evtchnInterdomain', 'evtchnSend', 'evtchnStatus', 'evtchnReset'),
  maxLevels: anything,
  maxLeafPages: within(0, MAX_LEAF_PAGES),
  maxFrames: within(0, Number.MAX_SAFE_INTEGER),
  nlevel: flag,
  fifo: flag,
  abis: checkAbis,
  preempt: func,
  threads: within(0, MOST_THREADS),
}

/** Rows for the options of a domain; what depends on another option is checked where that is known. */
export const DOMAIN_OPTIONS: Table<DomainOptions> = {
  domid: anything,
  vcpus: within(1, MAX_VCPUS),
  bits: among<Bits>(32, 64),
  type: among<DomainType>('pv', 'hvm'),
  maxEvtchnPort: (call, name, value) => value === Infinity || integer(call, name, value, 0, U32_MAX),
  privileged: flag,
  paused: flag,
  frames: within(1, MAX_FRAMES),
  memory: anything,
  base: anything,
  shared: flag,
  translate: func,
  sharedInfoGfn: anything,
  grantTableGfn: anything,
  maxGrantFrames: within(0, MAX_GRANT_FRAMES),
  features: within(0, U32_MAX),
  nrPirqs: within(0, MAX_PIRQS),
  nlevelAllowed: flag,
  fifoAllowed: flag,
  maxLevels: anything,
  maxLeafPages: within(0, MAX_LEAF_PAGES),
}

/** A host's options as given, after their names and types were checked. @throws ParameterError */
export const checkHostOptions = (given: HypervisorOptions): HypervisorOptions =>
  options('Hypervisor.create', given, HOST_OPTIONS)

/** A host's limits. @throws ParameterError */
export function readLimits(given: HypervisorOptions): HostLimits {
  const call = 'Hypervisor.create'
  const { maxLevels = {}, maxLeafPages = 512, nlevel = true, fifo = true } = given
  const most = maxDepth(32)
  if (typeof maxLevels !== 'number')
    known<Record<string, unknown>>(call, maxLevels as Record<string, unknown>, ['32', '64'], 'maxLevels')
  const depth = (bits: Bits): number => {
    if (typeof maxLevels === 'number') return Math.min(integer(call, 'maxLevels', maxLevels, 2, most), maxDepth(bits))
    const { [bits]: given = maxDepth(bits) } = maxLevels
    return integer(call, `maxLevels[${bits}]`, given, 2, maxDepth(bits))
  }
  return { maxLevels: { 32: depth(32), 64: depth(64) }, maxLeafPages, nlevel, fifo }
}

/** What a domain's memory is to be made of, but for its page tables; GuestMemory checks it. */
export function readMemory({ frames = 256, memory, base, shared }: DomainOptions): GuestMemoryOptions {
  return { frames, memory, base, shared }
}

/** Limits that a domain has unless somebody says otherwise; the ports as xl gives them. */
export const DEFAULTS = { nrPirqs: 256, maxEvtchnPort: (domid: number) => (domid ? 1023 : Infinity) } as const

/** A domain's description of options that were checked by their table; `frames` is the size that its memory has. @throws ParameterError */
export function readDomain(call: string, given: DomainOptions, frames: number): DomainConfig {
  const {
    domid,
    vcpus = 1,
    bits = 64,
    type = 'pv',
    nrPirqs = DEFAULTS.nrPirqs,
    nlevelAllowed = true,
    fifoAllowed = true,
    maxLevels = maxDepth(bits),
    maxLeafPages = MAX_LEAF_PAGES,
    privileged = domid === 0,
    paused = false,
    features,
    maxEvtchnPort = DEFAULTS.maxEvtchnPort(domid),
    sharedInfoGfn = Math.min(1, frames - 1),
  } = given
  return {
    domid,
    vcpus,
    bits,
    type,
    maxEvtchnPort: Math.min(maxEvtchnPort, MAX_PORT),
    privileged,
    paused,
    sharedInfoGfn: integer(call, 'sharedInfoGfn', sharedInfoGfn, 0, frames - 1),
    ...readGrantTable(call, given, frames),
    features,
    nrPirqs,
    nlevel: {
      nlevelAllowed,
      maxLevels: integer(call, 'maxLevels', maxLevels, 2, maxDepth(bits)),
      maxLeafPages,
      fifoAllowed,
    },
  }
}

/** Where the grant table is: all of it inside the domain's RAM. @throws ParameterError */
function readGrantTable(
  call: string,
  { grantTableGfn, maxGrantFrames = GRANT_FRAMES.max }: DomainOptions,
  frames: number,
) {
  if (grantTableGfn === undefined) return { grantTableGfn: -1, maxGrantFrames }
  const gfn = integer(call, 'grantTableGfn', grantTableGfn, 0, frames - 1)
  // A limit that was not given is as large as the RAM allows.
  return { grantTableGfn: gfn, maxGrantFrames: Math.min(maxGrantFrames, frames - gfn) }
}

/** A domain's number. @throws ParameterError */
export const readDomid = (call: string, domid: unknown, name = 'domid'): number =>
  integer(call, name, domid, 0, DOMID_FIRST_RESERVED - 1)
