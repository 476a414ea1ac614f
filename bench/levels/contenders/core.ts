/**
 * The core with the loop inside wasm (bench/levels/wasm/loops.ts), and the flat scan over the same words.
 *
 * Imported once for each depth, width, build and kind (cast.ts), so that the engine sees one target at each call.
 */

import type { Contender, Task } from '../contender.js'
import { forestOf } from '../forest.js'
import { loopsOf } from '../loops.js'

function contender(task: Task, shared: boolean, trees: number, sendName: string, scanName: string): Contender {
  const { group, ports, levels, bits } = task
  const { k } = group
  const forest = forestOf(levels, bits, shared)
  forest.load(ports)
  const loops = loopsOf(forest)
  const send = loops[sendName]!
  const scan = loops[scanName]!
  const { descriptors, lists, out } = forest
  const stride = 4 * k * group.trees
  return {
    trees,
    send: (list, count) => send(descriptors, count, lists + list * stride, k),
    scan: (count) => scan(descriptors, count, out, k),
    delivered: (tree) => forest.outOf(tree, k),
  }
}

/** The core, in the build for shared memory or the other. */
export function core(task: Task, shared: boolean): Contender {
  const shape = `${task.levels}x${task.bits}`
  const base = contender(task, shared, task.group.trees, `send${shape}`, `drain${shape}`)
  return { ...base, rewind: () => forestOf(task.levels, task.bits, shared).rewind() }
}

/** The flat scan: leaf and upcall flag only. `trees`: how many in a cycle. */
export function flat(task: Task, shared: boolean, trees: number): Contender {
  const leaf = task.levels === 2 ? '2' : 'Paged'
  return contender(task, shared, trees, `flatSend${leaf}`, `flatDrain${leaf}x${task.bits}`)
}
