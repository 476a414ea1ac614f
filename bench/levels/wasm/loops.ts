/**
 * Loops around the core, for the bench only: raise the k ports of a list in each of several trees, scan each of them.
 *
 * The C program of the bench has its loop inside, so the core gets one too; what a call from JavaScript costs on top is
 * in rows of its own. Also here, over the same words: the flat scan, which has no selectors and walks the leaf.
 *
 * A tree is its scan's descriptor (assembly/guest/scan.ts), 128 bytes; the raising side finds its addresses there as well,
 * where the hypervisor has private tables of the same shape. Tree t's ports begin at ports + 4·k·t, its output at
 * out + 4·(k+1)·t: room for one more than can be pending, so that no scan ends early on a full buffer.
 */

import { fetchAnd, fetchOr, read, write } from '../../../assembly/bitops'
import {
  bitTest,
  climb2x32,
  climb2x64,
  climb3x32,
  climb3x64,
  climb4x32,
  climb4x64,
  leafSet,
  markPending,
} from '../../../assembly/guest/levels'
import { scan2x32, scan2x64, scan3x32, scan3x64, scan4x32, scan4x64 } from '../../../assembly/guest/scan'

// Offsets in the descriptor.
// @ts-ignore: decorator
@inline
const UPCALL: usize = 0
// @ts-ignore: decorator
@inline
const LEVEL1: usize = 4
// @ts-ignore: decorator
@inline
const LEVEL2: usize = 8
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
const CHANNELS: usize = 32
/** Beyond the scan's scratch. */
// @ts-ignore: decorator
@inline
const TOLD: usize = 124
// @ts-ignore: decorator
@inline
const DESCRIPTOR_SIZE: usize = 128

/** Word `index` of a u32[] at `table`. */
// @ts-ignore: decorator
@inline
function entry(table: usize, index: u32): usize {
  return load<u32>(table + (index << 2)) as usize
}

/** The address that leafSet wants: the leaf's page of a port, at n = 2 the words in shared_info. */
// @ts-ignore: decorator
@inline
function leafPage(n: u32, bitmap: usize, port: u32): usize {
  return n == 2 ? bitmap : entry(bitmap, port >>> 15)
}

/** The page of level n-1, the selector above the leaf, that holds a port's bit. */
// @ts-ignore: decorator
@inline
function lowestSelector(n: u32, b: u32, tree: usize, port: u32): usize {
  return n == 2 ? entry(tree + LEVEL1, 0) : entry(entry(tree + LAST, 0), port >>> (b + 15))
}

/** The climb of one port with the addresses that the hypervisor looks up for it. */
// @ts-ignore: decorator
@inline
function climb(n: u32, b: u32, tree: usize, port: u32): i32 {
  const upcall = entry(tree + UPCALL, 0)
  const l1 = entry(tree + LEVEL1, 0)
  if (n == 2) return b == 6 ? climb2x64(port, upcall, l1, 0, 0, 0) : climb2x32(port, upcall, l1, 0, 0, 0)
  const last = lowestSelector(n, b, tree, port)
  if (n == 3) return b == 6 ? climb3x64(port, upcall, l1, last, 0, 0) : climb3x32(port, upcall, l1, last, 0, 0)
  const l2 = entry(tree + LEVEL2, 0)
  return b == 6 ? climb4x64(port, upcall, l1, l2, last, 0) : climb4x32(port, upcall, l1, l2, last, 0)
}

/**
 * Raises; answers how often the vCPU had to be told: one climb in each tree gets that far.
 *
 * The steps of leafSet are written out, and the climb's first test stands before the climb: what happens to most ports
 * is then short, and the engine keeps it in registers. For the same reason the count is in memory and the climb loads
 * its port again: a value that only the rare way needs would be spilled before every locked instruction, which waits
 * for the store.
 */
// @ts-ignore: decorator
@inline
function sendAll(n: u32, b: u32, trees: usize, count: i32, ports: usize, k: i32): i32 {
  let told = 0
  for (let tree = trees, end = trees + (count as usize) * DESCRIPTOR_SIZE; tree != end; tree += DESCRIPTOR_SIZE) {
    store<i32>(tree + TOLD, 0)
    for (const stop = ports + ((k as usize) << 2); ports != stop; ports += 4) {
      const port = load<u32>(ports)
      const bit: u32 = 1 << (port & 31)
      const word = ((port >>> 5) & 1023) << 2
      if (fetchOr<u32>(leafPage(n, entry(tree + PENDING, 0), port) + word, bit) & bit) continue
      if (read<u32>(leafPage(n, entry(tree + MASK, 0), port) + word) & bit) continue
      if (bitTest(lowestSelector(n, b, tree, port), port >>> b)) continue
      store<i32>(tree + TOLD, load<i32>(tree + TOLD) + climb(n, b, tree, load<u32>(ports)))
    }
    told += load<i32>(tree + TOLD)
  }
  return told
}

/** Raises for a flat scan: leaf and upcall flag, nothing between. */
// @ts-ignore: decorator
@inline
function flatSendAll(n: u32, trees: usize, count: i32, ports: usize, k: i32): i32 {
  let told = 0
  for (let tree = trees, end = trees + (count as usize) * DESCRIPTOR_SIZE; tree != end; tree += DESCRIPTOR_SIZE) {
    const pending = entry(tree + PENDING, 0)
    const mask = entry(tree + MASK, 0)
    for (const stop = ports + ((k as usize) << 2); ports != stop; ports += 4) {
      const port = load<u32>(ports)
      if (leafSet(leafPage(n, pending, port), leafPage(n, mask, port), port) == 2)
        told += markPending(entry(tree + UPCALL, 0))
    }
  }
  return told
}

