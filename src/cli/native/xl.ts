/** `evtchn xl …`: Xen's own xl on a host that runs. */

import { findProgram, XEN_TOOLS_HINT } from '../../node/hostd/index.js'
import { command } from '../command.js'
import { CheckError, UsageError } from '../errors.js'
import { onHost, usualHost } from './on_host.js'

const ABOUT = `Xen's own xl on the host in $EVTCHN_HOST, as evtchn run -- xl does it: its folders below /etc/xen, /var/lib/xen, /var/log/xen and /run/xen are in the host's folder. All arguments are xl's.
  $ evtchn hostd /dev/shm/host &
  $ export EVTCHN_HOST=/dev/shm/host
  $ evtchn xl list
${XEN_TOOLS_HINT}`

/** The subcommand. */
export const xl = command({
  name: 'xl',
  summary: "Xen's own xl, on a host of evtchn hostd",
  about: ABOUT,
  operands: 'ARGUMENT…',
  traced: false,
  options: {},
  async run({ program, operands }) {
    if (!operands.length) throw new UsageError(`${program}: what should xl do? See ${program} --help.`)
    const host = usualHost()
    if (!host)
      throw new CheckError(`${program}: set EVTCHN_HOST to the folder of a host; start one: evtchn hostd /dev/shm/host`)
    if (!findProgram('xl')) throw new CheckError(`${program}: xl is not installed. ${XEN_TOOLS_HINT}`)
    return onHost({ program, host, domid: 0, supervise: false, argv: ['xl', ...operands] })
  },
})
