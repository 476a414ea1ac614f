/**
 * shared_info and vcpu_info, both widths (spec 1.3, 1.4):
 *
 *     shared_info  64-bit                  32-bit
 *        0  vcpu_info[32], 64 bytes each      0  the same
 *     2048  evtchn_pending  512 bytes      2048  128 bytes
 *     2560  evtchn_mask     512 bytes      2176  128 bytes
 *     3072  wallclock                      2304
 */

/** Width of a guest's machine word. */
export type Bits = 32 | 64

/** log2 of the word width: b of nlevel.md. */
export const wordShift = (bits: Bits): 5 | 6 => (bits === 64 ? 6 : 5)

/** Bytes of vcpu_info, in both widths. */
export const VCPU_INFO_SIZE = 64
/** Offsets of the two bytes at the head of vcpu_info. */
export const UPCALL_PENDING = 0
export const UPCALL_MASK = 1

/** Offsets that depend on the width; all in bytes. `sel` and `time` count from vcpu_info, the rest from shared_info. */
export interface SharedInfoLayout {
  readonly size: number
  readonly sel: number
  readonly time: number
  readonly pending: number
  readonly mask: number
  readonly wc_version: number
  readonly wc_sec: number
  readonly wc_nsec: number
  readonly wc_sec_hi: number
  /** Words of each bitmap: W, so W² channels. */
  readonly words: number
}

const LAYOUT_64: SharedInfoLayout = {
  size: 3136,
  sel: 8,
  time: 32,
  pending: 2048,
  mask: 2560,
  wc_version: 3072,
  wc_sec: 3076,
  wc_nsec: 3080,
  wc_sec_hi: 3084,
  words: 64,
}
const LAYOUT_32: SharedInfoLayout = {
  size: 2344,
  sel: 4,
  time: 32,
  pending: 2048,
  mask: 2176,
  wc_version: 2304,
  wc_sec: 2308,
  wc_nsec: 2312,
  wc_sec_hi: 2340,
  words: 32,
}

/** The layout for a width (EC-lay-6: exact, never converted). */
export const sharedInfo = (bits: Bits): SharedInfoLayout => (bits === 64 ? LAYOUT_64 : LAYOUT_32)
