/**
 * The one command language of the benchmarks: the same options under the same names, one parser (that of the commands),
 * and one way out: text, Markdown, CSV, a chart, or JSON in one envelope. A benchmark itself measures and
 * returns tables.
 */

import { writeResult } from '../src/cli/command.js'
import { envelopeText, machine, machineLine } from '../src/cli/envelope.js'
import { CheckError, UsageError } from '../src/cli/errors.js'
import {
  asksForHelp,
  choice,
  flag,
  helpText,
  list,
  type Option,
  type Options,
  output,
  parse,
  type Values,
  whole,
  wholes,
} from '../src/cli/options.js'
import { guardOutput } from '../src/cli/output.js'
import { Screen } from '../src/cli/screen.js'
import { type ColumnLike, markdownTable, type Row } from '../src/cli/table.js'

/** A table of a benchmark. */
export interface BenchTable {
  readonly title: string
  readonly unit?: string
  readonly columns: readonly ColumnLike[]
  readonly rows: readonly Row[]
}

/** What a benchmark found out. */
export interface BenchReport {
  /** Lines above the tables: what was measured, and how. */
  readonly about?: readonly string[]
  readonly tables: readonly BenchTable[]
  /** Lines below. */
  readonly notes?: readonly string[]
  /** For JSON: every figure a median with its spread. */
  readonly result: unknown
  /** A chart of what was measured, for benchmarks with `--svg`. */
  readonly svg?: () => Promise<string>
}

/** Options that several benchmarks have; each takes those that it knows what to do with. */
export const BENCH = {
  abi: <T extends string>(of: readonly T[], preset: readonly NoInfer<T>[]): Option<readonly T[]> =>
    list('ABIs that take part', { of, preset }),
  bits: choice('word width of the guest', { of: ['32', '64'], preset: '64' }),
  widths: list('word widths', { of: ['64', '32'], preset: ['64', '32'] }),
  pending: (preset: readonly number[], max = 65_536) => wholes('events pending at a time', { min: 1, max, preset }),
  placed: <T extends string>(of: readonly T[]): Option<readonly T[]> =>
    list('how pending ports lie', { of, preset: of }),
  samples: (usual: number, quick: number) =>
    whole('samples of each figure', { min: 1, max: 100_000, shown: `${usual}; ${quick} with --quick` }),
  seed: (help: string) => whole(help, { min: 0, max: 2 ** 32 - 1, preset: 1 }),
  single: flag('measure the build without atomics'),
  svg: output('write a chart to the file'),
}

/** Options that every benchmark has. */
const ALWAYS = {
  quick: flag('less of everything: a look, not a measurement'),
  json: output('print JSON instead; with a file, write it there as well'),
  csv: output('print the tables as CSV instead; or write them to a file'),
  markdown: output('print the tables as Markdown instead; or write them to a file'),
}
type Sink = 'json' | 'csv' | 'markdown' | 'svg'
const SINKS: readonly Sink[] = ['json', 'csv', 'markdown', 'svg']

/** What a benchmark runs with. */
export interface BenchRun<S extends Options> {
  readonly values: Values<S & typeof ALWAYS>
  /** For progress; results are returned. */
  readonly screen: Screen
}

/** Runs a benchmark: reads the command line, measures, prints, and sets the exit code. */
export async function benchCommand<S extends Options>(
  name: string,
  about: string,
  options: S,
  run: (run: BenchRun<S>) => BenchReport | Promise<BenchReport>,
  argv: readonly string[] = process.argv.slice(2),
): Promise<void> {
  const specs = { ...options, ...ALWAYS }
  guardOutput(name)
  try {
    if (asksForHelp(argv)) process.stdout.write(helpText(`npm run ${name} -- [options]`, about, specs))
    else await measure(name, specs, run, argv)
  } catch (error) {
    if (!(error instanceof UsageError) && !(error instanceof CheckError)) throw error
    process.stderr.write(`${error.message.trimEnd()}\n`)
    process.exitCode = error instanceof UsageError ? 2 : 1
  }
}

async function measure<S extends Options>(
  name: string,
  specs: S & typeof ALWAYS,
  run: (run: BenchRun<S>) => BenchReport | Promise<BenchReport>,
  argv: readonly string[],
): Promise<void> {
  const { values } = parse(name, specs, argv)
  const sinks = values as Readonly<Partial<Record<Sink, string | boolean>>>
  if (sinks.svg === true) throw new UsageError(`${name}: --svg needs a file: --svg=FILE.`)
  const printed = SINKS.filter((sink) => sinks[sink] === true)
  if (printed.length > 1) throw new UsageError(`${name}: --${printed.join(' and --')}: only one can be printed.`)
  // Opened before minutes are spent on what goes into them.
  for (const sink of SINKS) if (typeof sinks[sink] === 'string') writeResult(name, sink, sinks[sink], '')
  const screen = new Screen({ quiet: printed.length > 0 })
  const report = await run({ values: values as BenchRun<S>['values'], screen })
  screen.done()
  const texts: Readonly<Record<Exclude<Sink, 'svg'>, () => string>> = {
    json: () => envelopeText(name, values, report.result),
    csv: () => csv(report),
    markdown: () => markdown(report),
  }
  for (const sink of SINKS) {
    const given = sinks[sink]
    if (!given) continue
    const text = sink === 'svg' ? await report.svg!() : texts[sink]()
    if (typeof given === 'string') writeResult(name, sink, given, text)
    else process.stdout.write(text)
  }
  show(screen, report)
}

function show(screen: Screen, { about = [], tables, notes = [] }: BenchReport): void {
  for (const line of [machineLine(machine()), ...about]) screen.line(line)
  for (const { title, unit, columns, rows } of tables) {
    screen.heading(titleOf(title, unit))
    screen.table(columns, rows)
  }
  if (notes.length) screen.line()
  for (const line of notes) screen.line(line)
}

const titleOf = (title: string, unit: string | undefined): string => (unit === undefined ? title : `${title}, ${unit}`)

function markdown({ about = [], tables }: BenchReport): string {
  const parts = tables.flatMap(({ title, unit, columns, rows }) => [
    '',
    `**${title}**${unit === undefined ? '' : `, ${unit}`}`,
    '',
    ...markdownTable(columns, rows),
  ])
  return `${[[machineLine(machine()), ...about].join('; '), ...parts].join('\n')}\n`
}

/** One table behind the other, its title in the first column of each row. */
function csv({ tables }: BenchReport): string {
  const quoted = (cell: string) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)
  const line = (cells: readonly string[]) => cells.map(quoted).join(',')
  const lines = tables.flatMap(({ title, unit, columns, rows }) => {
    const heads = columns.map((column) => [typeof column === 'string' ? column : column.head].flat().join(' ').trim())
    return [
      line(['table', ...heads]),
      ...rows.map((row) => line([titleOf(title, unit), ...columns.map((_, i) => row[i] ?? '')])),
    ]
  })
  return `${lines.join('\n')}\n`
}
