/** Numbers as people read them: 262,144; 12.5 µs; 3.0 MiB; three digits. */

/** An integer with commas. */
export const count = (n: number): string => Math.round(n).toLocaleString('en-US')

/** A time with the unit that suits it. */
export function duration(ns: number): string {
  if (ns < 1e3) return `${ns.toFixed(ns < 10 ? 1 : 0)} ns`
  if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} µs`
  if (ns < 1e9) return `${(ns / 1e6).toFixed(1)} ms`
  return `${(ns / 1e9).toFixed(2)} s`
}

/** Bytes as KiB or MiB. */
export function bytes(n: number): string {
  return n < 1024 ? `${n} B` : n < 1 << 20 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / (1 << 20)).toFixed(1)} MiB`
}

/** Three significant digits, without an exponent. */
export function digits(value: number): string {
  if (value >= 99.95) return count(value)
  return value.toFixed(value >= 9.995 ? 1 : 2)
}
