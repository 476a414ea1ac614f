/** Time-outs of SCHEDOP_poll: one at most for each vCPU, absolute system time in ns (EC-poll-10). */

import type { Vcpu } from '../domain/vcpu.js'

/** The timers of all vCPUs of a host. */
export class PollTimers {
  readonly #ends = new Map<Vcpu, bigint>()

  /** Ends the poll of this vCPU at `ns` at the latest, in place of any earlier time; 0 = no time-out. */
  arm(vcpu: Vcpu, ns: bigint): void {
    if (ns) this.#ends.set(vcpu, ns)
    else this.#ends.delete(vcpu)
  }

  /** Drops the time: the poll is over, or the vCPU is gone. */
  disarm(vcpu: Vcpu): void {
    this.#ends.delete(vcpu)
  }

  /** The time-out of its poll, if it has one. */
  endOf(vcpu: Vcpu): bigint | undefined {
    return this.#ends.get(vcpu)
  }

  /** The earliest of all, if there is one. */
  get nextNs(): bigint | undefined {
    let next: bigint | undefined
    for (const ns of this.#ends.values()) if (next === undefined || ns < next) next = ns
    return next
  }

  /** Takes the vCPUs whose time has come; their timers are removed. */
  takeDue(nowNs: bigint): Vcpu[] {
    const due = [...this.#ends].filter(([, ns]) => ns <= nowNs).map(([vcpu]) => vcpu)
    for (const vcpu of due) this.#ends.delete(vcpu)
    return due
  }
}
