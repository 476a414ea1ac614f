/** `evtchn xenstored`: a xenstore daemon on a unix socket, until SIGTERM or SIGINT. */

import { parseArgs } from 'node:util'
import { defaultSocketPath, serveSocket } from '../node/xenstored_socket.js'
import { C_4_17, C_4_23, OCAML_4_17, OCAML_QUOTAS, type Profile, type Quotas, XenStored } from '../xenstore/index.js'

const HELP = `usage: evtchn xenstored [--socket PATH] [--profile NAME] [--quiet]

A xenstore daemon without Xen. Xen's tools find it by XENSTORED_PATH=PATH.

  --socket PATH    unix socket to listen on
                   (default: $XENSTORED_PATH, or $XENSTORED_RUNDIR/socket, or /var/run/xenstored/socket)
  --profile NAME   the daemon to take after: c-4.17 (default), c-4.23, ocaml-4.17
  --quiet          do not say where it listens
  --help, -h       this text

Runs until SIGTERM or SIGINT; then the socket file is gone.
Exit: 0 ended by a signal, 1 could not listen, 2 wrong arguments.
`

/** What `--profile` may be. */
export const PROFILES: Readonly<Record<string, { profile: Profile; quotas?: Quotas }>> = {
  'c-4.17': { profile: C_4_17 },
  'c-4.23': { profile: C_4_23 },
  'ocaml-4.17': { profile: OCAML_4_17, quotas: OCAML_QUOTAS },
}

/** The subcommand. */
export const xenstored = { summary: 'a xenstore daemon on a unix socket', run }

/** Runs the command; resolves to its exit code. */
export async function run(argv: string[]): Promise<number> {
  const wrong = (why: string) => {
    process.stderr.write(`evtchn xenstored: ${why}\nTry 'evtchn xenstored --help'.\n`)
    return 2
  }
  let values: { socket?: string | undefined; profile: string; quiet: boolean; help: boolean }
  try {
    values = parse(argv)
  } catch (error) {
    return wrong((error as Error).message)
  }
  if (values.help) {
    process.stdout.write(HELP)
    return 0
  }
  const chosen = Object.hasOwn(PROFILES, values.profile) ? PROFILES[values.profile] : undefined
  if (!chosen) return wrong(`no profile is named '${values.profile}'; there are ${Object.keys(PROFILES).join(', ')}`)
  const path = values.socket ?? defaultSocketPath()
  if (!path) return wrong('--socket needs a path')
  // Before it listens: a signal must not leave a socket file behind.
  const ended = signalled()
  try {
    const server = await serveSocket(new XenStored(chosen), path)
    if (!values.quiet) process.stdout.write(`listening on ${path}\n`)
    await ended
    await server.close()
    return 0
  } catch (error) {
    process.stderr.write(`evtchn xenstored: ${(error as Error).message}\n`)
    return 1
  }
}

function parse(argv: string[]) {
  return parseArgs({
    args: argv,
    options: {
      socket: { type: 'string' },
      profile: { type: 'string', default: 'c-4.17' },
      quiet: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  }).values
}

function signalled(): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      process.off('SIGTERM', done)
      process.off('SIGINT', done)
      resolve()
    }
    process.on('SIGTERM', done)
    process.on('SIGINT', done)
  })
}
