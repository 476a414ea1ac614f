/** Act 3: sends to random channels, drained now and then; what each port must get is counted apart and compared. */

import type { Random } from '../random.js'
import { type Channels, check, type HeldUpcalls, type Machine } from './host.js'

/** What became of the sends. */
export interface Exchange {
  readonly sends: number
  /** Sends to a port that was pending already. */
  readonly merged: number
  readonly delivered: number
  readonly drains: number
  readonly ns: number
}

/** Sends between two drains: what merges, merges within one of these. */
const SENDS_PER_DRAIN = 1000

/** Sends and drains. @throws CheckError if a port gets more or less than it was sent. */
export function exchange(
  dom0: Machine,
  { local, remote, delivered }: Channels,
  upcalls: HeldUpcalls,
  sends: number,
  random: Random,
): Exchange {
  delivered.fill(0)
  const expected = new Uint32Array(delivered.length)
  const outstanding = new Uint8Array(delivered.length)
  const start = performance.now()
  let merged = 0
  let drains = 0
  upcalls.hold = true
  for (let sent = 0; sent < sends; drains++) {
    const burst = Math.min(SENDS_PER_DRAIN, sends - sent)
    for (let i = 0; i < burst; i++) {
      const which = random(local.length)
      dom0.kernel.send(local[which]!)
      const port = remote[which]!
      if (outstanding[port]) merged++
      else {
        outstanding[port] = 1
        expected[port]!++
      }
    }
    sent += burst
    upcalls.drain()
    outstanding.fill(0)
  }
  upcalls.hold = false
  const ns = (performance.now() - start) * 1e6
  return { sends, merged, delivered: total(sends, merged, expected, delivered), drains, ns }
}

/** The sum of all events, each port's compared. */
function total(sends: number, merged: number, expected: Uint32Array, delivered: Uint32Array): number {
  let sum = 0
  expected.forEach((wanted, port) => {
    check(delivered[port] === wanted, `port ${port} was to get ${wanted} events and got ${delivered[port]}`)
    sum += wanted
  })
  check(sum + merged === sends, `${sends} sends, ${sum} delivered, ${merged} merged`)
  return sum
}
