/** What `--json` prints: one envelope for all commands and benchmarks. */

import { readFileSync } from 'node:fs'
import { arch, cpus, release, type } from 'node:os'

/** Where a result was made. */
export interface Machine {
  readonly cpu: string
  readonly processors: number
  readonly system: string
  readonly node: string
}

/** The envelope. */
export interface Envelope {
  /** Of this form: a reader refuses another. */
  readonly format: 1
  /** Of the package. */
  readonly version: string
  /** `evtchn demo`, `bench:abis`. */
  readonly command: string
  /** The options, defaults filled in. */
  readonly options: Readonly<Record<string, unknown>>
  readonly machine: Machine
  /** Of the random choices; absent where there are none. */
  readonly seed?: number
  /** What is inconsistent; absent if nothing is. The exit code is 1 then. */
  readonly problems?: readonly string[]
  readonly result: unknown
}

/** The version of this package. */
export function packageVersion(): string {
  // From dist/cli, and from build/bench/src/cli.
  for (const up of ['../../package.json', '../../../../package.json'])
    try {
      return (JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version: string }).version
    } catch {}
  return 'unknown'
}

/** This machine. */
export function machine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() || 'unknown processor',
    processors: cpus().length,
    system: `${type()} ${release()} ${arch()}`,
    node: process.version,
  }
}

/** The machine in a line: what a time on a screen needs beside it. */
export const machineLine = ({ cpu, processors, node }: Machine): string =>
  `${cpu}, ${processors} processor${processors === 1 ? '' : 's'}, Node ${node}`

/** Options that say where output goes, and are no part of what was measured. */
const SINKS = ['json', 'csv', 'markdown', 'svg', 'trace']

/** The envelope as text. */
export function envelopeText(
  command: string,
  values: Readonly<Record<string, unknown>>,
  result: unknown,
  problems: readonly string[] = [],
): string {
  const options = Object.fromEntries(
    Object.entries(values).filter(([name, value]) => !SINKS.includes(name) && value !== undefined),
  )
  const envelope: Envelope = {
    format: 1,
    version: packageVersion(),
    command,
    options,
    machine: machine(),
    ...(typeof values.seed === 'number' && { seed: values.seed }),
    ...(problems.length && { problems }),
    result,
  }
  return `${JSON.stringify(envelope, null, 2)}\n`
}
