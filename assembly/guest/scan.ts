/**
 * The guest's side: one round of the upcall scan, any depth, top-down (nlevel.md NL-scan-1..4; at n = 2 EC-guest-3).
 *
 * The guest owns a descriptor in its own memory, one per vCPU; all addresses are absolute in the core's memory:
 *
 *      0 upcall      address of evtchn_upcall_pending
 *      4 level1      address of evtchn_pending_sel
 *      8 level2      address of level 2's words           (n >= 4; a level that is not the last fits in a page)
 *     12 level3      address of level 3's words           (n = 5)
 *     16 last        u32[] of page addresses of level n-1 (n >= 3)
 *     20 pending     u32[] of page addresses of the leaf; at n = 2 the address of the words themselves
 *     24 mask        the same for the mask bitmap
 *     28 filter      u32[] of page addresses, 0 = nothing in these 32,768 ports is this vCPU's; 0 altogether = no filter
 *     32 channels    max_evtchns: bits at or beyond it are never followed
 *     36 next        port to begin with: the one after the last served
 *     40 … 127       scratch of one scan (see REST, KEPT, INDEX)
 *
 * A round is two passes over one cyclic order. Pass 0 goes from `next` to the end. On the way down to `next` each level
 * has one word that the start cuts in two (the *path*); it is exchanged once, its upper part followed in pass 0 and its
 * lower part kept for pass 1, which follows the kept parts from the beginning up to `next` (NL-scan-3).
 *
 * A scan whose buffer is full gives back what it took and did not follow, bottom-up, each with an OR that never stops
 * at a set bit, the upcall flag last (NL-scan-2). Leaf bits need no giving back: only as many are cleared as fit.
 */

import { below, fetchAnd, fetchOr, read, take, write } from '../bitops'

// @ts-ignore: decorator
@inline
const UPCALL: usize = 0
// @ts-ignore: decorator
@inline
const LEVEL1: usize = 4
// @ts-ignore: decorator
@inline
const LAST: usize = 16
// @ts-ignore: decorator
@inline
const PENDING: usize = 20
// @ts-ignore: decorator
@inline
const MASK: usize = 24
// @ts-ignore: decorator
@inline
const FILTER: usize = 28
// @ts-ignore: decorator
@inline
const CHANNELS: usize = 32
// @ts-ignore: decorator
@inline
const NEXT: usize = 36
/** Scratch, per level 1…4: bits taken and not yet followed, bits kept for pass 1 (8 bytes each), index of the word (4). */
// @ts-ignore: decorator
@inline
const REST: usize = 40 - 8
// @ts-ignore: decorator
@inline
const KEPT: usize = 72 - 8
// @ts-ignore: decorator
@inline
const INDEX: usize = 104 - 4

// @ts-ignore: decorator
@inline
function bitsOf<T>(): u32 {
  return sizeof<T>() == 8 ? 6 : 5
}

/** Address of word `index` in a bitmap that is given as a table of pages. */
// @ts-ignore: decorator
@inline
function paged<T>(table: usize, index: u32): usize {
  const perPage: u32 = 15 - bitsOf<T>()
  const page = load<u32>(table + ((index >>> perPage) << 2)) as usize
  return page + ((index & ((1 << perPage) - 1)) << (bitsOf<T>() - 3))
}

/** Address of word `index` of level k, 1 <= k < n. */
// @ts-ignore: decorator
@inline
function selectorWord<T>(n: u32, k: u32, d: usize, index: u32): usize {
  if (k == 1) return load<u32>(d, LEVEL1)
  if (k == n - 1) return paged<T>(load<u32>(d, LAST), index)
  return (load<u32>(d + (k << 2)) as usize) + (index << (bitsOf<T>() - 3))
}

/**
 * Address of the leaf words below word `index` of level n-1, in the bitmap at `bitmap`. There are W of them, W² ports, and
 * W² divides a page: they are neighbours, so one look-up serves them all. 0 for an absent page of a filter.
 */
// @ts-ignore: decorator
@inline
function leafWords<T>(n: u32, bitmap: usize, index: u32): usize {
  if (n == 2) return bitmap
  const b = bitsOf<T>()
  const page = load<u32>(bitmap + ((index >>> (15 - 2 * b)) << 2)) as usize
  return page ? page + ((index & ((1 << (15 - 2 * b)) - 1)) << (2 * b - 3)) : 0
}

