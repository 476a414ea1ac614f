/**
 * Other sets of small numbers that a JavaScript program could use. They do less: no mask, no upcall flag, no other
 * thread, and a port is either in or out. Each is drained in the way that is the fastest for it.
 *
 * Imported once for each library and range of ports (cast.ts), so that the engine sees one kind of set at each call.
 */

import { BitSet } from 'bitset'
import { TypedFastBitSet } from 'typedfastbitset'
import type { Contender, Task } from '../contender.js'

/** What the three have in common. */
interface Pending {
  add(port: number): void
  /** The ports, and the set empty again. */
  drain(): ArrayLike<number>
}

/** Removing bit by bit costs less than wiping all words when so few are set. */
const fewOf = (found: number, words: number) => found * 32 < words

function bitset(): Pending {
  const set = new BitSet()
  return {
    add: (port) => void set.set(port),
    drain() {
      const found = set.toArray()
      if (fewOf(found.length, set.data.length)) for (const port of found) set.set(port, 0)
      else set.clear()
      return found
    },
  }
}

function typedfastbitset(k: number): Pending {
  const set = new TypedFastBitSet()
  const out = new Uint32Array(k + 1)
  let found = 0
  const take = (port: number) => {
    out[found++] = port
  }
  return {
    add: (port) => set.add(port),
    drain() {
      found = 0
      set.forEach(take)
      // clear() would drop the words, and the next ports would have to make them anew.
      if (fewOf(found, set.words.length)) for (let i = 0; i < found; i++) set.remove(out[i]!)
      else set.words.fill(0)
      return out.subarray(0, found)
    },
  }
}

function plainSet(): Pending {
  const set = new Set<number>()
  return {
    add: (port) => void set.add(port),
    drain() {
      const found = [...set]
      set.clear()
      return found
    },
  }
}

const kinds = { bitset, typedfastbitset, set: plainSet }

/** One set per tree. `trees`: how many in a cycle. */
export function sets(task: Task, kind: keyof typeof kinds, trees: number): Contender {
  const { ports, group } = task
  const { k } = group
  const all = Array.from({ length: trees }, () => kinds[kind](k))
  const found: ArrayLike<number>[] = []
  return {
    trees,
    send(list, count) {
      for (let t = 0, at = list * group.trees * k; t < count; t++) {
        const set = all[t]!
        for (const end = at + k; at < end; at++) set.add(ports[at]!)
      }
      return count
    },
    scan(count) {
      let total = 0
      for (let t = 0; t < count; t++) {
        found[t] = all[t]!.drain()
        total += found[t]!.length
      }
      return total
    },
    delivered: (tree) => found[tree]!,
  }
}
