/**
 * Port operations: what an ABI does with a port (evtchn_port_ops in Xen). The bitmaps and FIFO are the host core's: their
 * operations call it. An ABI that the core does not know does all of it in TypeScript.
 */

import type { Bits } from '../abi/index.js'
import type { Core } from '../machine/core.js'
import type { HostCore } from '../machine/host_core.js'
import { ABI_FOREIGN, DOMAIN } from '../machine/host_layout.js'
import type { PortTable } from './port_table.js'
import type { Vcpu } from './vcpu.js'

/** What query_nlevel returns in `abi` for a domain on words that are neither levels nor FIFO. */
export const ABI_OWN = 0x200

/** What a domain lends to its port operations. */
export interface Delivery {
  readonly core: Core
  readonly ports: PortTable
  readonly vcpus: readonly Vcpu[]
  readonly hostCore: HostCore
  /** Address of the domain's record in the host core's memory, and where the functions of its guest's core begin. */
  readonly record: number
  readonly coreSlots: number
  /** Does what the host core's result leaves to do: kick a vCPU, wake pollers of the port. */
  finish(result: number, port: number): void
  /** Wakes pollers of a port (EC-up-11). */
  checkPollers(port: number): void
  /** The upcall flag went 0 → 1, or a scan is due: tell the vCPU (EC-up-2). */
  kick(vcpu: Vcpu): void
}

/** The operations of one ABI on one domain. Callers test usability first (EC-port-2). */
export interface PortOps {
  /** Tells the host core that this ABI is in force, if it knows it; senders are outside. */
  enter?(): void
  /** Gives back what it has in the private memory: in force no longer, or never. */
  leave?(): void
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

/** An ABI that the host core knows: it is published in the domain's record, and operations are calls of the core. */
export abstract class CorePortOps implements PortOps {
  protected readonly to: Delivery
  abstract readonly abi: number
  abstract readonly levels: number
  abstract readonly bits: Bits
  abstract readonly maxEvtchns: number

  constructor(to: Delivery) {
    this.to = to
  }

  abstract enter(): void
  abstract leave(): void
  abstract moved(port: number): void
  abstract selectorDigits(port: number): string

  /** Writes a word of the domain's record. */
  protected publish(offset: number, value: number): void {
    const { hostCore, record } = this.to
    hostCore.memory.words[(record + offset) >>> 2] = value
  }

  setPending(port: number): void {
    const { hostCore, record } = this.to
    this.to.finish(hostCore.calls.raise(record, port), port)
  }
  clearPending(port: number): void {
    this.to.hostCore.calls.clear(this.to.record, port)
  }
  unmask(port: number): void {
    const { hostCore, record } = this.to
    this.to.finish(hostCore.calls.unmask(record, port), port)
  }
  isPending(port: number): boolean {
    return (this.to.hostCore.calls.bits(this.to.record, port) & 1) !== 0
  }
  isMasked(port: number): boolean {
    return (this.to.hostCore.calls.bits(this.to.record, port) & 2) !== 0
  }
}

/** Says in a domain's record that its ABI is not the host core's: sends to it come to TypeScript. */
export function enterForeign(to: Delivery): void {
  to.hostCore.memory.words[(to.record + DOMAIN.ABI) >>> 2] = ABI_FOREIGN
}

/** The operations of a domain that has left the host: no event is anywhere. */
export function goneOps({ abi, levels, bits, maxEvtchns }: PortOps): PortOps {
  const nothing = () => {}
  return {
    ...{ abi, levels, bits, maxEvtchns },
    ...{ setPending: nothing, clearPending: nothing, unmask: nothing, moved: nothing },
    isPending: () => false,
    isMasked: () => true,
    selectorDigits: () => '',
  }
}
