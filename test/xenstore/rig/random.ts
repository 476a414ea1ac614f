/** Seeded choices: the same seed makes the same sequence. */

import { seeded } from '../../../src/cli/random.js'
import type { Below } from '../../random.js'

export class Random {
  readonly #next: Below

  constructor(seed: number) {
    this.#next = seeded(seed)
  }

  /** 0 to n - 1. */
  below(n: number): number {
    return this.#next(n)
  }
  /** True with this probability. */
  chance(p: number): boolean {
    return this.#next(10_000) / 10_000 < p
  }
  of<T>(items: readonly T[]): T {
    return items[this.#next(items.length)]!
  }
  list<T>(n: number, make: () => T): T[] {
    return Array.from({ length: n }, make)
  }
}
