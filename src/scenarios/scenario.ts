/**
 * The report of April 2018 (xen-devel, "To introduce xenwatch multithreading") on one host: guests run, one is stalled and
 * destroyed, others are created and destroyed meanwhile, the stall is released, everything drains. Run once with the stall
 * and once without, it tells who was delayed.
 *
 *     0      create domains 1 … N, some traffic; the injector takes one thing of domain 1
 *     t      xl destroy 1          10 s if it stalls
 *            a bystander closes its vif (N > 2)
 *            xl create             another domain: the next domid
 *            xl destroy 2          (N > 1)
 *     t + …  release; the same domain is created again; all are destroyed, and nothing may be left
 */

import { ManualClock } from '../clock.js'
import type { StallKind } from '../dom0/backends/index.js'
import { Host, type Job } from '../dom0/host/host.js'
import type { Task } from '../dom0/kernel/index.js'
import { inventory, leftovers, queuedEvents } from '../dom0/story/inventory.js'
import { guestConfig, type Outcome } from '../dom0/toolstack/index.js'
import { type Design, type DesignMaker, stateName, XenbusState } from '../dom0/xenbus/index.js'
import { type EventCounts, Recorder, type ThreadTrack } from './recorder.js'

/** Options of a run. */
export interface ScenarioOptions {
  readonly design: Design | DesignMaker
  readonly kind: StallKind
  /** Guests before the stall. */
  readonly domains: number
  /** Gives whole numbers below `n`: the order in which ready threads run. */
  readonly random: (n: number) => number
  /** Default true; false: the same story without a stall, for comparison. */
  readonly stall?: boolean
}

/** One thing that was tried. */
export interface Operation {
  readonly what: string
  readonly domid: number
  readonly fromNs: number
  /** How long it took; null: it had not happened by the time of the release. */
  readonly ns: number | null
  readonly ok: boolean
  readonly errors: readonly string[]
}

/** A thread in state D. */
export interface StalledThread {
  readonly pid: number
  readonly name: string
  readonly stack: readonly string[]
}

/** What happened. */
export interface ScenarioResult {
  readonly design: string
  readonly kind: StallKind
  readonly domains: number
  /** The injector's own words. */
  readonly injected: readonly string[]
  /** Statistics of vif1.0, held packet included. */
  readonly vifStats: Readonly<Record<string, number>> | null
  readonly operations: readonly Operation[]
  readonly stalled: readonly StalledThread[]
  /** `xl list` before the release. */
  readonly list: readonly string[]
  readonly releasedNs: number
  /** Events that waited in all lists when the stall was released, and how many ran then. */
  readonly queuedAtRelease: number
  readonly handledAtRelease: number
  /** Events from the first `xl destroy` to the release. */
  readonly events: EventCounts
  readonly threadsMade: number
  readonly tracks: readonly ThreadTrack[]
  readonly endNs: number
  /** What should not be there any more; empty if all is well. */
  readonly leftovers: readonly string[]
  /** Problems that the kernel reported. */
  readonly reports: readonly string[]
}

/** Packets of the guest before the one that is taken: as many as in the run on record (XW-inj-3). */
const PACKETS = 119
const VIF_PATIENCE_S = 1

/** Tells the story. */
export class Scenario {
  readonly host: Host
  readonly recorder: Recorder
  readonly #options: ScenarioOptions
  readonly #operations: Operation[] = []

  constructor(options: ScenarioOptions) {
    this.#options = options
    const { design, random } = options
    const clock = new ManualClock()
    this.recorder = new Recorder(() => clock.nowNs())
    this.host = new Host({
      clock,
      xenMtwatch: design !== 'single',
      design,
      observer: this.recorder.observer,
      scheduler: { choose: random, preempt: () => random(4) === 0, onState: this.recorder.onState },
    })
  }

