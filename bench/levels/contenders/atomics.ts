/**
 * The core's algorithm in TypeScript with `Atomics`, over the same words in the same shared memory: what a program gets
 * that does without wasm.
 *
 * Words are handled as halves of 32 bits at 64-bit width too, since Atomics on BigInt64Array are slower still. Each half
 * is taken by itself, which is as good: a bit is a bit. The order of the steps is the core's (assembly/guest/levels.ts,
 * assembly/guest/scan.ts); there is no filter, and the core is measured without one.
 *
 * Imported once for each depth and width (cast.ts), so that both are constants for the optimiser.
 */

import type { Contender, Task } from '../contender.js'
import { forestOf } from '../forest.js'

const query = new URL(import.meta.url).searchParams
const n = Number(query.get('levels'))
const W = Number(query.get('bits'))
const b = W === 64 ? 6 : 5
const HALVES = W / 32

/** The shared memory as 32-bit words and as bytes; one for all trees of this module instance. */
let v: Int32Array
let bytes: Uint8Array

/** A vCPU's tree: indices into `v`, but for `upcall`, an index into `bytes`. */
interface Tree {
  readonly upcall: number
  readonly level1: number
  readonly level2: number
  readonly last: Int32Array
  readonly pending: Int32Array
  readonly mask: Int32Array
  readonly channels: number
  next: number
  /** Bits of the path's words that are taken and not followed: one number a half, HALVES a level. */
  readonly rest: Int32Array
  /** Output of the scan: ports so far, and how many fit. */
  out: Uint32Array
  served: number
  max: number
  /** True once a scan whose buffer is full has given something back. */
  left: boolean
}

/** Index in `v` of the half word with bit `bit` of level k < n. */
function selectorAt(t: Tree, k: number, bit: number): number {
  if (k === 1) return t.level1 + (bit >>> 5)
  if (k === n - 1) return t.last[bit >>> 15]! + ((bit >>> 5) & 1023)
  return t.level2 + (bit >>> 5)
}

/** Raises a port; 1 if the vCPU must be told. */
function raise(t: Tree, port: number): number {
  const page = port >>> 15
  const word = (port >>> 5) & 1023
  const bit = 1 << port
  if (Atomics.or(v, t.pending[page]! + word, bit) & bit) return 0
  if (Atomics.load(v, t.mask[page]! + word) & bit) return 0
  for (let k = n - 1; k >= 1; k--) {
    const selector = port >>> (b * (n - k))
    const at = selectorAt(t, k, selector)
    const own = 1 << selector
    if (Atomics.load(v, at) & own) return 0
    if (Atomics.or(v, at, own) & own) return 0
  }
  return Atomics.or(bytes, t.upcall, 1) & 1 ? 0 : 1
}

/** Serves the leaf's half word that begins at port `first`, of its bits those in `range`; true if the buffer is full. */
function serve(t: Tree, first: number, range: number): boolean {
  const page = first >>> 15
  const word = (first >>> 5) & 1023
  const at = t.pending[page]! + word
  let due = Atomics.load(v, at) & ~Atomics.load(v, t.mask[page]! + word) & range
  if (due === 0) return false
  let rest = due
  const { out, max } = t
  let { served } = t
  do {
    out[served++] = first + 31 - Math.clz32(rest & -rest)
    rest &= rest - 1
  } while (rest !== 0 && served < max)
  due &= ~rest
  Atomics.and(v, at, ~due)
  t.served = served
  if (rest !== 0) t.left = true
  return served === max
}

/** Follows child `child` of a word of level k to the end: a leaf word, or a word of level k+1 that is taken here. */
function followChild(t: Tree, k: number, child: number): boolean {
  for (let half = 0; half < HALVES; half++) {
    const first = (child << b) + 32 * half
    const full =
      k === n - 1 ? serve(t, first, -1) : follow(t, k + 1, first, Atomics.exchange(v, selectorAt(t, k + 1, first), 0))
    if (!full) continue
    // The other half was not looked at: the bit above must stay.
    if (half + 1 < HALVES) t.left = true
    return true
  }
  return false
}

/** Follows bits of the half word of level k whose first bit is `first`; true if the buffer is full. */
function follow(t: Tree, k: number, first: number, bits: number): boolean {
  let rest = bits
  while (rest !== 0) {
    const own = rest & -rest
    rest ^= own
    const child = first + 31 - Math.clz32(own)
    if (child > (t.channels - 1) >>> (b * (n - k))) break
    if (!followChild(t, k, child)) continue
    if (t.left) rest |= own
    if (rest !== 0) {
      Atomics.or(v, selectorAt(t, k, first), rest)
      t.left = true
    }
    return true
  }
  return false
}

/** Serves the leaf word that the start lies in, its bits from the start on or those before it. */
function servePath(t: Tree, start: number, late: boolean): boolean {
  const own = 1 << start
  const early = own - 1
  const first = start & ~31
  const half = (start & (W - 1)) >>> 5
  if (!late && half === 1 && serve(t, first - 32, -1)) {
    t.left = true
    return true
  }
  if (serve(t, first, late ? ~early : early)) {
    if (late && half + 1 < HALVES) t.left = true
    return true
  }
  return late && half + 1 < HALVES ? serve(t, first + 32, -1) : false
}

/** Follows what is left of one half of the path's word of level k. */
function followRest(t: Tree, k: number, start: number, half: number, bits: number): boolean {
  return follow(t, k, ((start >>> (b * (n - k))) & ~(W - 1)) + 32 * half, bits)
}

