/** The seeded generator of commands and benchmarks (mulberry32): the same run for the same seed. */

/** Draws a whole number from 0 to `n` - 1. */
export type Random = (n: number) => number

/** A generator that begins at `seed`. */
export function seeded(seed: number): Random {
  let state = seed >>> 0
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n)
  }
}

/** `n` of the numbers from 0 to `of` - 1, each at most once, in random order. */
export function pick(of: number, n: number, random: Random): number[] {
  const all = Array.from({ length: of }, (_, i) => i)
  for (let i = 0; i < n; i++) {
    const j = i + random(of - i)
    ;[all[i], all[j]] = [all[j]!, all[i]!]
  }
  return all.slice(0, n)
}
