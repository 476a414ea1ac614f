/**
 * The write-rate limit (XS-quota-4): while somebody else has a transaction open, a guest's writes cost credit, so that no
 * guest can make the others' transactions fail for ever. A guest in debt is not read until its credit has recovered.
 */

const PER_SECOND = 200
const BURST = 10
const RESERVE = 1000

interface Credit {
  amount: number
  at: number
}

/** Credits of all guests. */
export class WriteRate {
  readonly #now: () => number
  readonly #credits = new Map<number, Credit>()
  #reserve = RESERVE

  /** `now` is in milliseconds. */
  constructor(now: () => number) {
    this.#now = now
  }

  #of(domid: number): Credit {
    const now = this.#now()
    let credit = this.#credits.get(domid)
    if (!credit) {
      credit = { amount: BURST, at: now }
      this.#credits.set(domid, credit)
    }
    credit.amount += ((now - credit.at) / 1000) * PER_SECOND
    credit.at = now
    // What a guest does not use fills the common reserve.
    this.#reserve = Math.min(RESERVE, this.#reserve + Math.max(0, credit.amount - BURST))
    credit.amount = Math.min(BURST, credit.amount)
    return credit
  }

  /** Charges one write. */
  debit(domid: number): void {
    const credit = this.#of(domid)
    credit.amount--
    if (credit.amount >= 0 || this.#reserve < 1) return
    credit.amount++
    this.#reserve--
  }

  /** Must the guest wait? */
  inDebt(domid: number): boolean {
    return this.#credits.has(domid) && this.#of(domid).amount < 0
  }

  /** Milliseconds until it need not wait any more. */
  recovery(domid: number): number {
    return this.inDebt(domid) ? (-this.#of(domid).amount / PER_SECOND) * 1000 : 0
  }

  forget(domid: number): void {
    this.#credits.delete(domid)
  }
}
