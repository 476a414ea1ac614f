/**
 * Random stories on a whole host: guests are created and destroyed, change states, are stalled and released, in any order
 * and with several things under way, while threads run and are interrupted as the seed says.
 *
 * Each run is one seed: EVTCHN_SEED=n runs that one alone, EVTCHN_RUNS=n more of them.
 */

import { describe, expect, it } from 'vitest'
import { seeded } from '../../src/cli/random.js'
import { guestConfig, type Host, type Job } from '../../src/dom0/index.js'
import { differences, inventory } from '../../src/dom0/story/inventory.js'
import { diskSpec, type Outcome } from '../../src/dom0/toolstack/index.js'
import { type Design, XenbusWatch } from '../../src/dom0/xenbus/index.js'
import { givenSeed, runsOr } from '../settings.js'
import { InvariantChecker } from './checker.js'
import { ALL, hostOf, KINDS } from './lab.js'

const STEPS = 30
const runs = runsOr(6)
const seeds = givenSeed !== undefined ? [givenSeed] : Array.from({ length: runs }, (_, i) => 1000 + i)

/** An operation of the toolstack under way. */
interface Under {
  readonly job: Job<Outcome>
  readonly domid: number
  /** Nothing was stalled when it began, or what it is about is not what is stalled. */
  mustSucceed: boolean
}

/** One random story. */
class Story {
  readonly host: Host
  readonly checker = new InvariantChecker()
  readonly #random: (n: number) => number
  readonly #design: Design
  readonly #under: Under[] = []
  readonly #log: string[] = []
  readonly #plain: XenbusWatch[] = []
  /** Domains that were ever stalled. */
  readonly #stalled = new Set<number>()
  readonly #before: Map<string, number>

  constructor(design: Design, seed: number) {
    this.#design = design
    this.#random = seeded(seed)
    this.host = hostOf(design, {
      maxDomid: 7,
      observer: this.checker.observer,
      scheduler: { choose: this.#random, preempt: () => this.#random(3) === 0 },
    })
    this.#before = inventory(this.host)
  }

  #living(): number[] {
    const busy = new Set(this.#under.filter(({ job }) => !job.done).map(({ domid }) => domid))
    return this.host.domains.guests.map(({ domid }) => domid).filter((domid) => !busy.has(domid))
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[this.#random(from.length || 1)]
  }

  #begin(what: string, domid: number, job: Job<Outcome>): void {
    this.#log.push(`${(this.host.scheduler.nowNs / 1e9).toFixed(1)} s: ${what} ${domid}`)
    const stalled = this.host.injector.holding
    const mustSucceed = this.#design === 'single' ? !stalled : !this.#stalled.has(domid)
    this.#under.push({ job, domid, mustSucceed })
    // With one thread, whatever is under way when a stall begins may suffer too.
  }

  step(): void {
    const { host } = this
    const random = this.#random
    const domid = this.#pick(this.#living())
    const guest = domid === undefined ? undefined : host.domains.guest(domid)
    switch (random(9)) {
      case 0:
      case 1:
        if (host.domains.guests.length < 5) this.#create()
        break
      case 2:
        if (domid !== undefined) this.#begin('destroy', domid, host.start('xl', host.toolstack.destroy(domid)))
        break
      case 3:
        if (guest?.netfront) this.#state(guest.domid, `device/vif/0/state`)
        break
      case 4:
        for (let i = random(10); i-- > 0; ) {
          guest?.netfront?.send()
          guest?.blkfront?.write()
        }
        break
      case 5:
        if (guest && !host.injector.holding) this.#stall(guest.domid)
        break
      case 6:
        this.#log.push('release')
        host.injector.release()
        break
      case 7:
        if (domid !== undefined) this.#attach(domid)
        break
      default:
        this.#watch()
    }
    host.pass(random(4) ? random(1000) / 1000 : random(15))
    this.#lookAround()
  }

  #create(): void {
    const { host } = this
    let domid = 0
    const control = host.domains
    const original = control.create
    control.create = () => {
      domid = original.call(control)
      return domid
    }
    const task = host.toolstack.create(guestConfig(`guest${this.#under.length}`))
    const job = host.start('xl', task)
    host.scheduler.step()
    while (!domid) host.scheduler.step()
    control.create = original
    this.#stalled.delete(domid)
    this.#begin('create', domid, job)
  }

