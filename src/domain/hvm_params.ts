/**
 * HVM parameters of a domain: 64-bit values by number, 0 until somebody sets them (EC-hvm-1). The callback is kept by the
 * domain itself, for every upcall reads it.
 */

import { HVM_PARAM_CALLBACK_IRQ } from '../abi/index.js'

/** The parameters of one domain. Who may set and get which one is for the hypercall to check. */
export class HvmParams {
  readonly #values = new Map<number, bigint>()
  readonly #domain: { callbackVia: bigint }

  constructor(domain: { callbackVia: bigint }) {
    this.#domain = domain
  }

  get(index: number): bigint {
    return index === HVM_PARAM_CALLBACK_IRQ ? this.#domain.callbackVia : (this.#values.get(index) ?? 0n)
  }

  set(index: number, value: bigint): void {
    if (index === HVM_PARAM_CALLBACK_IRQ) this.#domain.callbackVia = value
    else this.#values.set(index, value)
  }
}
