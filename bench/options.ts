/** Command lines of benchmarks: --help and -h, and mistakes that are named (exit code 2) instead of shown as a stack. */

import { parseArgs } from 'node:util'

/** One option. Those without `value` are switches. */
export interface BenchOption {
  readonly short: string
  /** For the help: what stands for the value. */
  readonly value?: string
  readonly default?: string
  readonly help: string
}

/** What was given, defaults filled in. */
export class BenchValues {
  readonly #values: Readonly<Record<string, string | boolean | undefined>>

  constructor(values: Readonly<Record<string, string | boolean | undefined>>) {
    this.#values = values
  }

  /** Was this switch given? */
  is(name: string): boolean {
    return this.#values[name] === true
  }

  /** The text of an option, if there is any. */
  text(name: string): string | undefined {
    const value = this.#values[name]
    if (value === '') throw new Mistake(`--${name} needs a value`)
    return typeof value === 'string' ? value : undefined
  }

  /** A list of whole numbers within bounds. */
  numbers(name: string, min: number, max: number): number[] {
    return (this.text(name) ?? '').split(',').map((part) => {
      const value = /^\d+$/.test(part) ? Number(part) : Number.NaN
      if (!(value >= min && value <= max))
        throw new Mistake(`--${name} ${part}: a whole number from ${min} to ${max} is needed`)
      return value
    })
  }

  /** One whole number within bounds. */
  number(name: string, min: number, max: number): number {
    const all = this.numbers(name, min, max)
    if (all.length !== 1) throw new Mistake(`--${name} takes one number`)
    return all[0]!
  }
}

/** A command line that cannot be understood. */
class Mistake extends Error {}

/**
 * Reads the command line and hands what was given to `run`; answers --help itself. `run` reads all its options before it
 * begins to work.
 */
export async function benchCommand(
  name: string,
  about: string,
  options: Readonly<Record<string, BenchOption>>,
  run: (values: BenchValues) => void | Promise<void>,
  args: readonly string[] = process.argv.slice(2),
): Promise<void> {
  const all: Record<string, BenchOption> = { ...options, help: { short: 'h', help: 'this text' } }
  const specs = Object.fromEntries(
    Object.entries(all).map(([key, { short, value, default: usual }]) => [
      key,
      { type: value ? ('string' as const) : ('boolean' as const), short, ...(usual && { default: usual }) },
    ]),
  )
  try {
    const values = new BenchValues(understood(specs, args))
    if (values.is('help')) process.stdout.write(helpText(name, about, all))
    else await run(values)
  } catch (error) {
    if (!(error instanceof Mistake)) throw error
    process.stderr.write(`${name}: ${error.message}. See npm run ${name} -- --help.\n`)
    process.exitCode = 2
  }
}

type Specs = NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>['options']>

function understood(options: Specs, args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options }).values as Record<string, string | boolean | undefined>
  } catch (error) {
    throw new Mistake((error as Error).message.split(/\.\s/)[0])
  }
}

function helpText(name: string, about: string, options: Readonly<Record<string, BenchOption>>): string {
  const rows = Object.entries(options).map(([key, { short, value, default: usual, help }]) => [
    `  --${key}, -${short}${value ? ` ${value}` : ''}`,
    help + (usual === undefined ? '' : ` (default ${usual})`),
  ])
  const width = Math.max(...rows.map(([left]) => left!.length))
  const lines = rows.map(([left, right]) => `${left!.padEnd(width)}  ${right}`)
  return `usage: npm run ${name} -- [options]\n\n${about}\n\noptions:\n${lines.join('\n')}\n`
}
