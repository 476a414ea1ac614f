/** Random numbers as a hostile guest chooses them: mostly small, so that they get far, often on an edge, sometimes mad. */

import { PAGE_SIZE } from '../../src/abi/index.js'
import type { Register } from '../../src/index.js'
import { type Below, random } from '../random.js'

/** Numbers that mean something somewhere: domain ids, limits, signs. */
const EDGES = [0x7ff0, 0x7ff1, 0x7fff, 0xffff_ffff, 0x8000_0000, 32768, 4096, 1024, 4095, 1023, 64, 32]
const MAD = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  -0,
  1.5,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  1e300,
  -1,
  2 ** 52 + 4096,
]

/** Random numbers and what is made of them; the same seed gives the same sequence. */
export class Random {
  readonly below: Below

  constructor(seed: number) {
    this.below = random(seed)
  }

  /** 32 bits. */
  word(): number {
    return this.below(2 ** 32)
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!
  }

  /** A member of a struct. */
  value(): number {
    switch (this.below(8)) {
      case 0:
        return this.word()
      case 1:
        return this.pick(EDGES)
      case 2:
      case 3:
        return this.below(80)
      default:
        return this.below(9)
    }
  }

  /** A register: what a guest's 64 bits, or a careless embedder, can hand over. */
  register(): Register {
    switch (this.below(6)) {
      case 0:
        return BigInt(this.word()) << BigInt(this.below(80))
      case 1:
        return -BigInt(this.word()) << BigInt(this.below(40))
      case 2:
        return this.word() | 0
      case 3:
        return this.pick(MAD)
      default:
        return this.value()
    }
  }

  /** One of `frames` frame numbers: often the last one, sometimes the first that is not there. */
  frame(frames: number): number {
    const which = this.below(8)
    if (which < 3) return frames - 1
    return which < 7 ? this.below(frames) : frames + this.below(2)
  }

  /** Where words begin in a frame: often where they just fit, or just do not. */
  offset(): number {
    switch (this.below(5)) {
      case 0:
        return PAGE_SIZE - (this.below(18) << 2)
      case 1:
        return PAGE_SIZE - (this.below(80) << 3)
      case 2:
        return PAGE_SIZE - (this.below(1100) << 2)
      case 3:
        return this.below(64) << 3
      default:
        return 0
    }
  }
}
