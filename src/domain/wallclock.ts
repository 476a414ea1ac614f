/**
 * The wallclock in shared_info: seconds and nanoseconds since 1970, with a version that is odd while they change.
 *
 *     wc_version   u32   odd: a write is under way, read again
 *     wc_sec       u32   low word of the seconds
 *     wc_nsec      u32
 *     wc_sec_hi    u32   high word; in another place for each width (EC-lay-4)
 */

import { type Bits, PAGE_SIZE, sharedInfo } from '../abi/index.js'
import type { GuestMemory } from '../machine/memory.js'

/** Writes the time `ns` since 1970 to the shared_info at `sharedInfoAt`. The version goes odd before the words change. */
export function writeWallclock(memory: GuestMemory, sharedInfoAt: number, bits: Bits, ns: bigint): void {
  const at = sharedInfo(bits)
  const view = new DataView(memory.memory.buffer, sharedInfoAt, PAGE_SIZE)
  const seconds = ns / 1_000_000_000n
  const version = (view.getUint32(at.wc_version, true) | 1) >>> 0
  view.setUint32(at.wc_version, version, true)
  view.setUint32(at.wc_sec, Number(seconds & 0xffff_ffffn), true)
  view.setUint32(at.wc_sec_hi, Number((seconds >> 32n) & 0xffff_ffffn), true)
  view.setUint32(at.wc_nsec, Number(ns % 1_000_000_000n), true)
  view.setUint32(at.wc_version, version + 1, true)
}
