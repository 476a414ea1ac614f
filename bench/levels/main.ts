/** `npm run bench`, first part: raising and scanning at 2, 3 and 4 levels, against C, a flat scan and JavaScript sets. */

import { CheckError } from '../../src/cli/errors.js'
import type { Screen } from '../../src/cli/screen.js'
import { summarize } from '../../src/cli/statistics.js'
import { BENCH, benchCommand } from '../options.js'
import { bounds, describeBounds } from './bounds.js'
import { cast } from './cast.js'
import { chart } from './chart.js'
import { OPS, type Runner } from './contender.js'
import { compiler, describe } from './machine.js'
import { type Group, LEVELS, PENDING, PLACEMENTS, plan, QUICK_PENDING } from './plan.js'
import { LEGEND, report } from './report.js'
import type { Measured, Results } from './results.js'
import { runRounds } from './rounds.js'
import { groupWords } from './words.js'

const ABOUT = `Raises and scans events at 2, 3 and 4 levels, and compares the core with a C program, a flat scan and JavaScript sets. Then, unless data is printed, two levels, three levels and FIFO through the whole library (bench:abis).`

const OPTIONS = {
  abi: BENCH.abi(
    LEVELS.map((levels) => String(levels) as '2' | '3' | '4'),
    ['2', '3', '4'],
  ),
  bits: BENCH.widths,
  pending: BENCH.pending(PENDING),
  placed: BENCH.placed(PLACEMENTS),
  samples: BENCH.samples(15, 5),
  seed: BENCH.seed('for the choice of ports'),
  svg: BENCH.svg,
}

/** What a run is given beside its groups. */
interface Effort {
  readonly seed: number
  readonly samples: number
  readonly sampleMs: number
}

/** Contenders that share an order of delivery must deliver the same ports in the same order. */
async function check(runners: readonly Runner[]): Promise<void> {
  const orders = new Map<number, { name: string; digest: number }>()
  for (const runner of runners) {
    const digest = await runner.check()
    if (digest === undefined) continue
    const first = orders.get(runner.levels)
    if (!first) orders.set(runner.levels, { name: runner.name, digest })
    else if (first.digest !== digest)
      throw new CheckError(`${runner.name} and ${first.name} deliver in different orders at ${runner.levels} levels`)
  }
}

async function measure(group: Group, { seed, samples, sampleMs }: Effort): Promise<Measured[]> {
  const { bits, k, placement } = group
  const runners = await cast(group, seed)
  try {
    await check(runners)
    const measured: Measured[] = []
    const words = Object.fromEntries(group.levels.map((levels) => [levels, groupWords(group, levels, seed)]))
    for (const op of OPS) {
      const rows = await runRounds(runners, op, { rounds: samples, sampleMs })
      measured.push({ op, bits, k, placement, words, rows })
    }
    await check(runners)
    return measured
  } finally {
    for (const runner of runners) runner.close()
  }
}

async function measureAll(groups: readonly Group[], effort: Effort, screen: Screen): Promise<Results> {
  const measured: Measured[] = []
  for (const [i, group] of groups.entries()) {
    screen.steps(`${group.bits}-bit words, ${group.k} pending, ${group.placement}: group`, i, groups.length)
    measured.push(...(await measure(group, effort)))
  }
  return { compiler: compiler(), measured }
}

/** The results as data: samples to three decimals, with their median and quartiles. */
function toJson(results: Results): object {
  const round = (ns: number) => Math.round(ns * 1000) / 1000
  const measured = results.measured.map((m) => ({
    ...m,
    rows: m.rows.map(({ samples, ...row }) => ({
      ...row,
      ns: summarize(samples.map(round)),
      samples: samples.map(round),
    })),
  }))
  return { unit: 'ns per event', compiler: results.compiler, measured, bounds: bounds(results) }
}

await benchCommand('bench', ABOUT, OPTIONS, async ({ values, screen }) => {
  const { quick, seed } = values
  const samples = values.samples ?? (quick ? 5 : 15)
  const groups = plan({
    bits: values.bits.map((bits) => (bits === '32' ? 32 : 64)),
    levels: values.abi.map(Number),
    pending: quick ? values.pending.filter((k) => QUICK_PENDING.includes(k)) : values.pending,
    placed: values.placed,
  })
  const results = await measureAll(groups, { seed, samples, sampleMs: quick ? 0.3 : 1 }, screen)
  return {
    about: [`${describe(results.compiler)}; ${samples} rounds, seed ${seed}`],
    tables: report(results),
    notes: [...LEGEND, '', ...describeBounds(bounds(results))],
    result: toJson(results),
    svg: () => chart(results),
  }
})
