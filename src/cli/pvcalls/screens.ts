/** What `evtchn pvcalls` prints. */

import type { IoPolicyName } from '../../dom0/backends/pvcalls/index.js'
import type { Streamed } from '../../node/pvcalls_stream.js'
import type { PvcallsScenarioResult, Spread } from '../../scenarios/pvcalls_scenario.js'
import { bytes, count, duration } from '../format.js'
import type { Screen } from '../screen.js'

const range = ({ min, max }: Spread): string => (min === max ? count(min) : `${count(min)} to ${count(max)}`)

/** All policies in one table. */
export function show(screen: Screen, results: readonly PvcallsScenarioResult[], seed: number, order: number): void {
  const { cpus, sockets } = results[0]!
  screen.heading(`${count(sockets)} sockets on ${count(cpus)} CPUs (seed ${seed}, order ${order})`)
  const names = results.map(({ policy }) => policy)
  const row = (name: string, cell: (result: PvcallsScenarioResult) => string) => [name, ...results.map(cell)]
  screen.table(
    ['', ...names],
    [
      row('workers before the first socket', (r) => count(r.workersAtStart)),
      row('workers after the connects', (r) => count(r.afterConnect.workers)),
      row('  sockets of each', (r) => range(r.afterConnect)),
      row('bytes to and from the network', (r) => bytes(r.traffic.bytesIn + r.traffic.bytesOut)),
      row('wake-ups of sockets', (r) => count(r.traffic.wakeups)),
      row('wake-ups of workers', (r) => count(r.traffic.workerWakeups)),
      row('turns', (r) => count(r.traffic.turns)),
      row('  that found nothing', (r) => count(r.traffic.spurious)),
      row('copies', (r) => count(r.traffic.copies)),
      row("  on the socket's own CPU", (r) => `${(100 * r.ownCpuShare).toFixed(1)} %`),
      row('CPUs offline or back meanwhile', (r) => count(r.flips)),
      row('sockets moved off a CPU', (r) => count(r.traffic.moves)),
      row('workers after an uneven close', (r) => count(r.afterUnevenClose.workers)),
      row('  sockets of each', (r) => range(r.afterUnevenClose)),
      row('workers after as many connects', (r) => count(r.afterReconnect.workers)),
      row('  sockets of each', (r) => range(r.afterReconnect)),
      row('workers made in all', (r) => count(r.workersMade)),
      row('workers after the last close', (r) => count(r.workersAtEnd)),
    ],
  )
}

/** A policy's streams through real TCP. */
export type PolicyStreams = Streamed & { readonly policy: IoPolicyName }

export function showStreams(screen: Screen, mib: number, order: number, results: readonly PolicyStreams[]): void {
  const rate = ({ bytes: moved, ns }: { bytes: number; ns: number }) => (moved / (ns / 1e3)).toFixed(0)
  const hash = (intact: boolean) => (intact ? screen.paint('good', 'as sent') : screen.paint('bad', 'DIFFERS'))
  screen.heading(`${count(mib)} MiB each way through real TCP on loopback, ring order ${order}`)
  screen.table(
    ['policy', 'to the guest', 'MB/s', 'from the guest', 'MB/s', 'SHA-256 to', 'SHA-256 from'],
    results.map(({ policy, toGuest, fromGuest }) => [
      policy,
      duration(toGuest.ns),
      rate(toGuest),
      duration(fromGuest.ns),
      rate(fromGuest),
      hash(toGuest.intact),
      hash(fromGuest.intact),
    ]),
  )
}
