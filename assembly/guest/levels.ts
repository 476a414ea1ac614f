/**
 * The hypervisor's side of every bitmap ABI: raise, climb, unmask. Two levels are depth 2 of N.
 *
 *     level 1     vcpu_info.evtchn_pending_sel, one word per vCPU        bit p >> b·(n-1)
 *       …         selector frames that the guest registered, per vCPU    bit p >> b·(n-k)
 *     level n     pending and mask bitmaps, one pair per domain          bit p
 *
 * W = 2^b bits a word, b = 6 or 5. Memory is little-endian, so a bit is a bit whatever the guest's word: the 32-bit word
 * at byte 4·(i >> 5) holds bit i of a bitmap for both widths, and only b and n differ. Inside a page of 32,768 bits
 * that word has the index (i >> 5) & 1023; a level that fits in a page starts wherever its base says.
 *
 * A raise is two calls, because NL-set-1 wants the notify vCPU and "are its selectors active?" read *after* the
 * test-and-set of the leaf bit, and both are the hypervisor's private state, which this memory must not hold:
 *
 *     leafSet → 0: was pending, stop · 1: newly pending, masked · 2: newly pending: read the vCPU, then climb
 *
 * Addresses come resolved and checked. Rules: nlevel.md NL-set, NL-unmask, NL-clear; at n = 2 event-channels.md EC-2l.
 */

import { fetchAnd, fetchOr, read, take, write } from '../bitops'

// @ts-ignore: decorator
@inline
function wordOf(page: usize, bit: u32): usize {
  return page + (((bit >>> 5) & 1023) << 2)
}

// @ts-ignore: decorator
@inline
function maskOf(bit: u32): u32 {
  return 1 << (bit & 31)
}

/** NL-set-1, first half. The leaf always takes the read-modify-write: it orders the sender's earlier writes (NL-set-2). */
export function leafSet(pendingPage: usize, maskPage: usize, port: u32): i32 {
  const bit = maskOf(port)
  if (fetchOr<u32>(wordOf(pendingPage, port), bit) & bit) return 0
  return read<u32>(wordOf(maskPage, port)) & bit ? 1 : 2
}

/** NL-unmask-1: 1 if the port was masked and is pending, so that the caller must climb. Mask first, then pending. */
export function leafUnmask(pendingPage: usize, maskPage: usize, port: u32): i32 {
  const bit = maskOf(port)
  if (!(fetchAnd<u32>(wordOf(maskPage, port), ~bit) & bit)) return 0
  return read<u32>(wordOf(pendingPage, port)) & bit ? 1 : 0
}

/** Sets the bit of `port` in one page of a bitmap; 1 if it was set. The guest masks with it. */
export function bitSet(page: usize, port: u32): i32 {
  const bit = maskOf(port)
  return fetchOr<u32>(wordOf(page, port), bit) & bit ? 1 : 0
}

/** Clears the bit of `port` in one page of a bitmap; 1 if it was set (NL-clear-1: the leaf only, selectors may go stale). */
export function bitClear(page: usize, port: u32): i32 {
  const bit = maskOf(port)
  return fetchAnd<u32>(wordOf(page, port), ~bit) & bit ? 1 : 0
}

/** 1 if the bit of `port` is set in one page of a bitmap. */
export function bitTest(page: usize, port: u32): i32 {
  return read<u32>(wordOf(page, port)) & maskOf(port) ? 1 : 0
}

/** EC-up-1: sets bit 0 of an `evtchn_upcall_pending` byte; 1 on the 0→1 edge, the only one that notifies. */
export function markPending(upcallPending: usize): i32 {
  return fetchOr<u8>(upcallPending, 1) & 1 ? 0 : 1
}

/** Sets bit `bit` of a selector level; true if it was set. The load first is NL-set-2: same level, directly before. */
// @ts-ignore: decorator
@inline
function selectorSet(page: usize, bit: u32): bool {
  const at = wordOf(page, bit)
  const mask = maskOf(bit)
  if (read<u32>(at) & mask) return true
  if (!THREADS && !TRACE) {
    store<u32>(at, load<u32>(at) | mask)
    return false
  }
  return (fetchOr<u32>(at, mask) & mask) != 0
}

