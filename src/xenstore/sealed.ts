/**
 * The embedder's functions as the daemon calls them: the hypervisor behind it, the ways to its clients, its clock. What one
 * of them throws is reported, and a value stands for its result that harms nobody:
 *
 *     host.state     a known domain lives on; one that is not known is not there
 *     host.connect   the ring cannot be mapped: INTRODUCE is refused
 *     peer.page      the page as it was last
 *     now            the time that it told last
 *     later          our own way: a later turn of the event loop
 *     all others     nothing
 */

import type { Callouts } from '../callout.js'
import { ParameterError } from '../check.js'
import { Turns } from '../turns.js'
import type { Transport } from './connection.js'
import type { DomainHost, DomainState } from './domains.js'
import type { RingPeer } from './ring.js'

const ALIVE: DomainState = Object.freeze({ shutdown: false, dying: false })

/** A ring's other side. */
export function sealedPeer({ page, channel, close }: RingPeer, callouts: Callouts, who: string): RingPeer {
  let last: Uint8Array = new Uint8Array(4096)
  return {
    page: () => {
      last = callouts.run(`page of ${who}`, last, page)
      return last
    },
    channel: {
      notify: () => callouts.run(`channel.notify of ${who}`, undefined, () => channel.notify()),
      onEvent: (callback) => callouts.run(`channel.onEvent of ${who}`, undefined, () => channel.onEvent(callback)),
    },
    close: () => callouts.run(`close of ${who}`, undefined, close),
  }
}

/** The hypervisor. `known`: is this domain known already? */
export function sealedHost(host: DomainHost, callouts: Callouts, known: (domid: number) => boolean): DomainHost {
  return {
    state: (domid) => callouts.run('host.state', known(domid) ? ALIVE : undefined, () => host.state(domid)),
    connect: (domid, gfn, port) => {
      const peer = callouts.run('host.connect', undefined, () => host.connect(domid, gfn, port))
      return peer && sealedPeer(peer, callouts, `the ring of d${domid}`)
    },
  }
}

/** The way to a client. */
export function sealedTransport(transport: Transport, callouts: Callouts, domid: number): Transport {
  const run = (what: keyof Transport, call: () => void): void =>
    callouts.run(`transport.${what} of d${domid}`, undefined, call)
  return {
    wake: () => run('wake', () => transport.wake()),
    fail: (error) => run('fail', () => transport.fail(error)),
    ...(transport.held && { held: () => callouts.run(`transport.held of d${domid}`, 0, () => transport.held!()) }),
    restart: () => run('restart', () => transport.restart?.()),
    end: () => run('end', () => transport.end()),
  }
}

/** The time in milliseconds; undefined if there is no clock. */
export function sealedNow(now: (() => number) | undefined, callouts: Callouts): () => number | undefined {
  if (!now) return () => undefined
  let last = 0
  return () => {
    last = callouts.run('now', last, () => {
      const given = now()
      if (Number.isFinite(given)) return given
      throw new ParameterError('XenStored', 'now()', given, 'a time in milliseconds')
    })
    return last
  }
}

/** In a later turn of the event loop. */
function inTurns(step: () => void): void {
  const turns = new Turns()
  void turns.next().then(() => {
    turns.close()
    step()
  })
}

/** Has a step taken later: by the embedder, or in a later turn of the event loop. */
export function sealedLater(
  later: ((step: () => void) => void) | undefined,
  callouts: Callouts,
): (step: () => void) => void {
  if (!later) return inTurns
  return (step) => {
    const passed = callouts.run('later', false, () => {
      later(step)
      return true
    })
    if (!passed) inTurns(step)
  }
}
