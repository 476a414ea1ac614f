/**
 * Options of commands and benchmarks: a table per command says what each is, one parser reads them. Help texts are
 * made from the same tables.
 */

import { didYouMean, UsageError } from './errors.js'
import { wrap } from './table.js'

/** One option; `V` is what it reads as. */
export interface Option<V = unknown> {
  readonly help: string
  /** What stands for the value in the help; a switch has none. */
  readonly value?: string
  /** The value may be left out, and is given as `--name=VALUE` if it is not. */
  readonly optionalValue?: boolean
  /** Words that the value may be. */
  readonly words?: readonly string[]
  /** For the help: what holds if the option is not given. */
  readonly default?: string
  /** Reads what was given: a text, true for an option without a value, undefined for none. @throws Refused */
  read(given: string | true | undefined): V
}

/** A command's options by name. */
export type Options = Readonly<Record<string, Option>>

/** What was given, defaults filled in. */
export type Values<S extends Options> = { readonly [K in keyof S]: S[K] extends Option<infer V> ? V : never }

/** A value that is not allowed: says which, and what is. */
class Refused extends Error {
  constructor(
    readonly given: string,
    allowed: string,
  ) {
    super(allowed)
  }
}

// --- kinds of options ------------------------------------------------------------------------------------------------

/** A switch. */
export const flag = (help: string): Option<boolean> => ({ help, read: (given) => given !== undefined })

function readWhole(given: string, min: number, max: number): number {
  const value = /^\d+$/.test(given) ? Number(given) : Number.NaN
  if (!(value >= min && value <= max)) throw new Refused(given, `a whole number from ${min} to ${max}`)
  return value
}

/** A whole number within bounds; without a default undefined if it is not given. */
export function whole<D extends number | undefined = undefined>(
  help: string,
  { min, max, value = 'N', preset, shown }: { min: number; max: number; value?: string; preset?: D; shown?: string },
): Option<D extends number ? number : number | undefined> {
  const usual = shown ?? preset?.toString()
  return {
    help,
    value,
    ...(usual !== undefined && { default: usual }),
    read: (given) => (given === undefined ? preset : readWhole(String(given), min, max)) as number,
  }
}

/** Whole numbers within bounds, with commas between. */
export const wholes = (
  help: string,
  { min, max, preset }: { min: number; max: number; preset: readonly number[] },
): Option<readonly number[]> => ({
  help,
  value: 'N,…',
  default: preset.join(',') || 'none',
  read: (given) =>
    given === undefined
      ? preset
      : String(given)
          .split(',')
          .map((each) => readWhole(each, min, max)),
})

function readWord<T extends string>(given: string, of: readonly T[]): T {
  if (!of.includes(given as T)) throw new Refused(given, of.join(', '))
  return given as T
}

/** One of several words. */
export const choice = <T extends string>(
  help: string,
  { of, preset, value = of.join('|') }: { of: readonly T[]; preset: NoInfer<T>; value?: string },
): Option<T> => ({
  help,
  value,
  words: of,
  default: preset,
  read: (given) => (given === undefined ? preset : readWord(String(given), of)),
})

/** One of several words, or the name of a module's file. */
export const choiceOrModule = (
  help: string,
  { of, preset, value }: { of: readonly string[]; preset: string; value: string },
): Option<string> => ({
  help,
  value,
  words: of,
  default: preset,
  read: (given) => {
    const word = given === undefined ? preset : String(given)
    if (of.includes(word) || /.\.m?js$/.test(word)) return word
    throw new Refused(word, `${of.join(', ')}, or a file whose name ends in .mjs or .js`)
  },
})

/** Some of several words, with commas between, each once. */
export const list = <T extends string>(
  help: string,
  { of, preset }: { of: readonly T[]; preset: readonly NoInfer<T>[] },
): Option<readonly T[]> => ({
  help,
  value: `${of.join('|')},…`,
  words: of,
  default: preset.join(','),
  read: (given) =>
    given === undefined ? preset : [...new Set(String(given).split(','))].map((each) => readWord(each, of)),
})

/** Any text but none. */
export const text = (
  help: string,
  { value, shown }: { value: string; shown?: string },
): Option<string | undefined> => ({
  help,
  value,
  ...(shown !== undefined && { default: shown }),
  read: (given) => {
    if (given === '') throw new Refused(given, 'a text that is not empty')
    return given as string | undefined
  },
})

/** Something to print: true to standard output, a text to that file. */
export const output = (help: string): Option<string | boolean> => ({
  help,
  value: 'FILE',
  optionalValue: true,
  read: (given) => {
    if (given === '') throw new Refused(given, 'the name of a file')
    return given ?? false
  },
})

/** Options that several commands have. */
export const COMMON = {
  seed: (help: string) => whole(help, { min: 0, max: 2 ** 32 - 1, preset: 1 }),
  json: output('print the results as JSON instead; with a file, write them there as well'),
}

// --- the parser ------------------------------------------------------------------------------------------------------

/** What a command line says. */
export interface Parsed<S extends Options> {
  readonly values: Values<S>
  readonly operands: readonly string[]
  /** Names of the options that were given. */
  readonly given: ReadonlySet<string>
}

/** How the help of a program is asked for. */
const seeHelp = (program: string): string =>
  `See ${program.startsWith('bench') ? `npm run ${program} --` : program} --help.`

