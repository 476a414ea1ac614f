/** Act 5: the guest's channels are dumped while a softirq handler sends, and opens and closes ports. */

import { type Hypervisor, newDumpStats, SOFTIRQ } from '../../index.js'
import { realClock } from '../../node/clock.js'
import type { Random } from '../random.js'
import { type Channels, check, type Machine } from './host.js'

/** What a dump did. */
export interface DumpFacts {
  readonly slotsPerHold: number
  readonly lines: number
  readonly holds: number
  readonly longestHoldNs: number
  readonly softirqs: number
  readonly longestDelayNs: number
  readonly sends: number
}

const TICK_NS = 200_000
/** Sends of one softirq. */
const SENDS_PER_TICK = 20

/**
 * The host's clock, which also is its timer: every 200 µs of real time it raises TIMER_SOFTIRQ, lock held or not. One
 * thread notices a tick only when it next looks at the clock, so the raise is dated back to when the tick was due.
 */
export class TickingClock {
  #onTick: (() => void) | undefined
  #due = 0
  #ticking = false
  wallclockNs = realClock.wallclockNs

  nowNs(): number {
    if (this.#ticking) return this.#due
    const now = realClock.nowNs()
    if (this.#onTick && now >= this.#due) {
      this.#ticking = true
      this.#onTick()
      this.#ticking = false
      this.#due += TICK_NS * Math.ceil((now + 1 - this.#due) / TICK_NS)
    }
    return now
  }

  /** Calls `onTick` from now on; undefined: no more. */
  every(onTick: (() => void) | undefined): void {
    this.#onTick = onTick
    this.#due = realClock.nowNs() + TICK_NS
  }
}

/** Dumps all channels. @throws CheckError if one is missing. */
export function dumpBusy(
  { xen, clock, random }: { xen: Hypervisor; clock: TickingClock; random: Random },
  dom0: Machine,
  guest: Machine,
  channels: Channels,
  slotsPerHold: number,
): DumpFacts {
  let sends = 0
  xen.softirqs.open(SOFTIRQ.TIMER, () => {
    for (let i = 0; i < SENDS_PER_TICK; i++, sends++) dom0.kernel.send(channels.local[random(channels.local.length)]!)
    // Binding and closing take the event lock for writing: they fail if the dump holds it.
    const extra = guest.kernel.allocUnbound(0, { handler: () => {} })
    guest.kernel.close(extra)
  })
  xen.softirqs.resetStats()
  clock.every(() => xen.softirqs.raise(SOFTIRQ.TIMER))
  const stats = newDumpStats()
  const open = channels.local.length
  let lines = 0
  for (const line of xen.dump({ domid: guest.domain.domid, slotsPerHold, stats })) lines += line.length ? 1 : 0
  clock.every(undefined)
  xen.softirqs.processPending()
  check(
    stats.channels >= open && stats.channels <= open + 1,
    `${open} channels are open and ${stats.channels} were dumped`,
  )
  const { served, longestDelayNs } = xen.softirqs.stats
  const { holds, longestHoldNs } = stats
  return { slotsPerHold, lines, holds, longestHoldNs, softirqs: served, longestDelayNs, sends }
}
