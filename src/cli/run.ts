/** The evtchn command as a function: which subcommand, and what there is without one. */

import { bench } from './bench.js'
import { type Command, finish, helpOf, helpWidth, runCommand } from './command.js'
import { completion } from './completion.js'
import { demo } from './demo/index.js'
import { dump } from './dump.js'
import { packageVersion } from './envelope.js'
import { didYouMean, UsageError } from './errors.js'
import { migrate } from './migrate/index.js'
import { hostd } from './native/hostd.js'
import { runProgram } from './native/run_program.js'
import { xl } from './native/xl.js'
import { xlStory } from './native/xl_story.js'
import { pvcalls } from './pvcalls/index.js'
import { register } from './register/index.js'
import { trace } from './trace.js'
import { xenstored } from './xenstored.js'
import { xenwatch } from './xenwatch/index.js'

const COMMANDS: readonly Command[] = [
  demo,
  bench,
  completion(() => COMMANDS),
  dump,
  hostd,
  migrate,
  pvcalls,
  register,
  runProgram,
  trace,
  xenstored,
  xenwatch,
  xl,
  xlStory,
]

const HELP = `usage: evtchn COMMAND [options]

Xen's event channels without Xen: two levels, N levels, the exact hypercall ABI.

commands:
${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(11)}${summary}`).join('\n')}

evtchn help COMMAND, or evtchn COMMAND --help, tells a command's options.
evtchn --version prints the version.
Exit codes: 0 done, 1 a result is inconsistent, 2 usage.
`

function find(name: string): Command {
  const found = COMMANDS.find((each) => each.name === name)
  if (found) return found
  const names = COMMANDS.map((each) => each.name)
  const near = didYouMean(name, [...names, 'help'])
  throw new UsageError(`evtchn: unknown command ${JSON.stringify(name)}${near || `; commands: ${names.join(', ')}.`}`)
}

async function main([name, ...rest]: readonly string[]): Promise<number> {
  if (name === undefined) throw new UsageError(`evtchn: no command given.\n\n${HELP}`)
  if (name === '--version' || name === '-V') process.stdout.write(`evtchn ${packageVersion()}\n`)
  else if (name === '--help' || name === '-h' || (name === 'help' && !rest.length)) process.stdout.write(HELP)
  else if (name === 'help') process.stdout.write(helpOf(find(rest[0]!), helpWidth()))
  // Everything behind `evtchn xl` is xl's own.
  else if (name === 'xl' && rest.length) return runCommand(xl, ['--', ...rest])
  else return runCommand(find(name), rest)
  return 0
}

/** Runs a command line; resolves to its exit code. */
export const run = (argv: readonly string[]): Promise<number> => finish(() => main(argv))