  /** A guest may write what it likes. */
  #state(domid: number, node: string): void {
    const guest = this.host.guest(domid)
    const state = [1, 3, 4, 5, 6, 0, 8][this.#random(7)]!
    this.#log.push(`d${domid} writes ${state} to ${node}`)
    guest.kernel.kthreadRun('odd', 'odd', function* () {
      try {
        for (let i = 0; i < 5; i++) yield* guest.xenbus.write(node, state)
      } catch {
        // The device was taken away meanwhile.
      }
    })
  }

  #stall(domid: number): void {
    const { host } = this
    const kind = this.#pick(KINDS)!
    this.#log.push(`stall ${kind} of ${domid}`)
    host.injector.arm(kind, kind === 'netback' ? `vif${domid}.0` : `${domid}.xvda`)
    const guest = host.guest(domid)
    if (kind === 'netback') guest.netfront?.send()
    else guest.blkfront?.write()
    host.pass(0.01)
    if (!host.injector.holding) {
      host.injector.release()
      return
    }
    this.#stalled.add(domid)
    for (const each of this.#under)
      if (!each.job.done && (this.#design === 'single' || each.domid === domid)) each.mustSucceed = false
  }

  #attach(domid: number): void {
    const { host } = this
    if (host.bus.device(`backend/vbd/${domid}/51728`))
      this.#begin('detach xvdb', domid, host.start('xl', host.toolstack.detach(domid, 'vbd', 51728)))
    else
      this.#begin(
        'attach xvdb',
        domid,
        host.start('xl', host.toolstack.attach(domid, diskSpec(domid, { dev: 'xvdb' }))),
      )
  }

  /** Another part of the kernel registers and unregisters. */
  #watch(): void {
    const { host } = this
    const old = this.#plain.length > 2 ? this.#plain.shift() : undefined
    if (old) host.start('unregister', host.xenbus.unregister(old))
    else {
      const watch = new XenbusWatch({ node: '/local/domain', callback: () => host.xenbus.exists('/') as never })
      this.#plain.push(watch)
      host.start('register', host.xenbus.register(watch))
    }
  }

  /** Holds at any time. */
  #lookAround(): void {
    const { host, checker } = this
    expect(checker.violations, this.story).toEqual([])
    expect(host.xenbus.reports, this.story).toEqual([])
    if (!host.injector.holding) expect(inD(host), this.story).toEqual([])
    else if (this.#design !== 'single') expect(inD(host).length, this.story).toBeLessThanOrEqual(1)
    this.#pending()
    for (const { job, domid, mustSucceed } of this.#under)
      if (job.done && mustSucceed)
        expect(
          job.result!.errors.map(({ line }) => line),
          `${domid}: ${this.story}`,
        ).toEqual([])
  }

  /** nr_pending counts what is queued, over all lists (XW-thr-5). */
  #pending(): void {
    const { xenbus } = this.host
    const queued = new Map<XenbusWatch, number>()
    for (const list of [xenbus.xenwatch, ...xenbus.delivery.domainLists])
      for (const { watch } of list.events) queued.set(watch, (queued.get(watch) ?? 0) + 1)
    for (const watch of xenbus.watches) expect(watch.nrPending, watch.node).toBe(queued.get(watch) ?? 0)
  }

  /** All is released, destroyed, and gone. */
  end(): void {
    const { host, checker } = this
    host.injector.release()
    host.pass(60)
    expect(
      this.#under.every(({ job }) => job.done),
      this.story,
    ).toBe(true)
    for (const domid of this.#living()) this.#begin('destroy', domid, host.start('xl', host.toolstack.destroy(domid)))
    for (const watch of this.#plain) host.start('unregister', host.xenbus.unregister(watch))
    host.pass(60)
    this.#lookAround()
    expect([checker.open, checker.threads], this.story).toEqual([0, 0])
    const left = differences(this.#before, inventory(host)).filter((what) => !what.includes('/error'))
    expect(left, this.story).toEqual([])
  }

  get story(): string {
    return `${this.#design}:\n${this.#log.join('\n')}`
  }
}

const inD = (host: Host): string[] =>
  host.kernel
    .ps()
    .filter(({ state, name }) => state === 'D' && name.startsWith('xen'))
    .map(({ name }) => name)

describe.each(ALL)('a random story, %s', (design) => {
  it.each(seeds)('XW-thr-1, XW-life-2: seed %i: order, no loss, no leak, no deadlock but for a stall', (seed) => {
    const story = new Story(design, seed)
    for (let i = 0; i < STEPS; i++) story.step()
    story.end()
    expect(story.checker.finished).toBeGreaterThan(50)
  })
})
