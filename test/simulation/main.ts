/**
 * `npm run simulate`: stories of random steps in simulated time, seed by seed, with every invariant checked behind every
 * step. Ends with 1 at the first that breaks, and prints its last steps.
 */

import { parseArgs } from 'node:util'
import { minimise, run, stepsOf, tell } from './story.js'

const HELP = `usage: npm run simulate -- [options]

Runs stories of random steps: guests on every ABI that connect, signal, move
between hosts and die; a whole host with its toolstack, stalls, sockets and
store; callbacks that throw, calls that are refused, states that are damaged.
After each step every invariant is checked, and at the end that nothing is
left.

options:
  --seed S      first seed (default: 1)
  --seeds N     how many seeds, one after the other (default: 1)
  --steps N     steps of each story (default: 5000)
  --minimise    shortens a story that breaks
  --help, -h    this text
`

function whole(name: string, text: string, least: number): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < least) {
    process.stderr.write(`simulate: --${name} is ${JSON.stringify(text)}; allowed: a whole number from ${least}\n`)
    process.exit(2)
  }
  return value
}

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    steps: { type: 'string', default: '5000' },
    minimise: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}
const first = whole('seed', values.seed, 0)
const seeds = whole('seeds', values.seeds, 1)
const count = whole('steps', values.steps, 1)

let done = 0
for (let seed = first; seed < first + seeds; seed++) {
  const steps = stepsOf(seed, count)
  const failure = run(seed, steps)
  done += failure ? failure.at + 1 : count
  if (!failure) {
    process.stdout.write(`seed ${seed}: ${count} steps, ${seed - first + 1} of ${seeds} seeds\n`)
    continue
  }
  process.stdout.write(`seed ${seed} ${tell(steps, failure).join('\n')}\n`)
  if (values.minimise) {
    const shorter = minimise(seed, steps, failure)
    process.stdout.write(
      `shortened to ${shorter.steps.length} steps; it ${tell(shorter.steps, shorter.failure, 200).join('\n')}\n`,
    )
  }
  process.stdout.write(`again: npm run simulate -- --seed ${seed} --steps ${count} --minimise\n`)
  process.exitCode = 1
  break
}
process.stdout.write(`${done} steps\n`)
