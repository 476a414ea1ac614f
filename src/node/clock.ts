/** Real time for a host: the one place where the library's clock meets the platform's. */

import type { Clock } from '../clock.js'

/** Monotonic ns since the process began, and the wallclock. */
export const realClock: Clock = {
  nowNs: () => performance.now() * 1e6,
  wallclockNs: () => BigInt(Date.now()) * 1_000_000n,
}

/** ns now. */
export const nowNs = (): number => performance.now() * 1e6