/** Splits a word on the path: pass 0 follows the word, pass 1 what is kept, the start's own bit if ports lie below it. */
// @ts-ignore: decorator
@inline
function cut<T>(n: u32, k: u32, d: usize, word: T, start: u32): T {
  const down = bitsOf<T>() * (n - k)
  const at = ((start >>> down) & ((1 << bitsOf<T>()) - 1)) as i32
  const low = below<T>(at)
  const own: T = start & ((1 << down) - 1) ? (1 as T) << (at as T) : (0 as T)
  store<T>(d + (k << 3), (word & (low | own)) as T, KEPT)
  return (word & ~low) as T
}

/** NL-scan-2. `k` = n-1 … 1; the stack's words and the path's kept words go back level by level, then the flag. */
// @ts-ignore: decorator
@inline
function giveBack<T>(n: u32, d: usize, start: u32): void {
  const b = bitsOf<T>()
  let child: T = 0
  for (let k = n - 1; k >= 1; k--) {
    const index = load<u32>(d + (k << 2), INDEX)
    const rest = (load<T>(d + (k << 3), REST) | child) as T
    if (rest) fetchOr<T>(selectorWord<T>(n, k, d, index), rest)
    const kept = load<T>(d + (k << 3), KEPT)
    if (kept) fetchOr<T>(selectorWord<T>(n, k, d, k == 1 ? 0 : start >>> (b * (n - k + 1))), kept)
    child = rest ? (1 as T) << ((index & ((1 << b) - 1)) as T) : (0 as T)
  }
  fetchOr<u8>(load<u32>(d, UPCALL), 1)
}

/** The kept bits of level k's word on the path, which pass 1 follows once. */
// @ts-ignore: decorator
@inline
function takeKept<T>(k: u32, d: usize): T {
  const kept = load<T>(d + (k << 3), KEPT)
  store<T>(d + (k << 3), 0 as T, KEPT)
  return kept
}

/**
 * Leaves `rest` of level k-1 for later and enters word `child` of level k. Returns the bits to follow there: all of it, or
 * on the path what belongs to this pass.
 */
// @ts-ignore: decorator
@inline
function enter<T>(n: u32, k: u32, d: usize, rest: T, child: u32, start: u32, wrapped: bool): T {
  store<T>(d + ((k - 1) << 3), rest, REST)
  store<u32>(d + (k << 2), child, INDEX)
  if (child != start >>> (bitsOf<T>() * (n - k + 1))) return take<T>(selectorWord<T>(n, k, d, child))
  if (wrapped) return takeKept<T>(k, d)
  return cut<T>(n, k, d, take<T>(selectorWord<T>(n, k, d, child)), start)
}

/** The start's own leaf word: the bits that belong to this pass. */
// @ts-ignore: decorator
@inline
function ofThisPass<T>(due: T, start: u32, wrapped: bool): T {
  const early = below<T>((start & ((1 << bitsOf<T>()) - 1)) as i32)
  return (wrapped ? due & early : due & ~early) as T
}

/** The lowest `count` bits of a word, or all of it. */
// @ts-ignore: decorator
@inline
function lowest<T>(word: T, count: i32): T {
  if ((popcnt<T>(word) as i32) <= count) return word
  let left = word
  for (let i = 0; i < count; i++) left = (left & (left - 1)) as T
  return (word & ~left) as T
}

/** Writes the ports of a leaf word's bits behind the `served` that are there. Returns how many there are then. */
// @ts-ignore: decorator
@inline
function serve<T>(out: usize, served: i32, base: u32, word: T): i32 {
  let due = word
  do {
    store<u32>(out + (served << 2), base | (ctz<T>(due) as u32))
    served++
    due = (due & (due - 1)) as T
  } while (due)
  return served
}

/** Where the last round left off, and an empty scratch for this one. */
// @ts-ignore: decorator
@inline
function begin<T>(n: u32, d: usize, channels: u32): u32 {
  for (let k: u32 = 2; k < n; k++) store<T>(d + (k << 3), 0 as T, KEPT)
  store<u32>(d + 4, 0, INDEX)
  const next = load<u32>(d, NEXT)
  return next < channels ? next : 0
}

/** The next round begins behind the last port served. */
// @ts-ignore: decorator
@inline
function rememberLast(d: usize, last: u32, channels: u32): void {
  store<u32>(d, last + 1 >= channels ? 0 : last + 1, NEXT)
}

