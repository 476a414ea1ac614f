/** What `evtchn migrate` prints. */

import { abiName } from '../abi.js'
import { bytes, count, duration } from '../format.js'
import type { Screen } from '../screen.js'
import type { Outcome, Workload } from './workload.js'

const nameOf = (each: Outcome) => `${each.mode}, ${each.to}`

/** The workload, two tables, and a line for whatever was refused or lost. */
export function show(screen: Screen, { channels, abi, bits, frames }: Workload, outcomes: readonly Outcome[]): void {
  screen.line(
    `${count(channels)} channels, ${abiName(abi)}, ${bits} bits, ${bytes(frames * 4096)} of RAM, ` +
      `${count(outcomes[0]!.pending)} channels pending, ${count(outcomes[0]!.raised)} signalled while frozen`,
  )
  screen.heading('What was saved, and how long it took')
  screen.table(
    ['mode', 'state', 'RAM frames', 'save', 'restore', 'resume'],
    outcomes.map((each) => [
      nameOf(each),
      bytes(each.stateBytes),
      count(each.ramFrames),
      duration(each.saveNs),
      duration(each.restoreNs),
      each.refused ? undefined : duration(each.resumeNs),
    ]),
  )
  screen.heading('What became of the channels and the events')
  screen.table(
    ['mode', 'result', 'levels', 'connected', 'lost', 'events', 'arrived', 'missing', 're-scanned'],
    outcomes.map((each) => [
      nameOf(each),
      each.refused ? screen.paint('bad', 'refused') : screen.paint('good', 'moved'),
      each.levels === 'fifo' ? 'FIFO' : String(each.levels),
      count(each.connected),
      count(each.lost),
      count(each.delivered + each.missing),
      count(each.delivered),
      count(each.missing),
      each.mode === 'cooperative' && !each.refused ? count(each.rescanned) : undefined,
    ]),
  )
  screen.line()
  for (const each of outcomes) {
    const name = nameOf(each)
    if (each.refused) screen.line(`${name}: ${each.refused}; the source runs on with everything it had`)
    if (each.attempts.length) screen.line(`${name}: the guest asked for ${each.attempts.join('; ')}`)
    if (each.lost) screen.line(`${name}: lost ${each.lostNames[0]} … ${each.lostNames.at(-1)}`)
  }
}
