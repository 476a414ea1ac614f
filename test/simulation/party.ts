/**
 * A guest of the simulation, its ends of channels, and what each end is owed. A send owes the other end a run of its
 * handler, and the run must have come when the step is over, unless the guest itself holds it off.
 *
 *     send ──▶ owed ──handler──▶ not owed          allowed meanwhile: masked, vCPU down, guest suspended, paused, frozen
 */

import type { Domain, GuestKernel } from '../../src/index.js'
import type { SimulatedHost } from './host.js'

/** Forms that a guest asks for. */
export const FORMS = [2, 3, 4, 'fifo'] as const

/** One end of a channel. */
export class End {
  readonly party: Party
  readonly what: 'interdomain' | 'ipi' | 'virq'
  port = 0
  vcpu: number
  peer: End | undefined
  masked = false
  closed = false
  /** A send that the handler has not seen. */
  owed = false

  constructor(party: Party, what: End['what'], vcpu: number) {
    this.party = party
    this.what = what
    this.vcpu = vcpu
  }

  /** May an event wait here? */
  get held(): boolean {
    const { party } = this
    // On FIFO an event that is queued stays on the queue of the vCPU that it was first notified on (EC-fifo-14).
    const down = party.kernel.levels === 'fifo' ? party.down.size > 0 : party.down.has(this.vcpu)
    return this.closed || this.masked || party.held || down
  }

  toString(): string {
    return `d${this.party.domid}:${this.port} (${this.what})`
  }
}

/** A guest, wherever it is now. */
export class Party {
  host: SimulatedHost
  domain: Domain
  kernel: GuestKernel
  readonly ends = new Set<End>()
  readonly down = new Set<number>()
  suspended = false
  paused = 0

  constructor(host: SimulatedHost, kernel: GuestKernel, domain: Domain) {
    this.host = host
    this.kernel = kernel
    this.domain = domain
  }

  get domid(): number {
    return this.domain.domid
  }
  get held(): boolean {
    return this.suspended || this.paused > 0
  }

  /** The channel is gone on this side: the other end has no peer any more. */
  drop(end: End): void {
    end.closed = true
    this.ends.delete(end)
    this.cut(end)
  }

  /** The two ends do not know each other any more. */
  cut(end: End): void {
    if (end.peer) end.peer.peer = undefined
    end.peer = undefined
  }
}
