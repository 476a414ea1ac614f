/**
 * Reads the text of a dump back: ours, and those of real hosts, as they stand in a console log or a bug report:
 *
 *     (XEN) Event channel information for domain 7:
 *     (XEN) Polling vCPUs: {}
 *     (XEN)     port [p/m/s]
 *     (XEN)       15 [0/0/  -   ]: s=3 n=0 x=0 d=7 p=10
 *
 * Before `(XEN)` may stand what a journal adds, and behind it a time. Other lines among them are passed over: a console is
 * shared with everybody. Of the members behind the known ones, as an XSM label, nothing is kept.
 */

import { ECS } from '../abi/index.js'
import { text as aText } from '../check.js'
import type { ChannelRecord } from './dump.js'

/** What a dump says of one domain. */
export interface DumpedDomain {
  /** Undefined if the log begins in the middle of a domain's part. */
  readonly domid: number | undefined
  /** vCPUs that poll. */
  readonly polling: readonly number[]
  /** Its channels. Their `domid` is -1 where the domain's is not known. */
  readonly channels: readonly Readonly<ChannelRecord>[]
}

const PREFIX = /^.*?\(XEN\)(?: \[[^\]]*\])? ?/
const DOMAIN = /^Event channel information for domain (\d+):/
const POLLING = /^Polling vCPUs: \{([\d,-]*)\}/
const CHANNEL = /^\s*(\d+) \[([01])\/([01])(?:\/([^\]]*))?\]: s=(\d+) n=(\d+)(?: x=(\d+))?(.*)$/

/** The domains of a dump, in its order. A log with several dumps has each domain several times. @throws ParameterError */
export function parseDump(text: string): DumpedDomain[] {
  const domains: { domid: number | undefined; polling: number[]; channels: ChannelRecord[] }[] = []
  const begin = (domid: number | undefined) => {
    domains.push({ domid, polling: [], channels: [] })
    return domains.at(-1)!
  }
  for (const whole of aText('parseDump', 'text', text).split('\n')) {
    const line = whole.replace(/\r$/, '').replace(PREFIX, '')
    const [, domid] = DOMAIN.exec(line) ?? []
    if (domid !== undefined) begin(Number(domid))
    const [, polling] = POLLING.exec(line) ?? []
    if (polling) domains.at(-1)?.polling.push(...numbersOf(polling))
    const channel = CHANNEL.exec(line)
    if (!channel) continue
    const domain = domains.at(-1) ?? begin(undefined)
    domain.channels.push(recordOf(domain.domid ?? -1, channel))
  }
  return domains
}

/** `0-3,5`. */
const numbersOf = (ranges: string): number[] =>
  ranges.split(',').flatMap((range) => {
    const [from, to = from] = range.split('-').map(Number) as [number, number?]
    return Array.from({ length: to - from + 1 }, (_, i) => from + i)
  })

function recordOf(domid: number, match: RegExpExecArray): ChannelRecord {
  const [, port, pending, masked, selectors = '', state, notifyVcpu, consumer = '0', rest] = match
  const record: ChannelRecord = {
    domid,
    port: Number(port),
    pending: pending === '1',
    masked: masked === '1',
    selectors,
    state: Number(state),
    notifyVcpu: Number(notifyVcpu),
    consumer: Number(consumer),
  }
  const member = (letter: string): number | undefined => {
    const found = new RegExp(` ${letter}=(\\d+)`).exec(rest!)
    return found ? Number(found[1]) : undefined
  }
  // `p` is a port of a channel, and the number of a PIRQ.
  const [remoteDomid, p, virq] = [member('d'), member('p'), member('v')]
  if (remoteDomid !== undefined) record.remoteDomid = remoteDomid
  if (p !== undefined) record[record.state === ECS.PIRQ ? 'pirq' : 'remotePort'] = p
  if (virq !== undefined) record.virq = virq
  return record
}