/** Walks the whole leaf, page by page, and takes what is pending and not masked. A word that is 0 costs one load. */
// @ts-ignore: decorator
@inline
function flatScan<T>(n: u32, tree: usize, out: usize, max: i32): i32 {
  const b: u32 = sizeof<T>() == 8 ? 6 : 5
  const words = load<u32>(tree, CHANNELS) >>> b
  const perPage: u32 = 1 << (15 - b)
  let served = 0
  write<u8>(entry(tree + UPCALL, 0), 0)
  for (let first: u32 = 0; first < words; first += perPage) {
    const pending = leafPage(n, entry(tree + PENDING, 0), first << b)
    const mask = leafPage(n, entry(tree + MASK, 0), first << b)
    const bytes = min(perPage, words - first) << (b - 3)
    for (let at: usize = 0; at < bytes; at += sizeof<T>()) {
      const raised = read<T>(pending + at)
      if (!raised) continue
      let due = (raised & ~read<T>(mask + at)) as T
      if (!due) continue
      if (served + (popcnt<T>(due) as i32) > max) {
        fetchOr<u8>(entry(tree + UPCALL, 0), 1)
        return served
      }
      fetchAnd<T>(pending + at, ~due as T)
      const base = (first << b) + ((at as u32) << 3)
      do {
        store<u32>(out + (served << 2), base | (ctz<T>(due) as u32))
        served++
        due = (due & (due - 1)) as T
      } while (due)
    }
  }
  return served
}

// @ts-ignore: decorator
@inline
function scanOne(n: u32, b: u32, tree: usize, out: usize, max: i32): i32 {
  if (n == 2) return b == 6 ? scan2x64(tree, out, max) : scan2x32(tree, out, max)
  if (n == 3) return b == 6 ? scan3x64(tree, out, max) : scan3x32(tree, out, max)
  return b == 6 ? scan4x64(tree, out, max) : scan4x32(tree, out, max)
}

/** Scans; answers how many ports there were. */
// @ts-ignore: decorator
@inline
function scanAll(n: u32, b: u32, trees: usize, count: i32, out: usize, k: i32): i32 {
  let total = 0
  for (let tree = trees, end = trees + (count as usize) * DESCRIPTOR_SIZE; tree != end; tree += DESCRIPTOR_SIZE) {
    total += scanOne(n, b, tree, out, k + 1)
    out += (k + 1) << 2
  }
  return total
}

// @ts-ignore: decorator
@inline
function flatScanAll<T>(n: u32, trees: usize, count: i32, out: usize, k: i32): i32 {
  let total = 0
  for (let tree = trees, end = trees + (count as usize) * DESCRIPTOR_SIZE; tree != end; tree += DESCRIPTOR_SIZE) {
    total += flatScan<T>(n, tree, out, k + 1)
    out += (k + 1) << 2
  }
  return total
}

export function send2x32(trees: usize, count: i32, ports: usize, k: i32): i32 {
  return sendAll(2, 5, trees, count, ports, k)
}
export function send3x32(trees: usize, count: i32, ports: usize, k: i32): i32 {
  return sendAll(3, 5, trees, count, ports, k)
}
export function send4x32(trees: usize, count: i32, ports: usize, k: i32): i32 {
  return sendAll(4, 5, trees, count, ports, k)
}
export function send2x64(trees: usize, count: i32, ports: usize, k: i32): i32 {
  return sendAll(2, 6, trees, count, ports, k)
}
export function send3x64(trees: usize, count: i32, ports: usize, k: i32): i32 {
  return sendAll(3, 6, trees, count, ports, k)
}
export function send4x64(trees: usize, count: i32, ports: usize, k: i32): i32 {
  return sendAll(4, 6, trees, count, ports, k)
}

export function drain2x32(trees: usize, count: i32, out: usize, k: i32): i32 {
  return scanAll(2, 5, trees, count, out, k)
}
export function drain3x32(trees: usize, count: i32, out: usize, k: i32): i32 {
  return scanAll(3, 5, trees, count, out, k)
}
export function drain4x32(trees: usize, count: i32, out: usize, k: i32): i32 {
  return scanAll(4, 5, trees, count, out, k)
}
export function drain2x64(trees: usize, count: i32, out: usize, k: i32): i32 {
  return scanAll(2, 6, trees, count, out, k)
}
export function drain3x64(trees: usize, count: i32, out: usize, k: i32): i32 {
  return scanAll(3, 6, trees, count, out, k)
}
export function drain4x64(trees: usize, count: i32, out: usize, k: i32): i32 {
  return scanAll(4, 6, trees, count, out, k)
}

// The flat scan needs to know only whether the leaf is one range (n = 2) or pages (n > 2).
export function flatSend2(trees: usize, count: i32, ports: usize, k: i32): i32 {
  return flatSendAll(2, trees, count, ports, k)
}
export function flatSendPaged(trees: usize, count: i32, ports: usize, k: i32): i32 {
  return flatSendAll(3, trees, count, ports, k)
}
export function flatDrain2x32(trees: usize, count: i32, out: usize, k: i32): i32 {
  return flatScanAll<u32>(2, trees, count, out, k)
}
export function flatDrainPagedx32(trees: usize, count: i32, out: usize, k: i32): i32 {
  return flatScanAll<u32>(3, trees, count, out, k)
}
export function flatDrain2x64(trees: usize, count: i32, out: usize, k: i32): i32 {
  return flatScanAll<u64>(2, trees, count, out, k)
}
export function flatDrainPagedx64(trees: usize, count: i32, out: usize, k: i32): i32 {
  return flatScanAll<u64>(3, trees, count, out, k)
}
