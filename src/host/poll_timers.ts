/** Time-outs of SCHEDOP_poll: one at most for each vCPU, absolute system time in ns (EC-poll-10). */

import type { Vcpu } from '../domain/vcpu.js'

/** The timers of all vCPUs of a host. */
export class PollTimers {
  readonly #ends = new Map<Vcpu, bigint>()

  /** The poll of this vCPU ends at `ns` at the latest; 0 = there is no such time, nor one of an earlier poll. */
  arm(vcpu: Vcpu, ns: bigint): void {
    if (ns) this.#ends.set(vcpu, ns)
    else this.#ends.delete(vcpu)
  }

  /** Its poll is over, or the vCPU is. */
  disarm(vcpu: Vcpu): void {
    this.#ends.delete(vcpu)
  }

  /** When its poll ends, if it has such a time. */
  endOf(vcpu: Vcpu): bigint | undefined {
    return this.#ends.get(vcpu)
  }

  /** The earliest of all, or null. */
  get nextNs(): bigint | null {
    let next: bigint | null = null
    for (const ns of this.#ends.values()) if (next === null || ns < next) next = ns
    return next
  }

  /** vCPUs whose time has come; they have no timer any more. */
  takeDue(nowNs: bigint): Vcpu[] {
    const due = [...this.#ends].filter(([, ns]) => ns <= nowNs).map(([vcpu]) => vcpu)
    for (const vcpu of due) this.#ends.delete(vcpu)
    return due
  }
}
