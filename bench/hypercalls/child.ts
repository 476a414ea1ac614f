/**
 * One row over one build: `child.js FOLDER ROW SAMPLES`. Prints the fastest sample and the garbage of an operation as JSON.
 *
 * The fastest of many short samples is what the code costs where nothing interrupts it, so it repeats on a busy machine.
 * Garbage is what the heap grew by in a sample during which nothing was collected; the least of all samples, for the
 * engine's own work, such as compiling, only adds.
 */

import { load } from './builds.js'
import { OPERATIONS, ROWS } from './rows.js'

const [folder, name, samples] = process.argv.slice(2)
const row = ROWS.find((each) => each.name === name)!
const { run, reset } = row.make(await load(folder!))
let best = Number.POSITIVE_INFINITY
let bytes = Number.POSITIVE_INFINITY
for (let i = 0; i < Number(samples); i++) {
  const before = process.memoryUsage().heapUsed
  const start = performance.now()
  run()
  best = Math.min(best, performance.now() - start)
  const grown = process.memoryUsage().heapUsed - before
  if (grown >= 0) bytes = Math.min(bytes, grown)
  reset()
}
// The two reads of the clock and of the heap leave a few numbers behind.
process.stdout.write(
  JSON.stringify({ ns: (best * 1e6) / OPERATIONS, bytes: Math.max(0, bytes - emptySample()) / OPERATIONS }),
)

/** What an empty sample leaves behind. */
function emptySample(): number {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < 200; i++) {
    const before = process.memoryUsage().heapUsed
    performance.now()
    performance.now()
    const grown = process.memoryUsage().heapUsed - before
    if (grown >= 0) least = Math.min(least, grown)
  }
  return least
}
