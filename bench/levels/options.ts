/** The command line of `npm run bench`. */

import { parseArgs } from 'node:util'

export interface Options {
  readonly json?: string
  readonly svg?: string
  readonly quick: boolean
  readonly rounds: number
  readonly seed: number
}

export const HELP = `usage: npm run bench -- [options]

Raising and scanning events at 2, 3 and 4 levels, against C, a flat scan and JavaScript sets; then two levels, three
levels and FIFO through the whole library.

  --json FILE    write everything that was measured
  --svg FILE     write a chart of ns per event against pending events, a line a depth
  --quick        fewer groups, rounds and cycles: a look, not a measurement
  --rounds N     rounds, of which medians are taken (15; with --quick 5)
  --seed N       seed of the ports (1)
  --help         this text
`

/** Something is wrong with the command line. */
export class UsageError extends Error {}

/** Reads the arguments; nothing stands for --help. */
export function parseOptions(args: readonly string[]): Options | undefined {
  const { values } = parse(args)
  if (values.help) return undefined
  const quick = values.quick ?? false
  return {
    ...(values.json === undefined ? {} : { json: file('--json', values.json) }),
    ...(values.svg === undefined ? {} : { svg: file('--svg', values.svg) }),
    quick,
    rounds: number('--rounds', values.rounds, quick ? 5 : 15, 1, 1000),
    seed: number('--seed', values.seed, 1, 0, 0xffff_ffff),
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        json: { type: 'string' },
        svg: { type: 'string' },
        quick: { type: 'boolean' },
        rounds: { type: 'string' },
        seed: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function file(option: string, value: string): string {
  if (value === '') throw new UsageError(`${option} needs the name of a file`)
  return value
}

function number(option: string, value: string | undefined, fallback: number, min: number, max: number): number {
  if (value === undefined) return fallback
  const given = Number(value)
  if (!/^\d+$/.test(value) || given < min || given > max)
    throw new UsageError(`${option} ${value}: an integer from ${min} to ${max} is needed`)
  return given
}
