/** Port operations over words of an own ABI: every function of the embedder's runs behind a wall. */

import type { Bits } from '../abi/index.js'
import type { Callouts } from '../callout.js'
import type { Domain } from './domain.js'
import { ABI_OWN, type PortOps } from './port_ops.js'

/** The functions of the embedder's words that operations call; see OwnWords. */
export interface Words {
  readonly maxEvtchns: number
  setPending(port: number, vcpu: number): boolean
  clearPending(port: number): void
  unmask(port: number, vcpu: number): boolean
  isPending(port: number): boolean
  isMasked(port: number): boolean
  moved?(port: number, vcpu: number): boolean
  left?(): void
}

/** Operations over such words. What one of the functions throws is reported; the event stays where it was. */
export class OwnPortOps implements PortOps {
  readonly abi = ABI_OWN
  readonly levels = 0
  readonly bits: Bits
  readonly maxEvtchns: number
  readonly #domain: Domain
  readonly #words: Words
  readonly #callouts: Callouts

  constructor(domain: Domain, words: Words, callouts: Callouts) {
    this.#domain = domain
    this.#words = words
    this.#callouts = callouts
    this.bits = domain.bits
    this.maxEvtchns = words.maxEvtchns
  }

  #call<T>(name: string, otherwise: T, body: (words: Words) => T): T {
    return this.#callouts.run(`${name} of d${this.#domain.domid}'s own ABI`, otherwise, () => body(this.#words))
  }

  /** The vCPU that a port notifies looks, if the words say so. */
  #look(port: number, name: string, body: (words: Words, vcpu: number) => boolean): void {
    const vcpuId = this.#domain.ports.notifyVcpu(port)
    const vcpu = this.#domain.vcpus[vcpuId]
    if (this.#call(name, false, (words) => body(words, vcpuId)) && vcpu) this.#domain.markEventsPending(vcpu)
  }

  setPending(port: number): void {
    this.#look(port, 'setPending', (words, vcpu) => words.setPending(port, vcpu))
    this.#domain.checkPollers(port)
  }
  clearPending(port: number): void {
    this.#call('clearPending', undefined, (words) => words.clearPending(port))
  }
  unmask(port: number): void {
    this.#look(port, 'unmask', (words, vcpu) => words.unmask(port, vcpu))
  }
  isPending(port: number): boolean {
    return this.#call('isPending', false, (words) => words.isPending(port) === true)
  }
  isMasked(port: number): boolean {
    return this.#call('isMasked', true, (words) => words.isMasked(port) !== false)
  }
  moved(port: number): void {
    this.#look(port, 'moved', (words, vcpu) => words.moved?.(port, vcpu) ?? false)
  }
  selectorDigits(): string {
    return ''
  }
  leave(): void {
    this.#call('left', undefined, (words) => words.left?.())
  }
}
