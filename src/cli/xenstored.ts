/** `evtchn xenstored`: a xenstore daemon on a unix socket, until SIGTERM or SIGINT. */

import { readFileSync, writeFileSync } from 'node:fs'
import { defaultSocketPath, serveSocket } from '../node/xenstored_socket.js'
import { C_4_17, C_4_23, dumpListing, loadListing, type Profile, XenStored } from '../xenstore/index.js'
import { command } from './command.js'
import { CheckError } from './errors.js'
import { choice, flag, text } from './options.js'

/** What `--profile` may be. */
export const PROFILES: Readonly<Record<string, { profile: Profile }>> = {
  'c-4.17': { profile: C_4_17 },
  'c-4.23': { profile: C_4_23 },
}

/** CONTROL memreport: into the file that was asked for, else to stderr. */
function report(text: string, file: string | undefined): void {
  if (file === undefined) process.stderr.write(text)
  else writeFileSync(file, text)
}

/** CONTROL log and print: to stderr. */
const log = (line: string) => void process.stderr.write(`${line}\n`)

/** The subcommand. */
export const xenstored = command({
  name: 'xenstored',
  summary: 'a xenstore daemon on a unix socket',
  about:
    "A xenstore daemon without Xen. Xen's tools find it by XENSTORED_PATH=PATH. Runs until SIGTERM or SIGINT; then the socket file is gone.\nExit codes: 0 ended by a signal, 1 could not listen, 2 wrong arguments.",
  options: {
    socket: text('unix socket to listen on', {
      value: 'PATH',
      shown: '$XENSTORED_PATH, or $XENSTORED_RUNDIR/socket, or /var/run/xenstored/socket',
    }),
    profile: choice('the daemon to behave like', { of: Object.keys(PROFILES), preset: 'c-4.17', value: 'NAME' }),
    load: text('a listing to begin with, as xenstore-ls prints it, with or without -f and -p', { value: 'FILE' }),
    dump: text('where to write the store when it ends, as xenstore-ls -f -p prints it', { value: 'FILE' }),
    quiet: flag('do not say where it listens'),
  },
  async run({ program, values, screen }) {
    const path = values.socket ?? defaultSocketPath()
    // Before it listens: a signal must not leave a socket file behind.
    const ended = signalled()
    try {
      const store = new XenStored({ ...PROFILES[values.profile], onMemoryReport: report, onLog: log })
      if (values.load !== undefined) loadListing(store, readFileSync(values.load, 'utf8'))
      const server = await serveSocket(store, path)
      if (!values.quiet) screen.raw(`listening on ${path}`)
      await ended
      await server.close()
      if (values.dump !== undefined) writeFileSync(values.dump, dumpListing(store))
      return 0
    } catch (error) {
      throw new CheckError(`${program}: ${(error as Error).message}`)
    }
  },
})

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
