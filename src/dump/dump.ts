/**
 * Debug key 'e': the state of every event channel (spec 5.2, nlevel.md section 6), without the fault of the original,
 * which holds the event lock over a domain's whole table while it prints (EC-dump-10).
 *
 *     lock ─ copy up to 64 slots into a batch ─ unlock ─ format and hand out lines ─ softirqs ─ lock …
 *
 * Between two holds anything may happen to the table, so each hold begins anew at "the next used port from here on"
 * (NL-dump-3): a channel that stays open is printed once, in ascending order, whatever others do. The search goes
 * through the table's summary, so the cost follows the open channels and not the size of the table (NL-dump-4).
 */

import BitSet from 'bitset'
import { DOMID_FIRST_RESERVED, ECS } from '../abi/index.js'
import { options as checkOptions, func, object, within } from '../check.js'
import type { Domain } from '../domain/domain.js'
import { Turns } from './turns.js'

/** One channel, as copied under the lock. */
export interface ChannelRecord {
  domid: number
  port: number
  pending: boolean
  masked: boolean
  /** Column S: a digit per selector level, n-1 to 1; `?` where the vCPU has no active selectors. FIFO: EC-dump-7. */
  selectors: string
  /** ECS_* */
  state: number
  notifyVcpu: number
  consumer: number
  remoteDomid?: number
  remotePort?: number
  pirq?: number
  virq?: number
}

/** What a dump tells about itself. */
export interface DumpStats {
  /** Channels handed out. */
  channels: number
  /** Times the event lock was taken. */
  holds: number
  /** Most slots of the table that one hold looked at; never above `slotsPerHold`. */
  mostSlots: number
  longestHoldNs: number
}

/** Options of a dump. */
export interface DumpOptions {
  /** One domain; default all, by ascending id. */
  domid?: number | undefined
  /** Slots of the port table, free ones included, that one hold of the lock may cover. Default 64. */
  slotsPerHold?: number | undefined
  /** Called after every hold, with no lock held: the place for process_pending_softirqs. */
  pause?: (() => void) | undefined
  /** Filled in while the dump runs. */
  stats?: DumpStats | undefined
}

/** What a dump needs of the hypervisor. */
export interface DumpWorld {
  /** The domain with the lowest number above this one. */
  domainAfter(domid: number): Domain | undefined
  domainById(domid: number): Domain | undefined
  nowNs(): number
}

/** Records of all channels: `begin` and `end` of each domain between them. */
export type DumpItem =
  | { kind: 'domain'; domid: number; polling: string }
  | { kind: 'channel'; record: ChannelRecord }
  | { kind: 'died'; domid: number; at: number }

/** A fresh set of statistics. */
export const newDumpStats = (): DumpStats => ({ channels: 0, holds: 0, mostSlots: 0, longestHoldNs: 0 })

/** Options of a dump as given, after their names and types were checked. @throws ParameterError */
export function checkDumpOptions(options: DumpOptions): DumpOptions {
  return checkOptions('dump', options, {
    domid: within(0, DOMID_FIRST_RESERVED - 1),
    slotsPerHold: within(1, 2 ** 25),
    pause: func,
    stats: object,
  })
}

/** Walks domains and channels. Control is with the caller only while no lock is held. */
export function* dumpItems(world: DumpWorld, options: DumpOptions = {}): Generator<DumpItem, void, void> {
  const { slotsPerHold: slots = 64, stats = newDumpStats() } = checkDumpOptions(options)
  let last = -1
  for (;;) {
    const domain = nextDomain(world, options.domid, last)
    if (!domain) return
    last = domain.domid
    yield { kind: 'domain', domid: domain.domid, polling: pollingVcpus(domain) }
    yield* dumpDomain(world, domain, slots, stats, options.pause)
  }
}

/** The domain with the lowest id above `last`: looked up anew, for domains come and go between two steps. */
function nextDomain(world: DumpWorld, only: number | undefined, last: number): Domain | undefined {
  if (only !== undefined) return last < 0 ? world.domainById(only) : undefined
  return world.domainAfter(last)
}

function* dumpDomain(
  world: DumpWorld,
  domain: Domain,
  slots: number,
  stats: DumpStats,
  pause: (() => void) | undefined,
): Generator<DumpItem, void, void> {
  const batch: ChannelRecord[] = []
  // A domain that is dead when its part begins is dumped as it is, as in Xen.
  const { dying } = domain
  for (let port = 1; port >= 0; ) {
    // Holding the object, not the id: a new domain under this id is another object (NL-dump-3).
    if (domain.dying !== dying) {
      yield { kind: 'died', domid: domain.domid, at: port }
      return
    }
    batch.length = 0
    port = holdAndCopy(world, domain, port, slots, stats, batch)
    for (const record of batch) {
      stats.channels++
      yield { kind: 'channel', record }
    }
    pause?.()
  }
}

