/** `evtchn hostd DIR`: a host for native programs, until SIGTERM or SIGINT. */

import { DESIGNS, type Design } from '../../dom0/index.js'
import { NativeHost, startDaemons } from '../../node/hostd/index.js'
import { command } from '../command.js'
import { CheckError, UsageError } from '../errors.js'
import { choice, flag, text, whole } from '../options.js'
import { signalled } from './signalled.js'

const ABOUT = `A host for native programs: Xen's own tools, daemons and libraries run on it as ordinary processes (evtchn run, evtchn xl). DIR gets its sockets and the machine's memory; a folder on a tmpfs is best, such as /dev/shm/host.
Nothing is isolated from anything: every process of this user may map the whole machine. This is for tests.
Where Xen's tools are installed, dom0 is set up by xen-init-dom0, and xenconsoled runs. A C compiler is needed the first time.
Exit codes: 0 ended by a signal, 1 could not start, 2 wrong arguments.`

/** `1,2` as numbers. @throws UsageError */
function domains(given: string | undefined): number[] {
  if (given === undefined) return []
  const numbers = given.split(',').map(Number)
  if (numbers.some((each) => !Number.isInteger(each) || each < 1 || each >= 0x7ff0))
    throw new UsageError(
      `evtchn hostd: --dom is ${JSON.stringify(given)}; allowed: numbers from 1 to 32751, with commas between.`,
    )
  return numbers
}

/** The subcommand. */
export const hostd = command({
  name: 'hostd',
  summary: "a host for Xen's own programs: xl, daemons, libraries",
  about: ABOUT,
  operands: 'DIR',
  interleaved: true,
  traced: false,
  options: {
    store: choice<'own' | 'none'>('whose store serves: the library’s, or none, for a daemon that is run on the host', {
      of: ['own', 'none'],
      preset: 'own',
    }),
    dom: text('domains with a kernel of the host, for programs that run "in" them', { value: 'N,…' }),
    design: choice<Design>('how watches of dom0’s kernel get to their callbacks', { of: DESIGNS, preset: 'single' }),
    'guest-memory': whole('MiB up to which a domain of xl may ask', { min: 1, max: 2048, value: 'MIB', preset: 64 }),
    trace: flag('print each request of a program and its result, on standard error'),
    quiet: flag('do not say where it runs'),
  },
  async run({ program, values, operands, screen }) {
    const [dir, ...more] = operands
    if (dir === undefined || more.length)
      throw new UsageError(`${program}: one folder is needed. See ${program} --help.`)
    const ended = signalled()
    const say = (line: string) => void process.stderr.write(`${line}\n`)
    try {
      const host = await NativeHost.start({
        dir,
        store: values.store,
        domains: domains(values.dom),
        guestFrames: values['guest-memory'] * 256,
        onNote: (line) => say(`${program}: ${line}`),
        onError: (error, where) => say(`${program}: ${where}: ${(error as Error).stack ?? error}`),
        ...(values.design !== 'single' && { design: values.design }),
        ...(values.trace && { onTrace: say }),
      })
      if (host.machine.unshared)
        say(`${program}: no pages are shared: ${host.machine.unshared}; events and xenbus work`)
      if (values.store === 'own') await startDaemons(host)
      if (!values.quiet) screen.raw(`a host runs in ${dir}`)
      await ended
      await host.close()
      return 0
    } catch (error) {
      if (error instanceof UsageError) throw error
      throw new CheckError(`${program}: ${(error as Error).message}`)
    }
  },
})
