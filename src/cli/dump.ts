/** `evtchn dump`: debug key 'e' on a host with the given sizes, while others send. */

import { readFileSync } from 'node:fs'
import { type Bits, DOMID_SELF, ECS, EVTCHN_FIFO_WORDS_PER_PAGE, fullTree } from '../abi/index.js'
import { type ChannelRecord, type Domain, GuestKernel, Hypervisor, newDumpStats, parseDump, SOFTIRQ } from '../index.js'
import { realClock } from '../node/clock.js'
import { ABIS, abiName, type Form, formOf, hasAbi, mostChannels } from './abi.js'
import { command, type Report } from './command.js'
import { CheckError, UsageError } from './errors.js'
import { count, duration } from './format.js'
import { COMMON, choice, flag, notAllowed, text, whole, within } from './options.js'
import type { Screen } from './screen.js'

/** A JSON text of more channels than this does not fit a string of the engine. */
const MOST_IN_JSON = 1_000_000

/** The subcommand. */
export const dump = command({
  name: 'dump',
  summary: "print the event channels of a host, as Xen's debug key 'e' does",
  about:
    "Makes dom0 and one guest with the given number of connected channels, sends on some of them, and prints the state of every channel as Xen's debug key 'e' does. A line about lock holds and softirqs goes to standard error.",
  options: {
    channels: whole('channels of the guest, with dom0 as far as that has room', {
      min: 0,
      max: fullTree(32, 5) - 1,
      preset: 16,
    }),
    abi: choice('levels of dom0 and the guest, or FIFO queues', { of: ABIS, preset: '3' }),
    bits: choice('word width of the guest', { of: ['32', '64'], preset: '64' }),
    slots: whole('slots of the port table per hold of the event lock', { min: 1, max: 2 ** 25, preset: 64 }),
    domid: whole('dump only domain 0 or 1', { min: 0, max: 1, value: '0|1' }),
    xen: flag('begin each line with (XEN), as on the console of a real host'),
    read: text('instead: print the channels of a dump in a file, of a real host, too', { value: 'FILE' }),
    json: COMMON.json,
  },
  run({ program, values, screen }) {
    if (values.read !== undefined) return readBack(program, values.read, screen)
    const prefix = values.xen ? '(XEN) ' : ''
    const bits = Number(values.bits) as Bits
    const { abi, domid, slots: slotsPerHold } = values
    if (!hasAbi(abi, bits)) throw notAllowed(program, 'abi', abi, '2, 3, 4, fifo with --bits 64')
    const most = values.json ? Math.min(mostChannels(abi, bits), MOST_IN_JSON) : mostChannels(abi, bits)
    const channels = within(program, 'channels', values.channels, 0, most)
    const xen = makeHost(bits, formOf(abi), channels)
    const stats = newDumpStats()
    xen.softirqs.raise(SOFTIRQ.TIMER)
    const pause = () => {
      xen.softirqs.processPending()
      xen.softirqs.raise(SOFTIRQ.TIMER)
    }
    const options = { domid, slotsPerHold, stats, pause }
    const records: ChannelRecord[] = []
    if (values.json) {
      for (const item of xen.dumpItems(options)) if (item.kind === 'channel') records.push(item.record)
    } else for (const line of xen.dump(options)) screen.raw(prefix + line)
    process.stderr.write(
      `${count(stats.channels)} channels, ${count(stats.holds)} holds of the event lock, at most ${stats.mostSlots} ` +
        `slots and ${duration(stats.longestHoldNs)} each; ${count(xen.softirqs.stats.served)} softirqs served\n`,
    )
    return { result: { channels: records } }
  },
})

/** A dump from a file, as a table for people. */
function readBack(program: string, file: string, screen: Screen): Report {
  let domains: ReturnType<typeof parseDump>
  try {
    domains = parseDump(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new CheckError(`${program}: ${JSON.stringify(file)} cannot be read: ${(error as Error).message}`)
  }
  if (!domains.length) throw new CheckError(`${program}: ${JSON.stringify(file)} holds no dump of event channels`)
  const names = Object.fromEntries(Object.entries(ECS).map(([name, state]) => [state, name.toLowerCase()]))
  for (const { domid, polling, channels } of domains) {
    screen.heading(`${domid === undefined ? 'A domain' : `d${domid}`}: ${count(channels.length)} channels`)
    if (polling.length) screen.line(`polling: vCPU ${polling.join(', ')}`)
    const rows = channels.map((each) => [
      String(each.port),
      [each.pending && 'pending', each.masked && 'masked'].filter(Boolean).join(', ') || undefined,
      names[each.state] ?? String(each.state),
      `v${each.notifyVcpu}`,
      peerOf(each),
    ])
    screen.table(['port', 'bits', 'state', 'notifies', 'peer'], rows)
  }
  return { result: { domains } }
}

function peerOf({ remoteDomid, remotePort, virq, pirq }: ChannelRecord): string | undefined {
  if (remoteDomid !== undefined) return `d${remoteDomid}${remotePort === undefined ? '' : ` port ${remotePort}`}`
  if (virq !== undefined) return `VIRQ ${virq}`
  return pirq === undefined ? undefined : `PIRQ ${pirq}`
}

function makeHost(bits: Bits, levels: Form, channels: number): Hypervisor {
  const xen = Hypervisor.create({ clock: realClock, maxLeafPages: 1024 })
  const frames = levels === 5 ? 4096 : 2048
  const dom0 = xen.createDomain({ domid: 0, frames })
  const guest = xen.createDomain({ domid: 1, frames, bits, maxEvtchnPort: Infinity })
  // dom0 has 64-bit words, four levels at most.
  for (const [domain, wanted] of [
    [dom0, levels === 5 ? 4 : levels],
    [guest, levels],
  ] as const) {
    const kernel = GuestKernel.boot(xen.platform(domain), { levels: wanted })
    if (kernel.levels !== wanted)
      throw new UsageError(`evtchn dump: ${abiName(wanted)} cannot be had: ${JSON.stringify(kernel.attempts)}`)
  }
  // Nobody binds handlers here, for which the driver would grow its array: the pages are given at once.
  if (levels === 'fifo') for (const domain of [dom0, guest]) givePages(domain, channels)
  const room = levels === 5 ? fullTree(64, 4) - 1 : channels
  for (let i = 0; i < channels; i++) {
    const { port } = guest.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 })
    // Port 0 is never used: a dom0 of four levels has one channel fewer than the tree.
    if (i >= room) continue
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