/** The buffer is full at level k: what was taken and not followed goes back, if there is any. */
// @ts-ignore: decorator
@inline
function endEarly<T>(n: u32, k: u32, d: usize, rest: T, start: u32): void {
  store<T>(d + (k << 3), rest, REST)
  let left = 0 as T
  for (let j: u32 = 1; j < n; j++) left = (left | load<T>(d + (j << 3), REST) | load<T>(d + (j << 3), KEPT)) as T
  if (left) giveBack<T>(n, d, start)
}

/**
 * One round. Writes at most `max` ports to `out` (u32 each) with their pending bits cleared and returns how many; the
 * upcall flag is 1 again if the buffer ended the round early. `max` < 1 does nothing.
 */
// @ts-ignore: decorator
@inline
function scan<T>(n: u32, d: usize, out: usize, max: i32): i32 {
  const b = bitsOf<T>()
  if (max < 1) return 0
  // Flag first, then level 1 (EC-guest-3): a sender that comes between raises the flag again and is found then.
  write<u8>(load<u32>(d, UPCALL), 0)
  const top = take<T>(load<u32>(d, LEVEL1))
  if (!top) return 0
  const channels = load<u32>(d, CHANNELS)
  const start = begin<T>(n, d, channels)
  const filter = load<u32>(d, FILTER) as usize
  // Every level's bit count is the number of the last channel's bit plus one (NL-scan-1): compare in that unit.
  const lastWord = (channels - 1) >>> b
  const startWord = start >>> b
  let rest = cut<T>(n, 1, d, top, start)
  let k: u32 = 1
  let index: u32 = 0
  let served: i32 = 0
  let wrapped = false
  // `rest` holds level k's bits of word `index`; the levels above wait in the scratch.
  while (served < max) {
    if (!rest) {
      if (k > 1) {
        k--
        rest = load<T>(d + (k << 3), REST)
        index = load<u32>(d + (k << 2), INDEX)
        continue
      }
      if (wrapped) break
      wrapped = true
      rest = takeKept<T>(1, d)
      continue
    }

    if (k < n - 1) {
      const child = (index << b) | (ctz<T>(rest) as u32)
      rest = (rest & (rest - 1)) as T
      if (child > lastWord >>> (b * (n - 1 - k))) continue
      k++
      index = child
      rest = enter<T>(n, k, d, rest, child, start, wrapped)
      continue
    }
    const pendingWords = leafWords<T>(n, load<u32>(d, PENDING), index)
    const maskWords = leafWords<T>(n, load<u32>(d, MASK), index)
    const filterWords = filter ? leafWords<T>(n, n == 2 ? load<u32>(filter) : filter, index) : 0
    if (filter && !filterWords) rest = 0 as T
    while (rest && served < max) {
      const bit = ctz<T>(rest) as u32
      const at = bit << (b - 3)
      const word = (index << b) | bit
      rest = (rest & (rest - 1)) as T
      if (word > lastWord) continue
      let due = (read<T>(pendingWords + at) & ~read<T>(maskWords + at)) as T
      if (filter) due = (due & load<T>(filterWords + at)) as T
      if (word == startWord) due = ofThisPass<T>(due, start, wrapped)
      if (!due) continue
      const fit = lowest<T>(due, max - served)
      // The buffer ends inside this word: its selector bit goes back with the rest.
      if (fit != due) rest = (rest | ((1 as T) << (bit as T))) as T
      fetchAnd<T>(pendingWords + at, ~fit as T)
      served = serve<T>(out, served, word << b, fit)
    }
  }

  if (served == max) endEarly<T>(n, k, d, rest, start)
  if (served) rememberLast(d, load<u32>(out + ((served - 1) << 2)), channels)
  return served
}

export function scan2x32(descriptor: usize, out: usize, max: i32): i32 {
  return scan<u32>(2, descriptor, out, max)
}
export function scan3x32(descriptor: usize, out: usize, max: i32): i32 {
  return scan<u32>(3, descriptor, out, max)
}
export function scan4x32(descriptor: usize, out: usize, max: i32): i32 {
  return scan<u32>(4, descriptor, out, max)
}
export function scan5x32(descriptor: usize, out: usize, max: i32): i32 {
  return scan<u32>(5, descriptor, out, max)
}
export function scan2x64(descriptor: usize, out: usize, max: i32): i32 {
  return scan<u64>(2, descriptor, out, max)
}
export function scan3x64(descriptor: usize, out: usize, max: i32): i32 {
  return scan<u64>(3, descriptor, out, max)
}
export function scan4x64(descriptor: usize, out: usize, max: i32): i32 {
  return scan<u64>(4, descriptor, out, max)
}
