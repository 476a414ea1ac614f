/** `evtchn dump`: debug key 'e' on a host made to order, while others send. */

import { type Bits, DOMID_SELF, EVTCHN_FIFO_WORDS_PER_PAGE } from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import { newDumpStats } from '../dump/dump.js'
import { GuestKernel } from '../guest/index.js'
import { SOFTIRQ } from '../host/softirq.js'
import { Hypervisor } from '../hypervisor.js'
import { realClock } from '../node/clock.js'
import {
  ABIS,
  choice,
  type Form,
  formOf,
  helpText,
  mostChannels,
  type OptionSpecs,
  parse,
  UsageError,
  whole,
} from './options.js'
import { count, duration } from './screen.js'

const SPECS: OptionSpecs = {
  channels: { type: 'string', value: 'N', help: 'channels between dom0 and the guest', default: '16' },
  levels: { type: 'string', value: '2|3|4', help: 'levels of dom0 and the guest', default: '3' },
  abi: { type: 'string', value: '2|3|4|fifo', help: 'the same, or FIFO queues; beside it --levels counts for nothing' },
  bits: { type: 'string', value: '32|64', help: 'word width of the guest', default: '64' },
  slots: { type: 'string', value: 'N', help: 'slots of the port table per hold of the event lock', default: '64' },
  domid: { type: 'string', value: 'D', help: 'dump only domain 0 or 1' },
  json: { type: 'boolean', help: 'one JSON record a channel instead of text' },
}
const ABOUT = `Makes dom0 and one guest with connected channels, sends on some of them, and prints the state of every
channel as Xen's debug key 'e' does. A line about lock holds and softirqs goes to standard error.`

/** The subcommand. */
export const dump = {
  summary: "print the event channels of a host made to order, as Xen's debug key 'e'",
  run(argv: string[]): number {
    const values = parse('dump', SPECS, argv)
    if (values.help) {
      process.stdout.write(helpText('dump', ABOUT, SPECS))
      return 0
    }
    const bits = Number(choice('dump', values, 'bits', ['32', '64'])) as Bits
    const abi =
      values.abi === undefined ? choice('dump', values, 'levels', ['2', '3', '4']) : choice('dump', values, 'abi', ABIS)
    const levels = formOf(abi)
    const most = mostChannels(abi, bits)
    const channels = whole('dump', values, 'channels', 0, Math.min(most, 1_000_000))
    const slotsPerHold = whole('dump', values, 'slots', 1, 2 ** 25)
    const domid = values.domid === undefined ? undefined : whole('dump', values, 'domid', 0, 1)
    const xen = makeHost(bits, levels, channels)
    const stats = newDumpStats()
    xen.softirqs.raise(SOFTIRQ.TIMER)
    const pause = () => {
      xen.softirqs.processPending()
      xen.softirqs.raise(SOFTIRQ.TIMER)
    }
    if (values.json) {
      for (const item of xen.dumpItems({ domid, slotsPerHold, stats, pause }))
        if (item.kind === 'channel') process.stdout.write(`${JSON.stringify(item.record)}\n`)
    } else for (const line of xen.dump({ domid, slotsPerHold, stats, pause })) process.stdout.write(`${line}\n`)
    process.stderr.write(
      `${count(stats.channels)} channels, ${count(stats.holds)} holds of the event lock, at most ${stats.mostSlots} slots ` +
        `and ${duration(stats.longestHoldNs)} each; ${count(xen.softirqs.stats.served)} softirqs served\n`,
    )
    return 0
  },
}

function makeHost(bits: Bits, levels: Form, channels: number): Hypervisor {
  const xen = Hypervisor.create({ clock: realClock })
  const frames = 2048
  const dom0 = xen.createDomain({ domid: 0, frames })
  const guest = xen.createDomain({ domid: 1, frames, bits, maxEvtchnPort: -1 })
  for (const [domain, wanted] of [
    [dom0, levels],
    [guest, levels],
  ] as const) {
    const kernel = GuestKernel.boot(xen.platform(domain), { levels: wanted })
    if (kernel.levels !== wanted)
      throw new UsageError(`evtchn dump: ${wanted} cannot be had: ${JSON.stringify(kernel.attempts)}`)
  }
  // Nobody binds handlers here, for which the driver would grow its array: the pages are given at once.
  if (levels === 'fifo') for (const domain of [dom0, guest]) givePages(domain, channels)
  for (let i = 0; i < channels; i++) {
    const { port } = guest.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 })
    const { local_port } = dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port! })
    if (i % 3 === 0) dom0.eventChannelOp('send', { port: local_port! })
  }
  return xen
}

/** Pages of the event array for `channels` ports, from the end of the domain's RAM. */
function givePages(domain: Domain, channels: number): void {
  const pages = Math.ceil((channels + 1) / EVTCHN_FIFO_WORDS_PER_PAGE)
  for (let i = 1; i <= pages; i++) domain.eventChannelOp('expand_array', { array_gfn: domain.memory.frames - i })
}
