/** Guests move: in both modes, to the other host or in place, and with states that were damaged on the way. */

import { XenError } from '../../src/index.js'
import type { Events } from './events.js'
import type { Party } from './party.js'
import { choose, must, type Step } from './step.js'

type Numbers = Step['numbers']

/** The moves of the simulated guests. */
export class Moves {
  readonly #events: Events

  constructor(events: Events) {
    this.#events = events
  }

  #other(party: Party) {
    return this.#events.hosts.find((host) => host !== party.host)!
  }

  /** As data to the other host; its channels wait for peers there, what was raised meanwhile comes along. */
  transparent(party: Party, [, b]: Numbers): void {
    const target = this.#other(party)
    const domid = target.free(6)
    if (domid === undefined || party.paused || party.suspended) return
    const { xen } = party.host
    const move = xen.beginMigration(party.domain, { mode: 'transparent' })
    try {
      sendTo(party, b)
      const domain = target.xen.restoreDomain(JSON.parse(JSON.stringify(move.state)), {
        domid,
        maxEvtchnPort: Infinity,
      })
      party.kernel.moveTo(target.xen.platform(domain))
      target.xen.adopt(domain, party.kernel)
      const committed = move.commit()
      for (const end of party.ends) if (end.peer?.party !== party) party.cut(end)
      party.host = target
      party.domain = domain
      target.xen.startDomain(domain, committed)
    } catch (error) {
      if (move.status === 'frozen') move.abort()
      throw error
    }
  }

  /** In its own place: its peers stay connected. */
  replace(party: Party, [, b]: Numbers): void {
    if (party.paused || party.suspended) return
    const { xen } = party.host
    const replaces = xen.beginMigration(party.domain, { mode: 'transparent' })
    try {
      sendTo(party, b)
      const domain = xen.restoreDomain(JSON.parse(JSON.stringify(replaces.state)), { replaces })
      party.kernel.moveTo(xen.platform(domain))
      xen.adopt(domain, party.kernel)
      party.domain = domain
      xen.startDomain(domain)
    } catch (error) {
      if (replaces.status === 'frozen') replaces.abort()
      throw error
    }
  }

  /** The guest suspends itself and makes its channels again on the other host. */
  cooperative(party: Party): void {
    const target = this.#other(party)
    const domid = target.free(6)
    if (domid === undefined || party.held || party.down.size) return
    const { xen } = party.host
    party.kernel.suspend()
    const move = xen.beginMigration(party.domain, { mode: 'cooperative' })
    let domain: typeof party.domain
    try {
      domain = target.xen.restoreDomain(JSON.parse(JSON.stringify(move.state)), { domid, maxEvtchnPort: Infinity })
    } catch (error) {
      move.abort()
      xen.resumeDomain(party.domain)
      party.kernel.cancelSuspend()
      throw error
    }
    move.commit()
    for (const end of party.ends) party.cut(end)
    party.host = target
    party.domain = domain
    target.xen.adopt(domain, party.kernel)
    // Which events came while it was away is not known: the driver looks at every channel. Before the resume, for handlers
    // run at its end, and one may mask another's port.
    for (const end of party.ends) {
      end.masked = false
      end.owed = false
    }
    const report = party.kernel.resume(target.xen.platform(domain))
    must(report.failed.length === 0, () => `resume of d${party.domid}: ${report.failed[0]?.name} failed`)
    party.kernel.rescan()
  }

  /** A state with one value changed is refused, or makes a domain that harms nobody. */
  damaged(party: Party, [, b, c, d]: Numbers): void {
    const target = this.#other(party)
    const domid = target.free(6)
    if (domid === undefined) return
    const mode = d % 2 ? 'transparent' : 'cooperative'
    const state = JSON.parse(JSON.stringify(party.host.xen.saveDomain(party.domain, { mode, freeze: false })))
    const places = [...numbersIn(state)]
    const { owner, key } = places[b % places.length]!
    owner[key] = [0, 1, 2 ** 31 - 1, 0x7ff0, -1, c, null, 'x'][c % 8]
    try {
      const domain = target.xen.restoreDomain(state, { domid })
      target.xen.destroyDomain(domain)
    } catch (error) {
      const { name } = error as Error
      must(error instanceof XenError || name === 'SavedStateError', () => `a damaged state: ${(error as Error).stack}`)
    }
  }
}

/** Somebody sends to a guest that stands still. */
function sendTo(party: Party, number: number): void {
  const others = [...party.ends].filter(({ peer }) => peer && !peer.party.held && peer.party !== party)
  const end = choose(others, number)
  if (!end) return
  end.peer!.party.kernel.send(end.peer!.port)
  end.owed = true
}

/** Every number in a state but for RAM. */
function* numbersIn(value: unknown): Generator<{ owner: Record<string, unknown>; key: string }> {
  if (typeof value !== 'object' || value === null) return
  const owner = value as Record<string, unknown>
  for (const [key, each] of Object.entries(owner))
    if (typeof each === 'number') yield { owner, key }
    else if (key !== 'ram') yield* numbersIn(each)
}
