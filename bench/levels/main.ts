/** `npm run bench`: measures, prints, writes files. Exit code 0; 1 if a result was wrong; 2 for a bad command line. */

import { writeFileSync } from 'node:fs'
import { bounds, describeBounds } from './bounds.js'
import { cast } from './cast.js'
import { chart } from './chart.js'
import { CheckError, OPS, type Runner } from './contender.js'
import { describe, machine } from './machine.js'
import { HELP, type Options, parseOptions, UsageError } from './options.js'
import { type Group, plan } from './plan.js'
import { report } from './report.js'
import type { Measured, Results } from './results.js'
import { median, runRounds } from './rounds.js'
import { groupWords } from './words.js'

/** A line that says how far it is, on a terminal only. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${text}\x1b[K`)
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

async function measure(group: Group, options: Options): Promise<Measured[]> {
  const { bits, k, placement } = group
  const runners = await cast(group, options.seed)
  try {
    await check(runners)
    const effort = { rounds: options.rounds, sampleMs: options.quick ? 0.3 : 1 }
    const measured: Measured[] = []
    const words = Object.fromEntries(group.levels.map((levels) => [levels, groupWords(group, levels, options.seed)]))
    for (const op of OPS) measured.push({ op, bits, k, placement, words, rows: await runRounds(runners, op, effort) })
    await check(runners)
    return measured
  } finally {
    for (const runner of runners) runner.close()
  }
}

async function run(options: Options): Promise<Results> {
  const groups = plan(options.quick)
  const measured: Measured[] = []
  for (const [i, group] of groups.entries()) {
    progress(`${i + 1}/${groups.length}  ${group.bits}-bit words, ${group.k} pending, ${group.placement}`)
    measured.push(...(await measure(group, options)))
  }
  progress('')
  const { seed, rounds, quick } = options
  return { machine: machine(), date: new Date().toISOString(), seed, rounds, quick, measured }
}

/** The results as JSON: samples to three decimals, with their median. */
function toJson(results: Results): string {
  const round = (ns: number) => Math.round(ns * 1000) / 1000
  const measured = results.measured.map((m) => ({
    ...m,
    rows: m.rows.map((row) => ({ ...row, ns: round(median(row.samples)), samples: row.samples.map(round) })),
  }))
  return `${JSON.stringify({ ...results, measured, bounds: bounds(results) }, null, 1)}\n`
}

/** Opens the files before minutes are spent on what goes into them. */
function touch(options: Options): void {
  for (const path of [options.json, options.svg])
    try {
      if (path !== undefined) writeFileSync(path, '', { flag: 'a' })
    } catch (error) {
      throw new UsageError((error as Error).message)
    }
}

async function main(args: readonly string[]): Promise<number> {
  try {
    const options = parseOptions(args)
    if (!options) {
      process.stdout.write(HELP)
      return 0
    }
    touch(options)
    const { rounds, seed } = options
    process.stdout.write(`${describe(machine())}\n${rounds} rounds, seed ${seed}\n\n`)
    const results = await run(options)
    process.stdout.write(`${report(results)}\n${describeBounds(bounds(results))}`)
    if (options.json !== undefined) writeFileSync(options.json, toJson(results))
    if (options.svg !== undefined) writeFileSync(options.svg, await chart(results))
    return 0
  } catch (error) {
    progress('')
    if (error instanceof UsageError) {
      process.stderr.write(`bench: ${error.message}\nTry --help.\n`)
      return 2
    }
    if (error instanceof CheckError) {
      process.stderr.write(`bench: wrong result: ${error.message}\n`)
      return 1
    }
    throw error
  }
}

process.exitCode = await main(process.argv.slice(2))
