/** `evtchn xenstored`: a xenstore daemon on a unix socket, until SIGTERM or SIGINT. */

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { serveGuest } from '../node/xenstored_fixture.js'
import { defaultSocketPath, type SocketServer, serveSocket } from '../node/xenstored_socket.js'
import { Faults } from '../trace/index.js'
import {
  C_4_17,
  C_4_23,
  dumpListing,
  loadListing,
  type Profile,
  restoreState,
  saveState,
  XenStored,
} from '../xenstore/index.js'
import { command } from './command.js'
import { CheckError, UsageError } from './errors.js'
import { choice, flag, text, wholes } from './options.js'

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

/** How often the daemon looks at the clock: for rates of writes, events that nobody fetches, slow requests. */
const TICK_MS = 5

/** How often the state is written, if it has changed. */
const KEEP_MS = 1000

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
    load: text('a listing to begin with, as xenstore-ls prints it, with or without -f and -p, or JSON', {
      value: 'FILE',
    }),
    dump: text('where to write the store when it ends, as xenstore-ls -f -p prints it; a file named .json is JSON', {
      value: 'FILE',
    }),
    state: text(
      'keep the store over a restart: read from this file if it is there, and written each second and when it ends',
      {
        value: 'FILE',
      },
    ),
    guest: wholes('guests that are introduced, each with a socket at PATH.N, with its permissions and quotas', {
      min: 1,
      max: 0x7fef,
      preset: [],
    }),
    readonly: flag('one more socket, PATH_ro, whose clients read and watch: what would change anything is EACCES'),
    fail: text(
      'requests that are to fail, such as d7:write=ENOSPC@3x2: the third of domain 7, twice. In place of the error, cut ends the connection, and slow:MS replies MS milliseconds later',
      { value: '[dN:]REQUEST=ERRNO[@NTH][xTIMES],…' },
    ),
    quiet: flag('do not say where it listens'),
  },
  async run({ program, values, screen }) {
    const path = values.socket ?? defaultSocketPath()
    // Before it listens: a signal must not leave a socket file behind.
    const ended = signalled()
    try {
      const faults = values.fail === undefined ? undefined : readFaults(program, values.fail)
      const store = new XenStored({
        ...PROFILES[values.profile],
        onMemoryReport: report,
        onLog: log,
        ...(faults && { faults }),
        now: () => performance.now(),
      })
      const { state } = values
      if (state !== undefined && existsSync(state)) restoreState(store, readFileSync(state))
      if (values.load !== undefined) loadListing(store, readFileSync(values.load, 'utf8'))
      const servers: SocketServer[] = [await serveSocket(store, path)]
      const ticking = setInterval(() => void (store.nextTick <= performance.now() && store.tick()), TICK_MS)
      const keeping = state === undefined ? undefined : keep(store, state)
      try {
        if (values.readonly) servers.push(await serveSocket(store, `${path}_ro`, { readonly: true }))
        for (const domid of values.guest) servers.push(await serveGuest(store, path, domid))
        if (!values.quiet) screen.raw(`listening on ${servers.map((server) => server.path).join(', ')}`)
        await ended
      } finally {
        clearInterval(ticking)
        clearInterval(keeping)
        await Promise.all(servers.map((server) => server.close()))
      }
      if (state !== undefined) writeWhole(state, saveState(store))
      const { dump } = values
      if (dump !== undefined)
        writeFileSync(dump, dumpListing(store, { form: dump.endsWith('.json') ? 'json' : 'full' }))
      return 0
    } catch (error) {
      if (error instanceof UsageError) throw error
      throw new CheckError(`${program}: ${(error as Error).message}`)
    }
  },
})

/** Faults as the command line spells them. @throws UsageError */
function readFaults(program: string, specs: string): Faults {
  try {
    return Faults.parse(...specs.split(','))
  } catch (error) {
    throw new UsageError(`${program}: --fail: ${(error as Error).message}`)
  }
}

/** A file is the old one or the new one, whenever this process ends. */
function writeWhole(file: string, bytes: Uint8Array): void {
  const fresh = `${file}.new`
  writeFileSync(fresh, bytes)
  renameSync(fresh, file)
}

/** Keeps the state's file up to date, so that a daemon that is killed loses a second at most. */
function keep(store: XenStored, file: string): NodeJS.Timeout {
  let last: Uint8Array | undefined
  return setInterval(() => {
    const bytes = saveState(store)
    if (last && Buffer.compare(last, bytes) === 0) return
    last = bytes
    writeWhole(file, bytes)
  }, KEEP_MS)
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
