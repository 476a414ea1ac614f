/**
 * What must hold of every delivery, whatever happens: events of a domain in order of arrival and one at a time, none run
 * twice, none lost without being purged (XW-thr-1, XW-life-2).
 *
 * A domain whose thread was told to go begins a new epoch: what comes then may overtake what the old thread still has
 * (XW-life-5). An event belongs to the epoch in which it was put on the list that runs it; a late event that goes to a thread
 * which is DOWN belongs to that thread's (XW-life-1).
 */

import type { DeliveryObserver, EventThread, XsWatchEvent } from '../../src/dom0/xenbus/index.js'

const domidOf = ({ watch, path, token }: XsWatchEvent): number => watch.getDomid?.(watch, path, token) ?? 0

interface Known {
  state: 'queued' | 'running' | 'finished' | 'purged'
  key: string
}

/** Looks on and complains. */
export class InvariantChecker {
  readonly violations: string[] = []
  readonly #events = new Map<number, Known>()
  readonly #epochs = new Map<number, number>()
  readonly #lastRun = new Map<string, number>()
  readonly #running = new Map<string, number>()
  /** Threads that have not ended, and the epoch of each. */
  readonly #alive = new Map<EventThread, number>()
  finished = 0
  purged = 0

  #must(holds: boolean, problem: string): void {
    if (!holds) this.violations.push(problem)
  }

  #key(event: XsWatchEvent): string {
    const domid = domidOf(event)
    return `d${domid}/${this.#epochs.get(domid) ?? 0}`
  }

  /** One that is UP does, and one that is DOWN as long as it runs and none of its domain is UP. */
  #takes(list: EventThread): boolean {
    if (list.state === 'up') return true
    const isUp = (each: EventThread) => each.domid === list.domid && each.state === 'up'
    return !list.drained && ![...this.#alive.keys()].some(isUp)
  }

  readonly observer: DeliveryObserver = {
    arrived: (event) => {
      this.#must(!this.#events.has(event.seq), `event ${event.seq} arrived twice`)
      this.#events.set(event.seq, { state: 'queued', key: this.#key(event) })
    },
    moved: (event, from, to) => {
      const known = this.#events.get(event.seq)!
      this.#must(known.state === 'queued', `event ${event.seq} was moved while ${known.state}`)
      this.#must(from.domid === 0, `event ${event.seq} was moved away from ${from.name}`)
      this.#must(to.domid === domidOf(event), `event ${event.seq} of ${domidOf(event)} was moved to ${to.name}`)
      this.#must(this.#takes(to), `event ${event.seq} was moved to ${to.name}, which is down`)
      known.key = `d${to.domid}/${this.#alive.get(to)}`
    },
    started: (event, list) => {
      const known = this.#events.get(event.seq)!
      const domid = domidOf(event)
      if (list.domid === 0) known.key = this.#key(event)
      this.#must(known.state === 'queued', `event ${event.seq} was run while ${known.state}`)
      this.#must(list.domid === 0 || list.domid === domid, `event ${event.seq} of ${domid} ran in ${list.name}`)
      const key = list.domid === 0 && domid === 0 ? 'default' : known.key
      const last = this.#lastRun.get(key) ?? 0
      this.#must(event.seq > last, `${key}: event ${event.seq} ran after ${last}`)
      const other = this.#running.get(key)
      this.#must(other === undefined, `${key}: event ${event.seq} ran while ${other} did`)
      this.#lastRun.set(key, event.seq)
      this.#running.set(key, event.seq)
      known.key = key
      known.state = 'running'
    },
    finished: (event) => {
      const known = this.#events.get(event.seq)!
      this.#must(known.state === 'running', `event ${event.seq} ended while ${known.state}`)
      this.#running.delete(known.key)
      this.#events.delete(event.seq)
      this.finished++
    },
    purged: (event) => {
      const known = this.#events.get(event.seq)!
      this.#must(known.state === 'queued', `event ${event.seq} was purged while ${known.state}`)
      this.#events.delete(event.seq)
      this.purged++
    },
    threadUp: (list) => void this.#alive.set(list, this.#epochs.get(list.domid) ?? 0),
    threadDown: ({ domid }) => void this.#epochs.set(domid, (this.#epochs.get(domid) ?? 0) + 1),
    threadEnded: (list) => {
      this.#must(this.#alive.delete(list), `${list.name} ended twice`)
      this.#must(list.length === 0, `${list.name} ended with ${list.length} events`)
    },
  }

  /** Events that are neither finished nor purged. */
  get open(): number {
    return this.#events.size
  }

  /** Domain threads that have not ended. */
  get threads(): number {
    return this.#alive.size
  }
}
