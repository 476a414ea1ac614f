/**
 * `npm run bench:hypercalls`: what a hypercall costs, and what the same costs in another build of the library. Every row of
 * every build runs in a process of its own, and the builds take turns, so that the machine's other work meets both.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { CheckError } from '../../src/cli/errors.js'
import { count } from '../../src/cli/format.js'
import { text, whole } from '../../src/cli/options.js'
import { type Summary, summarize } from '../../src/cli/statistics.js'
import { BENCH, type BenchTable, benchCommand } from '../options.js'
import { load } from './builds.js'
import { OPERATIONS, ROWS } from './rows.js'

const ABOUT = `Times hypercalls, the driver's calls on top of them and events delivered to a handler, beside the core alone, and counts their garbage. With --against it times another build of the library as well, in turns, and prints the ratio.`

const OPTIONS = {
  samples: BENCH.samples(400, 60),
  rounds: whole('processes of each row and build', { min: 1, max: 100, shown: '5; 2 with --quick' }),
  against: text('folder of another checkout, built, to compare with', { value: 'FOLDER' }),
}

/** What one process found. */
interface Found {
  readonly ns: number
  readonly bytes: number
}

/** A row of both builds. */
interface Compared {
  readonly name: string
  readonly ns: number
  readonly bytes: number
  readonly otherNs?: number
  readonly otherBytes?: number
  readonly ratio?: Summary
}

const CHILD = fileURLToPath(new URL('child.js', import.meta.url))
const HERE = fileURLToPath(new URL('../../../../', import.meta.url))
/** Room for the garbage of a sample, so that none is collected in its middle. */
const NODE_OPTIONS = ['--max-semi-space-size=32', '--min-semi-space-size=32']

function measure(folder: string, row: string, samples: number): Found {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...NODE_OPTIONS, CHILD, folder, row, String(samples)],
    { encoding: 'utf8' },
  )
  if (status !== 0) throw new CheckError(`${row} in ${folder}: ${stderr}`)
  return JSON.parse(stdout)
}

const least = (found: readonly Found[], what: keyof Found) => Math.min(...found.map((each) => each[what]))

function compare(name: string, plan: { samples: number; rounds: number; against: string | undefined }): Compared {
  const here: Found[] = []
  const there: Found[] = []
  for (let round = 0; round < plan.rounds; round++) {
    if (plan.against !== undefined) there.push(measure(plan.against, name, plan.samples))
    here.push(measure(HERE, name, plan.samples))
  }
  const own = { name, ns: least(here, 'ns'), bytes: least(here, 'bytes') }
  if (plan.against === undefined) return own
  const ratio = summarize(here.map(({ ns }, i) => ns / there[i]!.ns))
  return { ...own, otherNs: least(there, 'ns'), otherBytes: least(there, 'bytes'), ratio }
}

const ns = (value: number | undefined) =>
  value === undefined ? undefined : value < 100 ? value.toFixed(1) : count(value)
const whole0 = (value: number | undefined) => (value === undefined ? undefined : count(Math.round(value)))

function table(rows: readonly Compared[], compared: boolean): BenchTable {
  const columns = compared ? ['', 'other, ns', 'ns', 'ratio', 'spread', 'other, bytes', 'bytes'] : ['', 'ns', 'bytes']
  return {
    title: 'One operation: time, and garbage beyond the list of registers',
    columns,
    rows: rows.map((row) => {
      const { name, ratio } = row
      if (!ratio) return [name, ns(row.ns), whole0(row.bytes)]
      const spread = `${ratio.low.toFixed(2)}–${ratio.high.toFixed(2)}`
      const figures = [ns(row.otherNs), ns(row.ns), (row.ns / row.otherNs!).toFixed(2), spread]
      return [name, ...figures, whole0(row.otherBytes), whole0(row.bytes)]
    }),
  }
}

await benchCommand('bench:hypercalls', ABOUT, OPTIONS, async ({ values, screen }) => {
  const { quick, against } = values
  const samples = values.samples ?? (quick ? 60 : 400)
  const rounds = values.rounds ?? (quick ? 2 : 5)
  if (against !== undefined) await load(against)
  const rows = ROWS.map(({ name }) => {
    screen.progress(name)
    return compare(name, { samples, rounds, against })
  })
  const turns = against === undefined ? '' : `, in turns with the build in ${against}`
  const about = `fastest of ${rounds} × ${samples} samples of ${count(OPERATIONS)} operations${turns}`
  return { about: [about], tables: [table(rows, against !== undefined)], result: { rows } }
})
