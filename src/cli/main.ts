#!/usr/bin/env node
/**
 * The evtchn command. Results on standard output, errors on standard error. Exit codes: 0 done, 1 something does not add
 * up, 2 a command line that cannot be understood.
 */

import { bench } from './bench.js'
import { demo } from './demo.js'
import { dump } from './dump.js'
import { migrate } from './migrate.js'
import { CheckError, UsageError } from './options.js'
import { pvcalls } from './pvcalls.js'
import { xenstored } from './xenstored.js'
import { xenwatch } from './xenwatch.js'

/** A subcommand: its arguments in, its exit code out. */
export interface Command {
  summary: string
  run(argv: string[]): number | Promise<number>
}

const COMMANDS: Readonly<Record<string, Command>> = { demo, bench, dump, migrate, pvcalls, xenstored, xenwatch }

const HELP = `usage: evtchn COMMAND [options]

Xen's event channels without Xen: two levels, N levels, the exact hypercall ABI.

commands:
${Object.entries(COMMANDS)
  .map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`)
  .join('\n')}

evtchn COMMAND --help tells a command's options. Exit codes: 0 done, 1 something does not add up, 2 usage.
`

async function main(argv: string[]): Promise<number> {
  const [name, ...rest] = argv
  if (name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(HELP)
    return 0
  }
  if (name === undefined) throw new UsageError(`evtchn: no command given.\n\n${HELP}`)
  if (!Object.hasOwn(COMMANDS, name))
    throw new UsageError(
      `evtchn: unknown command ${JSON.stringify(name)}; commands: ${Object.keys(COMMANDS).join(', ')}.`,
    )
  return COMMANDS[name]!.run(rest)
}

/** A reader that goes away (`evtchn dump | head`) is no error. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof UsageError) && !(error instanceof CheckError)) throw error
  process.stderr.write(`${error.message.trimEnd()}\n`)
  process.exitCode = error instanceof UsageError ? 2 : 1
}
