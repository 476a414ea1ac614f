/** Options of the commands: parsed by node:util, checked here, with messages that name the option and what is allowed. */

import { parseArgs } from 'node:util'
import { type Bits, EVTCHN_FIFO_NR_CHANNELS } from '../abi/index.js'

/** A command line that cannot be understood: exit code 2. */
export class UsageError extends Error {}

/** A result that does not add up: exit code 1. */
export class CheckError extends Error {}

/** One option of a command. */
export interface OptionSpec {
  type: 'boolean' | 'string'
  /** One letter that stands for it. */
  short?: string
  /** For the help: what stands for the value, and what the option does. */
  value?: string
  help: string
  default?: string
}

/** A command's options by name. */
export type OptionSpecs = Readonly<Record<string, OptionSpec>>

/** What was given: strings and booleans, defaults filled in. */
export type Values = Record<string, string | boolean | undefined>

/** Every command has it. */
const HELP: OptionSpecs = { help: { type: 'boolean', short: 'h', help: 'this text' } }

/** Parses a command's arguments. @throws UsageError */
export function parse(command: string, specs: OptionSpecs, argv: string[]): Values {
  const options = Object.fromEntries(
    Object.entries({ ...specs, ...HELP }).map(([name, spec]) => [
      name,
      {
        type: spec.type,
        ...(spec.short === undefined ? {} : { short: spec.short }),
        ...(spec.default === undefined ? {} : { default: spec.default }),
      },
    ]),
  )
  try {
    return parseArgs({ args: joinNumbers(specs, argv), options, allowPositionals: false, strict: true })
      .values as Values
  } catch (error) {
    // The first sentence says what is wrong; the others are about command lines in general.
    const why = (error as Error).message.split(/\.\s/)[0]
    throw new UsageError(`evtchn ${command}: ${why}. See evtchn ${command} --help.`)
  }
}

/** `--name -1` as `--name=-1`: a number below zero is a value, and refused as one, with what is allowed. */
function joinNumbers(specs: OptionSpecs, argv: string[]): string[] {
  const joined: string[] = []
  for (const arg of argv) {
    const last = joined.at(-1)
    if (/^-\d/.test(arg) && last?.startsWith('--') && specs[last.slice(2)]?.type === 'string')
      joined[joined.length - 1] = `${last}=${arg}`
    else joined.push(arg)
  }
  return joined
}

/** A whole number within bounds. @throws UsageError */
export function whole(command: string, values: Values, name: string, min: number, max: number): number {
  const given = values[name]
  const value = typeof given === 'string' && /^\d+$/.test(given) ? Number(given) : Number.NaN
  if (!(value >= min && value <= max))
    throw new UsageError(
      `evtchn ${command}: --${name} is ${JSON.stringify(given)}; allowed: a whole number from ${min} to ${max}.`,
    )
  return value
}

/** One of several words. @throws UsageError */
export function choice<T extends string>(command: string, values: Values, name: string, allowed: readonly T[]): T {
  const given = values[name]
  if (!allowed.includes(given as T))
    throw new UsageError(`evtchn ${command}: --${name} is ${JSON.stringify(given)}; allowed: ${allowed.join(', ')}.`)
  return given as T
}

/** What `--abi` may be. */
export const ABIS = ['2', '3', '4', 'fifo'] as const
export type Abi = (typeof ABIS)[number]
/** The same as a guest's driver is asked for it. */
export type Form = 2 | 3 | 4 | 'fifo'
export const formOf = (abi: Abi): Form => (abi === 'fifo' ? abi : (Number(abi) as 2 | 3 | 4))
/** The ABI in words. */
export const abiName = (abi: Abi): string => (abi === 'fifo' ? 'FIFO queues' : `${abi} levels`)
/** Channels of an ABI beside port 0. */
export const mostChannels = (abi: Abi, bits: Bits): number =>
  (abi === 'fifo' ? EVTCHN_FIFO_NR_CHANNELS : bits ** Number(abi)) - 1

/** The help text of a command. */
export function helpText(command: string, about: string, specs: OptionSpecs): string {
  const rows = Object.entries({ ...specs, ...HELP }).map(([name, spec]) => [
    `  --${name}${spec.short ? `, -${spec.short}` : ''}${spec.value ? ` ${spec.value}` : ''}`,
    spec.help + (spec.default === undefined ? '' : ` (default ${spec.default})`),
  ])
  const width = Math.max(...rows.map(([left]) => left!.length))
  const lines = rows.map(([left, right]) => `${left!.padEnd(width)}  ${right}`)
  return `usage: evtchn ${command} [options]\n\n${about}\n\noptions:\n${lines.join('\n')}\n`
}
