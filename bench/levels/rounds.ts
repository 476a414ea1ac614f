/**
 * Rounds: in each, every contender of a group takes one sample, in an order that rotates from round to round. Whatever
 * slows the machine down for a while slows neighbours alike, so ratios are taken within a round, and their median counts.
 *
 * tinybench runs a task to its end before the next one begins, so each round is a short Bench of one iteration a task,
 * whose duration the task itself reports (see cycle.ts for what it measures).
 */

import { Bench } from 'tinybench'
import { CheckError } from '../../src/cli/errors.js'
import { median } from '../../src/cli/statistics.js'
import type { Op, Runner } from './contender.js'

/** Samples of one contender in a group, ns per event, one a round. */
export interface Row {
  readonly name: string
  readonly levels: number
  readonly samples: readonly number[]
}

export interface Effort {
  readonly rounds: number
  /** Timed milliseconds a sample is to have. */
  readonly sampleMs: number
}

/** What a sample runs. */
interface Size {
  readonly cycles: number
  /** Longest time of a region that counts, ns. */
  readonly limit: number
}

/** A sample may take this much longer than its timed half before it is cut. */
const MOST_UNTIMED = 4
/** Milliseconds of running before the rounds: the engine compiles what it sees to be hot. */
const WARM_MS = 12
/** A region that takes so many times longer than usual, and some ns on top, was interrupted. */
const INTERRUPTED = 4
const INTERRUPTED_NS = 2000

/** Runs one half of a group's cycles. All runners must have been checked. */
export async function runRounds(runners: readonly Runner[], op: Op, effort: Effort): Promise<Row[]> {
  const sizes: Size[] = []
  for (const runner of runners) sizes.push(await calibrate(runner, op, effort.sampleMs))
  const samples = runners.map(() => [] as number[])
  for (let round = 0; round < effort.rounds; round++) {
    const bench = new Bench({ iterations: 1, time: 0, warmup: false, throws: true })
    const order = runners.map((_, i) => (i + round) % runners.length)
    for (const i of order) {
      const runner = runners[i]!
      const task = runner.remote
        ? async () => duration(await remoteSample(runner, op, sizes[i]!))
        : () => duration(localSample(runner, op, sizes[i]!))
      bench.add(String(i), task, { async: runner.remote })
    }
    await bench.run()
    for (const i of order) {
      const { result } = bench.getTask(String(i))!
      if (result.state !== 'completed') throw new CheckError(`${runners[i]!.name}: task ${result.state}`)
      samples[i]!.push(result.latency.mean * 1e6)
    }
  }
  return runners.map(({ name, levels }, i) => ({ name, levels, samples: samples[i]! }))
}

/** One sample; if all its cycles were interrupted, one with them. */
async function remoteSample(runner: Runner, op: Op, { cycles, limit }: Size): Promise<number> {
  const ns = await runner.sample(op, cycles, limit)
  return Number.isNaN(ns) ? runner.sample(op, cycles, Number.POSITIVE_INFINITY) : ns
}

function localSample(runner: Runner, op: Op, { cycles, limit }: Size): number {
  const ns = runner.sample(op, cycles, limit) as number
  return Number.isNaN(ns) ? (runner.sample(op, cycles, Number.POSITIVE_INFINITY) as number) : ns
}

/** What tinybench takes for the time of an iteration: here of one event, in milliseconds. A time below 0 is noise. */
const duration = (ns: number) => ({ overriddenDuration: Math.max(0, ns) / 1e6 })

/** Warms up and finds how many cycles make a sample, and how long one may take. */
async function calibrate(runner: Runner, op: Op, sampleMs: number): Promise<Size> {
  const trials: { region: number; wall: number }[] = []
  let spent = 0
  for (let cycles = 1; spent < WARM_MS || trials.length < 3; ) {
    const begin = performance.now()
    const ns = await runner.sample(op, cycles, Number.POSITIVE_INFINITY)
    const wall = performance.now() - begin
    spent += wall
    trials.push({ region: Math.max(1, ns * runner.events), wall: wall / cycles })
    if (spent < WARM_MS / 4) cycles *= 2
  }
  // The last trials: warm, and long enough to tell.
  const last = trials.slice(-3)
  const region = median(last.map((trial) => trial.region))
  const wall = median(last.map((trial) => trial.wall))
  const cycles = Math.ceil(Math.min((sampleMs * 1e6) / region, (sampleMs * MOST_UNTIMED) / wall))
  return { cycles: Math.max(1, cycles), limit: INTERRUPTED * region + INTERRUPTED_NS }
}

/** Median of the ratios of two rows' samples, round by round. None where a sample is lost in the noise. */
export function ratio(row: Row, to: Row): number | undefined {
  const ratios = row.samples.map((ns, round) => ns / to.samples[round]!).filter((x) => x > 0 && Number.isFinite(x))
  return ratios.length ? median(ratios) : undefined
}
