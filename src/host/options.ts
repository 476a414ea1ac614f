/**
 * What an embedder may ask of a host, of a domain and of a restore, and the checks of all that: a wrong type or range is a
 * ParameterError that names the option. Undefined is the default; null is a value like any other.
 */

import { type Bits, DOMID_FIRST_RESERVED, maxDepth } from '../abi/index.js'
import { integer, object, oneOf, optional, ParameterError } from '../check.js'
import type { Clock } from '../clock.js'
import type { DomainConfig, DomainType } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import type { GuestMemoryOptions, Translate } from '../machine/memory.js'
import type { HostLimits } from './world.js'
import type { XsmPolicy } from './xsm.js'

/** Options of a host. */
export interface HypervisorOptions {
  /**
   * A vCPU has events and may be upcalled: enter the guest's handler, whose return is the return from the interrupt.
   * Called after hypercalls, never inside one. A PV guest's evtchn_upcall_mask is 1 meanwhile.
   */
  onUpcall?: (vcpu: Vcpu) => void
  /**
   * A vCPU that was blocked in SCHEDOP_block or _poll goes on. Called where `onUpcall` is, and before it; if it is
   * offline, or its domain paused, shut down or frozen, when that is over.
   */
  onUnblock?: (vcpu: Vcpu) => void
  /**
   * Hooks for recording and comparing, called in the middle of an operation: they look on and call nothing. `upcall`: a
   * vCPU's evtchn_upcall_pending went 0 → 1 or its upcall is due anew, also where `onUpcall` is not called because the
   * guest masks upcalls. Default: none.
   */
  trace?: { upcall?: (vcpu: Vcpu) => void }
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
  /** False: a host that never heard of N levels; the operations answer ENOSYS. Default true. */
  nlevel?: boolean
  /** False: a host without the FIFO ABI (EC-op-6). Default true. */
  fifo?: boolean
  /** Asked at every 64th port of a reset or teardown: is preemption due? Default never. */
  preempt?: () => boolean
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
  /** Highest port number, inclusive; -1 = no limit. Default: no limit for domain 0, 1023 for others, as xl does. */
  maxEvtchnPort?: number
  /** Control domain. Default: domain 0 only. */
  privileged?: boolean
  /** RAM in 4 KiB frames. Default 256. */
  frames?: number
  /** Live in this memory instead of one of its own, from byte `base` on. */
  memory?: WebAssembly.Memory
  base?: number
  /** A memory of its own is shared between threads. Default false. */
  shared?: boolean
  /** Guest page tables. Default: virtual is physical. */
  translate?: Translate
  /** Frame of shared_info. Default 1, which leaves frame 0 for null pointers. */
  sharedInfoGfn?: number
  /** Number of PIRQs. Default 256. */
  nrPirqs?: number
  /** May the guest have more than two levels? Default true. */
  nlevelAllowed?: boolean
  /** The domain's own limits, beside the host's. */
  maxLevels?: number
  maxLeafPages?: number
}

const INT_MAX = 2 ** 31 - 1

/** Most leaf pages per bitmap that any host or domain may grant. */
const MOST_LEAF_PAGES = 1024

/** A host's options as given, after their types were checked. @throws ParameterError */
export function checkHostOptions(options: HypervisorOptions): HypervisorOptions {
  const call = 'Hypervisor.create'
  object(call, 'options', options)
  for (const name of ['onUpcall', 'onUnblock', 'preempt'] as const) optional(call, name, options[name], 'function')
  optional(call, 'trace', options.trace, 'object')
  optional(call, 'trace.upcall', options.trace?.upcall, 'function')
  for (const [name, methods] of Object.entries(INTERFACES)) {
    const given = optional(call, name, options[name as 'clock' | 'xsm'], 'object') as
      | Record<string, unknown>
      | undefined
    for (const method of given ? methods : [])
      if (typeof given![method] !== 'function')
        throw new ParameterError(call, `${name}.${method}`, given![method], 'a function')
  }
  return options
}