/**
 * NL-set-1, second half: level n-1 first, level 1 last, stopping at the first bit that was set; whoever set it continues
 * from there. The upcall flag comes after level 1, never before: an upcall that finds nothing ends the story.
 */
// @ts-ignore: decorator
@inline
function climb(n: u32, b: u32, port: u32, upcall: usize, l1: usize, l2: usize, l3: usize, l4: usize): i32 {
  if (n > 4 && selectorSet(l4, port >>> (b * (n - 4)))) return 0
  if (n > 3 && selectorSet(l3, port >>> (b * (n - 3)))) return 0
  if (n > 2 && selectorSet(l2, port >>> (b * (n - 2)))) return 0
  if (selectorSet(l1, port >>> (b * (n - 1)))) return 0
  return markPending(upcall)
}

// One export per depth and width, all of one signature: l1 is the address of evtchn_pending_sel, l2…l4 the page of
// that level that holds the port's bit (0 where the depth has no such level). 1: the caller must notify the vCPU.
export function climb2x32(port: u32, upcall: usize, l1: usize, l2: usize, l3: usize, l4: usize): i32 {
  return climb(2, 5, port, upcall, l1, l2, l3, l4)
}
export function climb3x32(port: u32, upcall: usize, l1: usize, l2: usize, l3: usize, l4: usize): i32 {
  return climb(3, 5, port, upcall, l1, l2, l3, l4)
}
export function climb4x32(port: u32, upcall: usize, l1: usize, l2: usize, l3: usize, l4: usize): i32 {
  return climb(4, 5, port, upcall, l1, l2, l3, l4)
}
export function climb5x32(port: u32, upcall: usize, l1: usize, l2: usize, l3: usize, l4: usize): i32 {
  return climb(5, 5, port, upcall, l1, l2, l3, l4)
}
export function climb2x64(port: u32, upcall: usize, l1: usize, l2: usize, l3: usize, l4: usize): i32 {
  return climb(2, 6, port, upcall, l1, l2, l3, l4)
}
export function climb3x64(port: u32, upcall: usize, l1: usize, l2: usize, l3: usize, l4: usize): i32 {
  return climb(3, 6, port, upcall, l1, l2, l3, l4)
}
export function climb4x64(port: u32, upcall: usize, l1: usize, l2: usize, l3: usize, l4: usize): i32 {
  return climb(4, 6, port, upcall, l1, l2, l3, l4)
}

/** Sets bits 0 … nbits-1 of a bitmap that starts at `at`: what becoming active does to a selector level (NL-sel-3). */
export function fillBits(at: usize, nbits: u32): void {
  const whole = nbits >>> 5
  for (let i: u32 = 0; i < whole; i++) fetchOr<u32>(at + (i << 2), 0xffff_ffff)
  const rest = nbits & 31
  if (rest) fetchOr<u32>(at + (whole << 2), (1 << rest) - 1)
}

/** Writes `words` zero words of 32 bits: level 1 at the switch and after a reset (NL-reg-4, NL-reset-1). */
export function zeroWords(at: usize, words: u32): void {
  for (let i: u32 = 0; i < words; i++) write<u32>(at + (i << 2), 0)
}

/**
 * NL-reg-4: moves the first `words` words of 32 bits from shared_info into the leaf. Exchange, then OR: a bit that a
 * sender raised in the new leaf meanwhile survives, and none is in both places or in neither.
 */
export function moveLeaf(fromPending: usize, fromMask: usize, pendingPage: usize, maskPage: usize, words: u32): void {
  for (let i: u32 = 0; i < words; i++) {
    const at = i << 2
    const moved = take<u32>(fromPending + at)
    if (moved) fetchOr<u32>(pendingPage + at, moved)
    write<u32>(maskPage + at, read<u32>(fromMask + at))
  }
}
