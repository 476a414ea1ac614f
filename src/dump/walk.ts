/**
 * The walk of a dump: domains by ascending number, and the channels of each, one hold of the event lock after another.
 *
 *     lock ─ copy up to 64 slots into rows ─ unlock ─ the caller takes them ─ softirqs ─ lock …
 *
 * Between two holds anything may happen to the table, so each hold begins anew at "the next used port from here on"
 * (NL-dump-3): a channel that stays open is visited once, in ascending order, whatever others do. The search goes
 * through the table's summary, so the cost follows the open channels and not the size of the table (NL-dump-4).
 *
 * The rows are used again in the next hold: a dump of a million channels makes as many rows as one hold has slots.
 */

import BitSet from 'bitset'
import { DOMID_FIRST_RESERVED, ECS } from '../abi/index.js'
import { options as checkOptions, func, object, within } from '../check.js'
import type { Domain } from '../domain/domain.js'

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

/** No such member. */
export const NONE = -1

/** One channel, as copied under the lock. What a channel of its state does not have is NONE. */
export class Row {
  port = 0
  pending = false
  masked = false
  selectors = ''
  state = 0
  notifyVcpu = 0
  consumer = 0
  remoteDomid = NONE
  remotePort = NONE
  /** Number of the PIRQ or VIRQ, as the state says. */
  irq = NONE

  copy(domain: Domain, port: number): void {
    const { ports, portOps } = domain
    const state = ports.state(port)
    const usable = ports.isUsable(port)
    this.port = port
    this.pending = usable && portOps.isPending(port)
    this.masked = !usable || portOps.isMasked(port)
    this.selectors = portOps.selectorDigits(port)
    this.state = state
    this.notifyVcpu = ports.notifyVcpu(port)
    this.consumer = ports.consumer(port)
    this.remoteDomid = state === ECS.UNBOUND || state === ECS.INTERDOMAIN ? ports.remoteDomid(port) : NONE
    this.remotePort = state === ECS.INTERDOMAIN ? ports.remotePort(port) : NONE
    this.irq = state === ECS.PIRQ || state === ECS.VIRQ ? ports.irq(port) : NONE
  }
}

/** What one step of the walk found: a domain's begin, the channels of a hold, a domain that died meanwhile. */
export type Step =
  | { readonly kind: 'domain'; readonly domid: number; readonly polling: string }
  | Hold
  | { readonly kind: 'died'; readonly domid: number; readonly at: number }

/** The channels of one hold: the first `count` rows, valid until the next step. */
export interface Hold {
  readonly kind: 'hold'
  domid: number
  readonly rows: Row[]
  count: number
}

/** Walks domains and channels. Control is with the caller only while no lock is held. */
export function* walk(world: DumpWorld, options: DumpOptions, stats: DumpStats): Generator<Step, void, void> {
  const { slotsPerHold: slots = 64 } = options
  const hold: Hold = { kind: 'hold', domid: 0, rows: [], count: 0 }
  let last = -1
  for (;;) {
    const domain = nextDomain(world, options.domid, last)
    if (!domain) return
    last = domain.domid
    yield { kind: 'domain', domid: domain.domid, polling: pollingVcpus(domain) }
    hold.domid = domain.domid
    // A domain that is dead when its part begins is dumped as it is, as in Xen.
    const { dying } = domain
    for (let port = 1; port >= 0; ) {
      // Holding the object, not the id: a new domain under this id is another object (NL-dump-3).
      if (domain.dying !== dying) {
        yield { kind: 'died', domid: domain.domid, at: port }
        break
      }
      port = holdAndCopy(world, domain, port, slots, stats, hold)
      if (hold.count) yield hold
      options.pause?.()
    }
  }
}

/** The domain with the lowest id above `last`: looked up anew, for domains come and go between two steps. */
function nextDomain(world: DumpWorld, only: number | undefined, last: number): Domain | undefined {
  if (only !== undefined) return last < 0 ? world.domainById(only) : undefined
  return world.domainAfter(last)
}

/** One hold of the lock: copies the used ones among up to `slots` slots; returns where to continue, -1 at the end. */
function holdAndCopy(
  world: DumpWorld,
  domain: Domain,
  from: number,
  slots: number,
  stats: DumpStats,
  hold: Hold,
): number {
  const { ports, eventLock } = domain
  const { rows } = hold
  hold.count = 0
  eventLock.acquireRead()
  const startNs = world.nowNs()
  const first = ports.nextUsed(from)
  let looked = 0
  let next = first
  while (next >= 0 && next < first + slots) {
    looked = next - first + 1
    if (ports.isValid(next) && ports.state(next) !== ECS.FREE) {
      if (hold.count === rows.length) rows.push(new Row())
      rows[hold.count++]!.copy(domain, next)
    }
    next = ports.nextUsed(next + 1)
  }
  stats.longestHoldNs = Math.max(stats.longestHoldNs, world.nowNs() - startNs)
  eventLock.releaseRead()
  stats.holds++
  stats.mostSlots = Math.max(stats.mostSlots, looked)
  return next
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
