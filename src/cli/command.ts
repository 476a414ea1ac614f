/**
 * What a subcommand is, and how one is run: its options read, its results printed as text or as JSON, its inconsistencies
 * told. A command itself computes and lays out; it never writes to standard output.
 */

import { writeFileSync } from 'node:fs'
import { envelopeText } from './envelope.js'
import { CheckError, UsageError } from './errors.js'
import { asksForHelp, helpText, type Options, output, type Parsed, parse, type Values } from './options.js'
import { Screen } from './screen.js'
import { Tracing } from './tracing.js'

/** What a command found out. */
export interface Report {
  /** For `--json`. */
  readonly result: unknown
  /** What is inconsistent: told on standard error, exit code 1. */
  readonly problems?: readonly string[]
}

/** What a command runs with. */
export interface Run<S extends Options> {
  /** `evtchn demo`: begins messages. */
  readonly program: string
  readonly values: Values<S>
  /** Names of the options that were given. */
  readonly given: ReadonlySet<string>
  readonly operands: readonly string[]
  /** Silent if JSON is printed instead. */
  readonly screen: Screen
}

/** A subcommand. */
export interface Command<S extends Options = Options> {
  readonly name: string
  /** One line for the list of commands. */
  readonly summary: string
  /** For its own help: paragraphs, a line each. */
  readonly about: string
  readonly options: S
  /** Operands as the usage line shows them; a command without takes none. */
  readonly operands?: string
  /** Its options may stand behind an operand, too. */
  readonly interleaved?: true
  /** False: it has no `--trace`. */
  readonly traced?: false
  /** The report, or an exit code of a command that printed all there is by itself. */
  run(run: Run<S>): Report | number | Promise<Report | number>
}

/** Keeps the types of the options inside, and forgets them outside. */
export const command = <S extends Options>(definition: Command<S>): Command => definition as unknown as Command

/** The options of a command, with those that all commands have. */
export const optionsOf = ({ options, traced }: Command): Options =>
  traced === false
    ? options
    : { ...options, trace: output('print every call as strace does, on standard error; or write them to a file') }

/** The usage line. */
const usageOf = ({ name, operands }: Command): string =>
  `evtchn ${name} [options]${operands === undefined ? '' : ` ${operands}`}`

/** The help text of a command. */
export const helpOf = (each: Command, width?: number): string =>
  helpText(usageOf(each), each.about, optionsOf(each), width)

/** Runs a command; resolves to its exit code. @throws UsageError, CheckError */
export async function runCommand(each: Command, argv: readonly string[]): Promise<number> {
  if (asksForHelp(argv, each.operands !== undefined && !each.interleaved)) {
    process.stdout.write(helpOf(each, helpWidth()))
    return 0
  }
  const program = `evtchn ${each.name}`
  const operands = each.interleaved ? 'anywhere' : each.operands !== undefined
  const parsed = parse(program, optionsOf(each), argv, operands)
  const { json, trace } = parsed.values as { json?: string | boolean; trace?: string | boolean }
  // Known at once, and not after minutes of work.
  if (typeof json === 'string') writeResult(program, 'json', json, '')
  const screen = new Screen({ quiet: json === true })
  const tracing = trace ? Tracing.begin({ program, file: trace === true ? undefined : trace }) : undefined
  const report = await each.run({ program, ...(parsed as Parsed<Options>), screen })
  tracing?.end()
  screen.done()
  if (typeof report === 'number') return report
  const problems = report.problems ?? []
  if (json) {
    const text = envelopeText(program, parsed.values, report.result, problems)
    if (json === true) process.stdout.write(text)
    else writeResult(program, 'json', json, text)
  }
  if (problems.length) throw new CheckError(`${program}: inconsistent: ${problems.join('; ')}`)
  return 0
}

/** Columns of a help text: a terminal's if it is narrow or a little wider, else 80. */
export const helpWidth = (): number => {
  const asked = Number(process.env.COLUMNS) || process.stdout.columns || 80
  return Math.min(100, Math.max(40, asked))
}

/** Writes what an option asks to have in a file. @throws CheckError if that cannot be written. */
export function writeResult(program: string, option: string, file: string, text: string): void {
  try {
    writeFileSync(file, text)
  } catch (error) {
    throw new CheckError(
      `${program}: --${option}=${JSON.stringify(file)} cannot be written: ${(error as Error).message}`,
    )
  }
}

/** Runs a command line to its exit code; prints what is wrong in one line. */
export async function finish(run: () => number | Promise<number>): Promise<number> {
  try {
    return await run()
  } catch (error) {
    if (!(error instanceof UsageError) && !(error instanceof CheckError)) throw error
    process.stderr.write(`${error.message.trimEnd()}\n`)
    return error instanceof UsageError ? 2 : 1
  }
}

export type { Options }
