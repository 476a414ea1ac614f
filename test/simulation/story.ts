/** One story: the steps of a seed in a world of their own, and what broke. A story that breaks can be made shorter. */

import { Dom0 } from './dom0.js'
import { Events } from './events.js'
import { draw, must, type Step, Violation } from './step.js'

/** Four steps in five are about events: they cost a tenth of those that run a whole host. */
const WEIGHTS = { ...Events.weights, ...Dom0.weights }

/** What broke, and at which step; `steps.length` is the end. */
export interface Failure {
  readonly at: number
  readonly message: string
}

/** The steps of a seed. */
export const stepsOf = (seed: number, count: number): Step[] => draw(seed, count, WEIGHTS)

/** Runs a story; undefined: nothing broke. `each` is called behind every step. */
export function run(seed: number, steps: readonly Step[], each = () => {}): Failure | undefined {
  const events = new Events()
  const dom0 = new Dom0(seed)
  let at = 0
  try {
    for (const step of steps) {
      must(Object.hasOwn(WEIGHTS, step.kind), `there is no step ${step.kind}`)
      const part = Object.hasOwn(Events.weights, step.kind) ? events : dom0
      part.step(step)
      part.check()
      at++
      each()
    }
    events.end()
    dom0.end()
    return undefined
  } catch (error) {
    const { stack = String(error), message } = error as Error
    return { at, message: error instanceof Violation ? message : stack }
  }
}

/** Numbers differ from story to story of one fault. */
const kindOf = ({ message }: Failure): string => message.split('\n', 1)[0]!.replace(/[0-9]+/g, 'N')

/** Leaves out steps as long as the story breaks in the same way. */
export function minimise(seed: number, steps: readonly Step[], failure: Failure): { steps: Step[]; failure: Failure } {
  let best = steps.slice(0, failure.at + 1)
  let found = failure
  for (let size = best.length >> 1; size >= 1; size >>= 1)
    for (let from = best.length - size; from >= 0; from -= size) {
      const shorter = [...best.slice(0, from), ...best.slice(from + size)]
      const again = run(seed, shorter)
      if (!again || kindOf(again) !== kindOf(failure)) continue
      best = shorter.slice(0, again.at + 1)
      found = again
      from = Math.min(from, best.length)
    }
  return { steps: best, failure: found }
}

/** The last steps before something broke, as lines. */
export function tell(steps: readonly Step[], { at, message }: Failure, most = 12): string[] {
  const from = Math.max(0, at + 1 - most)
  const last = steps
    .slice(from, at + 1)
    .map(({ kind, numbers }, i) => `  ${from + i + 1}. ${kind} ${numbers.join(' ')}`)
  return [`broke at step ${at + 1} of ${steps.length}: ${message}`, ...(from ? ['  …'] : []), ...last]
}
