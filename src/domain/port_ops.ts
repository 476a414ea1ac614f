/**
 * Port operations: what an ABI does with a port (evtchn_port_ops in Xen). One implementation serves every depth; two
 * levels are depth 2, with the words in shared_info instead of frames that the guest registered.
 *
 * Base addresses are resolved once, here: per leaf page one absolute address for the pending and one for the mask word.
 */

import type { Bits } from '../abi/index.js'
import type { Core } from '../machine/core.js'
import type { PortTable } from './port_table.js'
import type { Vcpu } from './vcpu.js'

/** What a domain lends to its port operations. */
export interface Delivery {
  readonly core: Core
  readonly ports: PortTable
  readonly vcpus: readonly Vcpu[]
  /** Wakes pollers of a port (EC-up-11). */
  checkPollers(port: number): void
  /** The upcall flag went 0 → 1, or a scan is due: tell the vCPU (EC-up-2). */
  kick(vcpu: Vcpu): void
}

/** The operations of one ABI on one domain. Callers test usability first (EC-port-2). */
export interface PortOps {
  /** What query_nlevel returns in `abi`: 2 … 5 for that many levels, ABI_FIFO. */
  readonly abi: number
  /** Levels of the tree: 2…5; 0 = the ABI has none. */
  readonly levels: number
  /** The guest's word width for event channels. */
  readonly bits: Bits
  /** Port numbers that the ABI can express. */
  readonly maxEvtchns: number
  setPending(port: number): void
  clearPending(port: number): void
  unmask(port: number): void
  isPending(port: number): boolean
  isMasked(port: number): boolean
  /** The ABI still holds on to the port: allocation skips it (EC-close-10). Bitmaps never do. */
  isBusy?(port: number): boolean
  /** A port is born by a bind of the guest's own (EC-fifo-23). */
  init?(port: number): void
  /** False: no such priority. An ABI without priorities has no such operation (EC-prio-2). */
  setPriority?(port: number, priority: number): boolean
  /** A pending, unmasked port moved to another vCPU: raise it there (NL-vcpu-1); at n = 2 nothing (EC-vcpu-6). */
  moved(port: number): void
  /** The column S of the dump: one digit a selector level, from n-1 to 1 (NL-dump-1); FIFO: EC-dump-7. */
  selectorDigits(port: number): string
}
