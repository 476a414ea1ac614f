/** Makes a sequence that shows a difference shorter. */

import type { Difference } from './difference.js'
import type { Step } from './operations.js'
import type { Rig } from './rig.js'

/** Leaves out steps as long as a difference of the same kind remains. */
export async function shrink(
  rig: Rig,
  steps: readonly Step[],
  kind: string,
  seconds: number,
): Promise<{ steps: readonly Step[]; found?: Difference }> {
  const end = performance.now() + seconds * 1000
  const fails = async (candidate: readonly Step[]) => {
    const difference = await rig.run(candidate)
    return difference?.kind === kind ? difference : undefined
  }
  let best = steps
  let found = await fails(best)
  if (!found) return { steps }
  if (found.at >= 0) best = best.slice(0, found.at + 1)
  for (let size = best.length >> 1; size >= 1; size >>= 1)
    for (let i = best.length - size; i >= 0; i -= size) {
      if (performance.now() > end) return { steps: best, found }
      const candidate = [...best.slice(0, i), ...best.slice(i + size)]
      const difference = await fails(candidate)
      if (!difference) continue
      best = candidate
      found = difference
    }
  return { steps: best, found }
}
