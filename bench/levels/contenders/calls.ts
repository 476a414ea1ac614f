/**
 * The core as the library uses it, a call from JavaScript for each step: leafSet, then, if the bit was new and not
 * masked, the look-up of the vCPU's words and a climb; on the guest's side one call a scan.
 *
 * Imported once for each depth, width and build (cast.ts), so that the engine sees one target at each call.
 */

import { wordShift } from 'evtchn/abi'
import { climbOf, coreOf, scanOf } from 'evtchn/core'
import type { Contender, Task } from '../contender.js'
import { forestOf, type Tree } from '../forest.js'

/** A tree as the hypervisor has it: addresses in private arrays. */
interface Private {
  readonly upcall: number
  readonly level1: number
  readonly level2: number
  readonly last: Int32Array
  readonly pending: Int32Array
  readonly mask: Int32Array
}

const privately = (tree: Tree): Private => ({
  upcall: tree.upcall,
  level1: tree.level1,
  level2: tree.level2,
  last: Int32Array.from(tree.last),
  pending: Int32Array.from(tree.pending),
  mask: Int32Array.from(tree.mask),
})

export function calls(task: Task, shared: boolean): Contender {
  const { levels, bits, ports } = task
  const { k, trees } = task.group
  const forest = forestOf(levels, bits, shared)
  forest.load(ports)
  const core = coreOf(forest.memory)
  const climb = climbOf(core, levels, bits)
  const scan = scanOf(core, levels, bits)
  const privates = forest.trees.map(privately)
  const toLast = wordShift(bits) + 15
  const { descriptors, out } = forest

  function raise(tree: Private, port: number): number {
    const page = port >> 15
    const found = core.leafSet(tree.pending[page]!, tree.mask[page]!, port)
    if (found !== 2) return 0
    let l2 = 0
    let l3 = 0
    if (levels === 3) l2 = tree.last[port >> toLast]!
    else if (levels === 4) {
      l2 = tree.level2
      l3 = tree.last[port >> toLast]!
    }
    return climb(port, tree.upcall, tree.level1, l2, l3, 0)
  }

  return {
    trees,
    send(list, count) {
      let told = 0
      for (let t = 0, at = list * trees * k; t < count; t++)
        for (const end = at + k; at < end; at++) told += raise(privates[t]!, ports[at]!)
      return told
    },
    scan(count) {
      let total = 0
      for (let t = 0; t < count; t++) total += scan(descriptors + 128 * t, out + 4 * (k + 1) * t, k + 1)
      return total
    },
    delivered: (tree) => forest.outOf(tree, k),
    rewind: () => forest.rewind(),
  }
}
