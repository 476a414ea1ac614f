/** `evtchn run -- PROGRAM…`: a native program as if in a domain. */

import { command } from '../command.js'
import { UsageError } from '../errors.js'
import { flag, text, whole } from '../options.js'
import { onHost, usualHost } from './on_host.js'

const ABOUT = `Runs a program as if in dom0 or in another domain: it finds /dev/xen/evtchn, gntdev, gntalloc, privcmd and xenbus, and the store. Without --host a host runs for this program alone. Static programs, such as Go's, are noticed and run under a supervisor.
Nothing is isolated from anything: every process of this user may map the whole machine. This is for tests.
Exit code: the program's; 127 if it is not there, 1 if there is no host, 2 for wrong arguments.`

/** The subcommand. */
export const runProgram = command({
  name: 'run',
  summary: 'runs a native program as if in dom0 or a guest',
  about: ABOUT,
  operands: '[--] PROGRAM…',
  traced: false,
  options: {
    host: text('folder of a host that runs (evtchn hostd)', {
      value: 'DIR',
      shown: '$EVTCHN_HOST, or a host of its own',
    }),
    dom: whole('domain that the program runs in', { min: 0, max: 0x7fef, preset: 0 }),
    static: flag('run under the supervisor, whatever the program is'),
  },
  async run({ program, values, operands }) {
    if (!operands.length) throw new UsageError(`${program}: which program? See ${program} --help.`)
    const host = values.host ?? usualHost()
    return onHost({ program, host, domid: values.dom, supervise: values.static, argv: operands })
  },
})