/** Reads a command line; `program` begins each message. @throws UsageError */
export function parse<S extends Options>(
  program: string,
  specs: S,
  argv: readonly string[],
  operands: boolean | 'anywhere' = false,
): Parsed<S> {
  const raw = new Map<string, string | true>()
  const rest: string[] = []
  const wrong = (why: string) => new UsageError(`${program}: ${why}${why.endsWith('?') ? '' : '.'} ${seeHelp(program)}`)
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i]!
    // A command that takes operands takes all that stands behind the first.
    if (rest.length && operands === true) rest.push(arg)
    else if (operands && arg === '--') {
      rest.push(...argv.slice(i + 1))
      break
    } else if (!arg.startsWith('-') || arg === '-') {
      if (!operands) throw wrong(`unexpected argument ${JSON.stringify(arg)}${fileHint(argv[i - 1], specs, arg)}`)
      rest.push(arg)
    } else {
      const [, name, value] = /^--?([^=]*)(?:=(.*))?$/s.exec(arg)!
      const spec = arg.startsWith('--') && Object.hasOwn(specs, name!) ? specs[name!]! : undefined
      if (!spec) {
        const near = didYouMean(name!, Object.keys(specs), (each) => `--${each}`)
        throw wrong(`unknown option ${arg.split('=')[0]}${near}`)
      }
      if (value !== undefined && spec.value === undefined) throw wrong(`--${name} takes no value`)
      if (value !== undefined || spec.value === undefined || spec.optionalValue) raw.set(name!, value ?? true)
      else {
        // A number below zero is a value, and refused as one.
        const next = argv[i + 1]
        if (next === undefined || /^--?[a-z]/.test(next)) throw wrong(`--${name} needs a value: ${spec.value}`)
        raw.set(name!, next)
        i++
      }
    }
  }
  return { values: readAll(program, specs, raw), operands: rest, given: new Set(raw.keys()) }
}

/** `--json FILE`: the value of an option that may do without needs a `=`. */
function fileHint(before: string | undefined, specs: Options, arg: string): string {
  const name = before?.startsWith('--') ? before.slice(2) : ''
  return Object.hasOwn(specs, name) && specs[name]!.optionalValue ? `; did you mean --${name}=${arg}?` : ''
}

function readAll<S extends Options>(program: string, specs: S, raw: ReadonlyMap<string, string | true>): Values<S> {
  const values: Record<string, unknown> = {}
  for (const [name, spec] of Object.entries(specs)) {
    try {
      values[name] = spec.read(raw.get(name))
    } catch (error) {
      if (!(error instanceof Refused)) throw error
      throw notAllowed(program, name, error.given, error.message)
    }
  }
  return values as Values<S>
}

/** The error for an option whose value is refused. */
export function notAllowed(program: string, name: string, given: unknown, allowed: string): UsageError {
  return new UsageError(`${program}: --${name} is ${JSON.stringify(String(given))}; allowed: ${allowed}.`)
}

/** For a bound that depends on another option. @throws UsageError */
export function within(program: string, name: string, value: number, min: number, max: number): number {
  if (value < min || value > max) throw notAllowed(program, name, value, `a whole number from ${min} to ${max}`)
  return value
}

/** Does a command line ask for help? Behind the first operand of a command that takes some, it belongs to the script. */
export function asksForHelp(argv: readonly string[], operands = false): boolean {
  const own = operands ? argv.slice(0, argv.findIndex((arg) => !arg.startsWith('-')) >>> 0) : argv
  return own.includes('--help') || own.includes('-h')
}

// --- the help --------------------------------------------------------------------------------------------------------

/** How an option is spelt in the help. */
function spelling(name: string, { value, optionalValue }: Option): string {
  return `--${name}${value === undefined ? '' : optionalValue ? `[=${value}]` : ` ${value}`}`
}

/** Widest left column of a help text; a longer spelling has a line of its own. */
const SPELLING_WIDTH = 26

/** The help text: usage, what the command does, its options. `about` may hold several paragraphs and indented lines. */
export function helpText(usage: string, about: string, specs: Options, width = 80): string {
  const all: Options = { ...specs, 'help, -h': flag('this text') }
  const rows = Object.entries(all).map(([name, spec]) => {
    const left = name.startsWith('help') ? '--help, -h' : spelling(name, spec)
    return [left, spec.help + (spec.default === undefined ? '' : ` (default: ${spec.default})`)] as const
  })
  const left = Math.min(SPELLING_WIDTH, Math.max(...rows.map(([each]) => each.length)))
  const lines = rows.flatMap(([spelt, help]) => {
    const indent = ' '.repeat(left + 4)
    const wrapped = wrap(`${indent}${help}`, width, indent)
    if (spelt.length > left) return [`  ${spelt}`, ...wrapped]
    return [`  ${spelt.padEnd(left)}  ${wrapped[0]!.trimStart()}`, ...wrapped.slice(1)]
  })
  const paragraphs = about.split('\n').flatMap((line) => wrapParagraph(line, width))
  return `usage: ${usage}\n\n${paragraphs.join('\n')}\n\noptions:\n${lines.join('\n')}\n`
}

/** One paragraph; an indented one hangs under its first word's neighbour. */
function wrapParagraph(line: string, width: number): string[] {
  const [, before = ''] = /^( *\S+ {2,}| *)/.exec(line)!
  return wrap(line, width, ' '.repeat(/ {2,}$/.test(before) || before.trim() === '' ? before.length : 0))
}