  run(): ScenarioResult {
    const { host, recorder } = this
    const { kind, domains, stall = true } = this.#options
    const before = inventory(host)
    for (let i = 1; i <= domains; i++) host.complete('xl', host.toolstack.create(guestConfig(`guest${i}`)))
    host.pass(1)
    this.#traffic(stall)
    const from = { ...recorder.counts }
    this.#try('destroy', 1, host.toolstack.destroy(1))
    const bystander = this.#closeVif(domains)
    const fresh = guestConfig('another')
    const created = this.#try('create', domains + 1, host.toolstack.create(fresh))
    if (domains > 1) this.#try('destroy', 2, host.toolstack.destroy(2))
    bystander?.()
    const events = { ...recorder.counts }
    for (const key of Object.keys(events) as (keyof EventCounts)[]) events[key] -= from[key]

    const stalled = host.kernel.ps().filter(({ state }) => state === 'D')
    const list = host.complete('xl', host.toolstack.list())
    const stats = host.netback.vif('vif1.0')?.stats ?? null
    const queuedAtRelease = queuedEvents(host)
    const releasedNs = host.scheduler.nowNs
    const handled = recorder.counts.handled
    host.injector.release()
    host.pass(1)
    const handledAtRelease = recorder.counts.handled - handled
    if (!created.ok) this.#try('create', domains + 2, host.toolstack.create(fresh))
    for (const { domid } of host.domains.guests) host.complete('xl', host.toolstack.destroy(domid))
    host.pass(1)
    return {
      design: host.xenbus.delivery.design,
      kind,
      domains,
      injected: host.injector.log,
      vifStats: stats,
      operations: this.#operations,
      stalled: stalled.map(({ pid, name, stack }) => ({ pid, name, stack })),
      list,
      releasedNs,
      queuedAtRelease,
      handledAtRelease,
      events,
      threadsMade: recorder.counts.threadsMade,
      tracks: recorder.tracks,
      endNs: host.scheduler.nowNs,
      leftovers: leftovers(before, host, typeof this.#options.design === 'function'),
      reports: host.xenbus.reports,
    }
  }

  /** Packets and requests of domain 1, the last of which is taken. */
  #traffic(stall: boolean): void {
    const { host } = this
    const { kind } = this.#options
    const guest = host.guest(1)
    const dev = kind === 'netback' ? 'vif1.0' : '1.xvda'
    const use = () => (kind === 'netback' ? guest.netfront?.send() : guest.blkfront?.write())
    for (let i = 0; i < PACKETS; i++) {
      if (!use()) throw new Error(`domain 1 cannot use ${dev}`)
      host.pass(0.001)
    }
    if (stall) host.injector.arm(kind, dev)
    use()
    host.pass(1)
  }

  #try(what: string, domid: number, task: Task<Outcome>): Operation {
    const { host } = this
    const fromNs = host.scheduler.nowNs
    const { ok, ns, errors } = host.complete('xl', task)
    const operation = { what: `xl ${what}`, domid, fromNs, ns, ok, errors: errors.map(({ line }) => line) }
    this.#operations.push(operation)
    return operation
  }

  /** A guest that has nothing to do with it unloads its driver: how long until its backend has followed? */
  #closeVif(domid: number): (() => void) | null {
    if (domid < 3) return null
    const { host } = this
    const { bus, netfront } = host.guest(domid)
    const device = host.bus.device(`backend/vif/${domid}/0`)!
    const fromNs = host.scheduler.nowNs
    let ns: number | null = null
    host.guest(domid).kernel.kthreadRun('rmmod', 'netif_exit', () => bus.close(netfront!))
    const watch: Job<void> = host.start(
      'watch',
      (function* () {
        while (device.state !== XenbusState.Closed) yield* host.kernel.sleep(1e6)
        ns = host.scheduler.nowNs - fromNs
      })(),
    )
    host.pass(VIF_PATIENCE_S)
    return () => {
      if (!watch.done) host.scheduler.kill(watch.thread)
      const errors = watch.done ? [] : [`vif${domid}.0 is still ${stateName(device.state)}`]
      this.#operations.push({ what: 'rmmod netfront', domid, fromNs, ns, ok: watch.done, errors })
    }
  }
}