/** One hold of the lock: copies the used ones among up to `slots` slots; returns where to continue, -1 at the end. */
function holdAndCopy(
  world: DumpWorld,
  domain: Domain,
  from: number,
  slots: number,
  stats: DumpStats,
  batch: ChannelRecord[],
): number {
  const { ports, eventLock } = domain
  eventLock.acquireRead()
  const startNs = world.nowNs()
  const first = ports.nextUsed(from)
  let looked = 0
  let next = first
  while (next >= 0 && next < first + slots) {
    looked = next - first + 1
    if (ports.isValid(next) && ports.state(next) !== ECS.FREE) batch.push(copyChannel(domain, next))
    next = ports.nextUsed(next + 1)
  }
  stats.longestHoldNs = Math.max(stats.longestHoldNs, world.nowNs() - startNs)
  eventLock.releaseRead()
  stats.holds++
  stats.mostSlots = Math.max(stats.mostSlots, looked)
  return next
}

function copyChannel(domain: Domain, port: number): ChannelRecord {
  const { ports } = domain
  const state = ports.state(port)
  const usable = ports.isUsable(port)
  const record: ChannelRecord = {
    domid: domain.domid,
    port,
    pending: usable && domain.portOps.isPending(port),
    masked: !usable || domain.portOps.isMasked(port),
    selectors: domain.portOps.selectorDigits(port),
    state,
    notifyVcpu: ports.notifyVcpu(port),
    consumer: ports.consumer(port),
  }
  if (state === ECS.UNBOUND || state === ECS.INTERDOMAIN) record.remoteDomid = ports.remoteDomid(port)
  if (state === ECS.INTERDOMAIN) record.remotePort = ports.remotePort(port)
  if (state === ECS.PIRQ) record.pirq = ports.irq(port)
  if (state === ECS.VIRQ) record.virq = ports.irq(port)
  return record
}

/** vCPUs that poll, as ranges: `0-3,5` (EC-dump-1). */
function pollingVcpus(domain: Domain): string {
  const mask = new BitSet()
  for (const vcpu of domain.vcpus) if (vcpu.polling) mask.set(vcpu.vcpuId, 1)
  return ranges(mask.toArray())
}

function ranges(numbers: readonly number[]): string {
  const parts: string[] = []
  for (let i = 0; i < numbers.length; ) {
    let end = i
    while (numbers[end + 1] === numbers[end]! + 1) end++
    parts.push(end > i ? `${numbers[i]}-${numbers[end]}` : `${numbers[i]}`)
    i = end + 1
  }
  return parts.join(',')
}

/** A line of the port table (EC-dump-3, -4). */
export function formatChannel(record: ChannelRecord): string {
  const port = String(record.port).padStart(4)
  const flags = `[${record.pending ? 1 : 0}/${record.masked ? 1 : 0}/${record.selectors}]`
  let line = `    ${port} ${flags}: s=${record.state} n=${record.notifyVcpu} x=${record.consumer}`
  if (record.remoteDomid !== undefined) line += ` d=${record.remoteDomid}`
  if (record.remotePort !== undefined) line += ` p=${record.remotePort}`
  if (record.pirq !== undefined) line += ` p=${record.pirq} i=${record.pirq}`
  if (record.virq !== undefined) line += ` v=${record.virq}`
  return line
}

/** First line of the debug key's output. */
export const DUMP_TITLE = "'e' pressed -> dumping event-channel info"

/** The text of one item, without line feeds. */
export function formatItem(item: DumpItem): string[] {
  switch (item.kind) {
    case 'domain':
      return [
        `Event channel information for domain ${item.domid}:`,
        `Polling vCPUs: {${item.polling}}`,
        '    port [p/m/s]',
      ]
    case 'channel':
      return [formatChannel(item.record)]
    case 'died':
      return [`    domain ${item.domid} died during the dump, which ends at port ${item.at}`]
  }
}

/** A dump as lines. */
export function* dumpLines(items: Iterable<DumpItem>): Generator<string, void, void> {
  yield DUMP_TITLE
  for (const item of items) yield* formatItem(item)
}

/** The same, with a turn of the event loop after every hold; `begin` starts the dump with the pause that it is given. */
export async function* dumpInTurns(
  begin: (pause: () => void) => Iterable<DumpItem>,
  pause: () => void,
): AsyncGenerator<string, void, void> {
  const turns = new Turns()
  let paused = false
  const marked = () => {
    pause()
    paused = true
  }
  try {
    yield DUMP_TITLE
    for (const item of begin(marked)) {
      if (paused) await turns.next()
      paused = false
      yield* formatItem(item)
    }
  } finally {
    turns.close()
  }
}