/** Options that are objects with methods. */
const INTERFACES = {
  clock: ['nowNs', 'wallclockNs'],
  xsm: ['evtchnUnbound', 'evtchnInterdomain', 'evtchnSend', 'evtchnStatus', 'evtchnReset'],
}

/** Frames of RAM that a host has. @throws ParameterError */
export function readMaxFrames({ maxFrames = Number.MAX_SAFE_INTEGER }: HypervisorOptions): number {
  return integer('Hypervisor.create', 'maxFrames', maxFrames, 0, Number.MAX_SAFE_INTEGER)
}

/** A host's limits. @throws ParameterError */
export function readLimits(options: HypervisorOptions): HostLimits {
  const call = 'Hypervisor.create'
  const { maxLevels = {}, maxLeafPages = 512, nlevel = true, fifo = true } = options
  if (typeof maxLevels !== 'number') object(call, 'maxLevels', maxLevels)
  const most = maxDepth(32)
  const depth = (bits: Bits) => {
    if (typeof maxLevels === 'number') return Math.min(integer(call, 'maxLevels', maxLevels, 2, most), maxDepth(bits))
    const { [bits]: given = maxDepth(bits) } = maxLevels
    return integer(call, `maxLevels[${bits}]`, given, 2, maxDepth(bits))
  }
  return {
    maxLevels: { 32: depth(32), 64: depth(64) },
    maxLeafPages: integer(call, 'maxLeafPages', maxLeafPages, 0, MOST_LEAF_PAGES),
    nlevel: oneOf(call, 'nlevel', nlevel, [true, false]),
    fifo: oneOf(call, 'fifo', fifo, [true, false]),
  }
}

/** What a domain's memory is to be made of; GuestMemory checks it. */
export function readMemory(call: string, options: DomainOptions): GuestMemoryOptions {
  const { frames = 256, memory, base, shared, translate } = options
  return { frames: integer(call, 'frames', frames, 1, 2 ** 20), memory, base, shared, translate }
}

/** A domain's description; `frames` is the size that its memory has. @throws ParameterError */
export function readDomain(call: string, options: DomainOptions, frames: number): DomainConfig {
  const {
    domid,
    vcpus = 1,
    bits = 64,
    type = 'pv',
    nrPirqs = 256,
    nlevelAllowed = true,
    maxLeafPages = MOST_LEAF_PAGES,
  } = options
  const {
    privileged = domid === 0,
    maxEvtchnPort = domid ? 1023 : -1,
    sharedInfoGfn = Math.min(1, frames - 1),
  } = options
  const highest = integer(call, 'maxEvtchnPort', maxEvtchnPort, -1, 2 ** 32 - 1)
  const width = oneOf<Bits>(call, 'bits', bits, [32, 64])
  const { maxLevels = maxDepth(width) } = options
  return {
    domid,
    vcpus: integer(call, 'vcpus', vcpus, 1, 8192),
    bits: width,
    type: oneOf<DomainType>(call, 'type', type, ['pv', 'hvm']),
    maxEvtchnPort: highest < 0 ? INT_MAX : Math.min(highest, INT_MAX),
    privileged: oneOf(call, 'privileged', privileged, [true, false]),
    sharedInfoGfn: integer(call, 'sharedInfoGfn', sharedInfoGfn, 0, frames - 1),
    nrPirqs: integer(call, 'nrPirqs', nrPirqs, 0, 32768),
    nlevel: {
      nlevelAllowed: oneOf(call, 'nlevelAllowed', nlevelAllowed, [true, false]),
      maxLevels: integer(call, 'maxLevels', maxLevels, 2, maxDepth(width)),
      maxLeafPages: integer(call, 'maxLeafPages', maxLeafPages, 0, MOST_LEAF_PAGES),
    },
  }
}

/** A domain's number. @throws ParameterError */
export const readDomid = (call: string, domid: unknown, name = 'domid'): number =>
  integer(call, name, domid, 0, DOMID_FIRST_RESERVED - 1)
