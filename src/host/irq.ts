/**
 * The host's interrupt lines as guests share them: who is bound to a line, and who may join (EC-pirq-7, EC-irq-2).
 * The line number is the PIRQ number, as for dom0 in Xen.
 */

import { Errno, type Outcome, refuse } from '../errno.js'

/** Most guests on one line. */
const IRQ_MAX_GUESTS = 7

const inUse = (irq: number) => refuse(Errno.EBUSY, () => `interrupt ${irq} is in use and cannot be shared`)

interface Line {
  shareable: boolean
  readonly guests: Set<number>
}

/** Bindings of host interrupts to domains. */
export class IrqLines {
  readonly #lines = new Map<number, Line>()
  readonly #usedByXen = new Set<number>()
  readonly #asserted = new Set<number>()

  /** Xen keeps a line for itself: guests get EBUSY. */
  claim(irq: number): void {
    this.#usedByXen.add(irq)
  }

  /** Binds a domain to a line; EBUSY if it may not join. */
  bind(irq: number, domid: number, willShare: boolean): Outcome {
    const refused = this.mayBind(irq, willShare)
    if (refused) return refused
    const line = this.#lines.get(irq)
    if (line) line.guests.add(domid)
    else this.#lines.set(irq, { shareable: willShare, guests: new Set([domid]) })
    return 0
  }

  /** The check of `bind`, as if the domain `without` were not on the line. */
  mayBind(irq: number, willShare: boolean, without = -1): Outcome {
    if (this.#usedByXen.has(irq)) return inUse(irq)
    const line = this.#lines.get(irq)
    const others = line ? line.guests.size - Number(line.guests.has(without)) : 0
    if (!line || !others) return 0
    return !willShare || !line.shareable || others >= IRQ_MAX_GUESTS ? inUse(irq) : 0
  }

  unbind(irq: number, domid: number): void {
    const line = this.#lines.get(irq)
    line?.guests.delete(domid)
    if (line?.guests.size === 0) this.#lines.delete(irq)
  }

  /** Domains on a line. */
  guests(irq: number): readonly number[] {
    return [...(this.#lines.get(irq)?.guests ?? [])]
  }

  /** Raises or lowers a level-triggered line. */
  assert(irq: number, level: boolean): void {
    if (level) this.#asserted.add(irq)
    else this.#asserted.delete(irq)
  }

  /** A level that is still high after its EOI fires again (EC-irq-4). */
  isAsserted(irq: number): boolean {
    return this.#asserted.has(irq)
  }

  /** More than one guest is on the line now; that a single one would let others join is not enough (EC-irq-5). */
  isShared(irq: number): boolean {
    return (this.#lines.get(irq)?.guests.size ?? 0) > 1
  }
}
