/**
 * A domain as plain data, to be restored on another host (nlevel.md section 5). The two modes differ in who makes the
 * guest's channels again after a migration:
 *
 *     cooperative   configuration · RAM                              the guest, as in Xen: it starts with two levels and
 *                                                                    no channels (NL-mig-1, EC-die-8)
 *     transparent   the same · vCPUs · ports · PIRQs · ABI part      the hypervisor: the guest notices nothing
 *                                                                    (NL-mig-3)
 *
 * It survives structured clone and JSON. What an ABI keeps beside the port table is its own part of the state
 * (abi_parts.ts). save.ts makes it, check.ts checks it, and restore.ts decides what the host grants.
 */

import {
  type Bits,
  DOMID_MASK,
  EVTCHN_FIFO_MAX_QUEUES,
  MAX_DOMID,
  MAX_IRQ,
  MAX_PORT,
  MAX_VCPUS,
  NR_VIRQS,
} from '../abi/index.js'
import type { DomainType } from '../domain/config.js'
import type { SavedAbi } from './abi_parts.js'
import type { Columns, SavedTable } from './fields.js'
import type { SavedRun } from './ram.js'

/** Version of the format that is written. 2: RAM as bytes, or none. */
export const SAVE_VERSION = 2
/** Versions that are read. In 1, RAM was always there, as base64. */
export const READ_VERSIONS = [1, SAVE_VERSION] as const
/** What a saved domain says it is. */
export const FORMAT = 'evtchn-domain'

/** Who makes the channels again. */
export type SaveMode = 'cooperative' | 'transparent'
/** The same as values. */
export const MODES = ['cooperative', 'transparent'] as const

/** What both modes carry: the configuration and the RAM. */
export interface SavedCommon {
  format: typeof FORMAT
  version: number
  domid: number
  /** Width of shared_info as last latched. */
  bits: Bits
  type: DomainType
  vcpus: number
  frames: number
  sharedInfoGfn: number
  maxEvtchnPort: number
  nrPirqs: number
  /** Null: the embedder carries the RAM. */
  ram: SavedRun[] | null
}

/** A domain whose guest makes its channels again. */
export interface SavedCooperative extends SavedCommon {
  mode: 'cooperative'
}

/** A vCPU as the hypervisor knows it; its flag, mask and level 1 are in RAM. */
export interface SavedVcpu {
  /** Frame of a vcpu_info that the guest registered; -1 = where a vCPU begins (EC-vi-1, EC-vi-2). */
  infoGfn: number
  infoOffset: number
  upcallVector: number
  down: boolean
  blocked: boolean
  /** SCHEDOP_poll: one port, or -1 for any; ns left, null = for ever. */
  poll: { port: number; leftNs: string | null } | null
}

/** A domain whose channels travel with it. */
export interface SavedTransparent extends SavedCommon {
  mode: 'transparent'
  /** Frames that are not of writable type. */
  readOnly: number[]
  shutdownCode: number
  suspendEvtchn: number
  /** HVM parameter 0. */
  callbackVia: string
  /** One for each of `vcpus`. */
  vcpuState: SavedVcpu[]
  /** Number of port objects that exist (EC-port-6). */
  validEvtchns: number
  /** Open ports by state, ascending. `vcpu` is the notify vCPU, `domid` and `remotePort` the other end. */
  ports: Record<PortState, SavedTable>
  /** Ports that Xen itself had: reported, never restored (NL-mig-6). */
  xenPorts: number[]
  pirqs: SavedTable
  /** The PIRQ EOI map (EC-irq-3). */
  eoiMap: { gfn: number; autoUnmask: boolean } | null
  /** What FIFO keeps of each port, where it is not as new: it outlives close and reset (EC-fifo-14, EC-expand-7). */
  fifoPorts: SavedTable
  abi: SavedAbi
}

/** A saved domain: plain data that survives structured clone and JSON. */
export type SavedDomain = SavedCooperative | SavedTransparent

/** States that an open port can have in a saved domain. */
export type PortState = 'unbound' | 'interdomain' | 'virq' | 'pirq' | 'ipi'

const vcpu = [0, MAX_VCPUS - 1] as const
const anyPort = [1, MAX_PORT] as const

/** Columns of the port tables, by state. */
export const PORT_COLUMNS: Readonly<Record<PortState, Columns>> = {
  unbound: { port: anyPort, vcpu, domid: [0, DOMID_MASK] },
  interdomain: { port: anyPort, vcpu, domid: [0, MAX_DOMID], remotePort: anyPort },
  virq: { port: anyPort, vcpu, virq: [0, NR_VIRQS - 1] },
  pirq: { port: anyPort, vcpu, pirq: [0, MAX_IRQ] },
  ipi: { port: anyPort, vcpu },
}
/** Columns of the PIRQ records. */
export const PIRQ_COLUMNS: Columns = { pirq: [0, MAX_IRQ], port: [0, MAX_PORT], willShare: [0, 1], inFlight: [0, 1] }

/** Columns of what FIFO keeps for each port. */
export const FIFO_COLUMNS: Columns = {
  port: anyPort,
  priority: [0, EVTCHN_FIFO_MAX_QUEUES - 1],
  savedPending: [0, 1],
  lastVcpu: vcpu,
  lastPriority: [0, EVTCHN_FIFO_MAX_QUEUES - 1],
}