/** Gives back the path's words, bottom-up, the upcall flag last. `ended`: level whose word the buffer ended in. */
function giveBack(t: Tree, start: number, ended: number): void {
  let back = ended === n && t.left
  for (let k = n - 1; k >= 1; k--) {
    const selector = start >>> (b * (n - k))
    const own = (selector & (W - 1)) >>> 5
    let some = ended === k && t.left
    for (let half = 0; half < HALVES; half++) {
      let bits = t.rest[HALVES * k + half]!
      if (back && half === own) bits |= 1 << selector
      if (bits === 0) continue
      Atomics.or(v, selectorAt(t, k, (selector & ~(W - 1)) + 32 * half), bits)
      some = true
    }
    back = some
  }
  if (back) Atomics.or(bytes, t.upcall, 1)
}

/** Takes the word of level k that the start lies in; true if anything was set. */
function takePath(t: Tree, k: number, start: number): boolean {
  const first = (start >>> (b * (n - k))) & ~(W - 1)
  let any = 0
  for (let half = 0; half < HALVES; half++) {
    const bits = Atomics.exchange(v, selectorAt(t, k, first + 32 * half), 0)
    t.rest[HALVES * k + half] = bits
    any |= bits
  }
  return any !== 0
}

/** The path on the way down: each word taken once. Answers the deepest level reached, n if the leaf was served. */
function descend(t: Tree, start: number): number {
  for (let k = 1; ; k++) {
    const selector = start >>> (b * (n - k))
    const at = HALVES * k + ((selector & (W - 1)) >>> 5)
    const own = 1 << selector
    const leads = (t.rest[at]! & own) !== 0
    // With ports before the start beneath it, the start's own bit comes once more at the end.
    if ((start & ((1 << (b * (n - k))) - 1)) === 0) t.rest[at]! &= ~own
    if (!leads) return k
    if (k === n - 1) return n
    takePath(t, k + 1, start)
  }
}

/** The path on the way up: what lies beyond the start. Answers the level that filled the buffer, or 0. */
function ascend(t: Tree, start: number, deepest: number): number {
  for (let k = deepest; k >= 1; k--) {
    const selector = start >>> (b * (n - k))
    const half = (selector & (W - 1)) >>> 5
    const at = HALVES * k + half
    const own = 1 << selector
    const late = t.rest[at]! & ~(own | (own - 1))
    t.rest[at]! &= own | (own - 1)
    if (follow(t, k, selector & ~31, late)) return k
    if (half + 1 < HALVES) {
      const next = t.rest[at + 1]!
      t.rest[at + 1] = 0
      if (followRest(t, k, start, half + 1, next)) return k
    }
  }
  return 0
}

/** Down the path again: what lies before the start. Answers the level that filled the buffer, or 0. */
function again(t: Tree, start: number): number {
  for (let k = 1; k < n; k++) {
    const selector = start >>> (b * (n - k))
    const half = (selector & (W - 1)) >>> 5
    const at = HALVES * k + half
    const own = 1 << selector
    if (half === 1) {
      const before = t.rest[at - 1]!
      t.rest[at - 1] = 0
      if (followRest(t, k, start, 0, before)) return k
    }
    const early = t.rest[at]! & ~own
    t.rest[at]! &= own
    if (follow(t, k, selector & ~31, early)) return k
    if (t.rest[at] === 0) return 0
    t.rest[at] = 0
  }
  return servePath(t, start, false) ? n : 0
}

/** One round; answers how many ports it wrote to `out`. */
function scan(t: Tree, out: Uint32Array, max: number): number {
  if (max < 1) return 0
  Atomics.store(bytes, t.upcall, 0)
  const start = t.next < t.channels ? t.next : 0
  if (!takePath(t, 1, start)) return 0
  t.out = out
  t.served = 0
  t.max = max
  t.left = false
  t.rest.fill(0, 2 * HALVES)
  const deepest = descend(t, start)
  let ended = deepest === n && servePath(t, start, true) ? n : 0
  if (!ended) ended = ascend(t, start, Math.min(deepest, n - 1))
  if (!ended) ended = again(t, start)
  if (ended) giveBack(t, start, ended)
  if (t.served) {
    const next = out[t.served - 1]! + 1
    t.next = next < t.channels ? next : 0
  }
  return t.served
}

export function atomics(task: Task): Contender {
  const { levels, bits, ports } = task
  const { k, trees } = task.group
  const forest = forestOf(levels, bits, true)
  v = new Int32Array(forest.memory.buffer)
  bytes = new Uint8Array(forest.memory.buffer)
  const indices = (addresses: readonly number[]) => Int32Array.from(addresses, (address) => address >>> 2)
  const all = forest.trees.map(
    (tree): Tree => ({
      upcall: tree.upcall,
      level1: tree.level1 >>> 2,
      level2: tree.level2 >>> 2,
      last: indices(tree.last),
      pending: indices(tree.pending),
      mask: indices(tree.mask),
      channels: forest.channels,
      next: 0,
      rest: new Int32Array(HALVES * n),
      out: forest.u32,
      served: 0,
      max: 0,
      left: false,
    }),
  )
  const outs = all.map((_, index) => forest.outOf(Math.min(index, trees - 1), k))
  return {
    trees,
    send(list, count) {
      let told = 0
      for (let t = 0, at = list * trees * k; t < count; t++) {
        const tree = all[t]!
        for (const end = at + k; at < end; at++) told += raise(tree, ports[at]!)
      }
      return told
    },
    scan(count) {
      let total = 0
      for (let t = 0; t < count; t++) total += scan(all[t]!, outs[t]!, k + 1)
      return total
    },
    delivered: (tree) => outs[tree]!,
    short: (tree, max) => outs[tree]!.subarray(0, scan(all[tree]!, outs[tree]!, max)),
    rewind() {
      for (const tree of all) tree.next = 0
    },
  }
}
