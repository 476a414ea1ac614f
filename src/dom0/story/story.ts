/**
 * A story of a stalled dom0 that can be stopped and looked at: a host, and a process that takes one step after the other.
 *
 *     begin ─▶ steps ─▶ process `story` ─▶ each step in a process `xl` ─▶ a record: from, to, ok, errors
 *     runUntil ─▶ the scheduler, from timer to timer      release ─▶ every gate opens, the injector lets go
 *
 * Time is simulated and passes in `runUntil` alone. Between two calls state, stacks and lists can be read, steps added and
 * the stall released. Nothing polls: time moves to the next timer.
 */

import { options as checkOptions, flag, func, type Table, text } from '../../check.js'
import { ManualClock } from '../../clock.js'
import { Host } from '../host/host.js'
import type { HostOptions } from '../host/options.js'
import type { Kernel, Task, WaitQueue } from '../kernel/index.js'
import type { DomainInfo, Outcome } from '../toolstack/index.js'
import { checkDesign, type Design, type DesignMaker, type EventThread, type XenbusWatch } from '../xenbus/index.js'
import { nameOf, type StoryEvent, StoryLog } from './events.js'
import { inventory, leftovers } from './inventory.js'
import type { StepRecord } from './record.js'

/** Options of a story. */
export interface StoryOptions {
  /** How watches get to their callbacks, or a maker of an own delivery. Default 'single'. */
  readonly design?: Design | DesignMaker
  /** Default true; false: every gate is open from the beginning, and nothing is taken; for comparison. */
  readonly stalls?: boolean
  /** Gives whole numbers below `n`: the order in which ready threads run. Default: the longest ready first. */
  readonly random?: (n: number) => number
  /** Drivers of third parties, on dom0's bus before it starts. */
  readonly drivers?: HostOptions['drivers']
}

const OPTIONS: Table<StoryOptions> = { design: checkDesign, stalls: flag, random: func, drivers: func }

/** One thing that is done in a story. */
export interface Step {
  /** In a few words: `destroy 2`. */
  readonly what: string
  /** False: it only prepares something, and is not compared. Default true. */
  readonly tried?: boolean
  /** The step, in a process of dom0. An outcome that is not `ok` is a step that failed; so is one that throws. */
  run(story: Story): Task<Outcome> | Task
}

/** A story that can be told: who is stalled, and what others need meanwhile. */
export interface Plot {
  readonly name: string
  /** What is stalled, in a few words. */
  readonly about: string
  /** Begins the stall, then tries what others need. */
  readonly steps: readonly Step[]
  /** What is looked at after the release. Default: nothing. */
  readonly after?: readonly Step[]
}

/** A thread, at one moment. */
export interface ThreadView {
  readonly domid: number
  readonly pid: number
  readonly name: string
  /** R, S or D. */
  readonly state: string
  /** As in /proc/PID/stack: innermost first. */
  readonly stack: readonly string[]
  /** What it waits for, in words. */
  readonly waits: string
}

/** A list of watch events, at one moment. */
export interface ListView {
  readonly name: string
  readonly domid: number
  readonly state: string
  /** Path of the event whose callback runs; undefined if none does. */
  readonly running: string | undefined
  /** Paths that wait, oldest first. */
  readonly queued: readonly string[]
}

/** Everything, at one moment. */
export interface StoryState {
  readonly nowNs: number
  readonly released: boolean
  /** Threads of dom0, then of each guest. */
  readonly threads: readonly ThreadView[]
  /** The default list, then those of domains. */
  readonly lists: readonly ListView[]
  readonly domains: readonly DomainInfo[]
}

/** Simulated time after which a story that does not get anywhere is given up, in ns. */
const PATIENCE_NS = 600e9

/** A story while it is told. */
export class Story {
  readonly host: Host
  readonly #log: StoryLog
  readonly #stalls: boolean
  readonly #own: boolean
  readonly #before: Map<string, number>
  readonly #queue: Step[] = []
  readonly #waiting: WaitQueue
  readonly #records: { -readonly [K in keyof StepRecord]: StepRecord[K] }[] = []
  readonly #gates: WaitQueue[] = []
  readonly #watches: XenbusWatch[] = []
  #underWay = false
  #open: boolean

  /** @throws ParameterError for an option that is unknown or of the wrong type. */
  constructor(given: StoryOptions = {}) {
    const { design = 'single', stalls = true, random, drivers } = checkOptions('Story', given, OPTIONS)
    const clock = new ManualClock()
    const log = new StoryLog(() => clock.nowNs())
    this.#log = log
    this.#stalls = stalls
    this.#own = typeof design === 'function'
    this.#open = !stalls
    this.host = new Host({
      clock,
      design,
      xenMtwatch: design !== 'single',
      observer: log.observer,
      scheduler: { onState: (thread, state) => log.onState(thread, state), ...(random && { choose: random }) },
      ...(drivers && { drivers }),
    })
    const { kernel } = this.host
    this.#waiting = kernel.waitQueue()
    kernel.process('story', () => this.#loop())
    this.host.scheduler.run()
    this.#before = inventory(this.host)
  }

  /** Name of the design in force. */
  get design(): string {
    return this.host.xenbus.delivery.design
  }

  get nowNs(): number {
    return this.host.scheduler.nowNs
  }

  // --- steps ---------------------------------------------------------------------------------------------------------

  /** Steps that have begun, in order. */
  get steps(): readonly StepRecord[] {
    return this.#records.map((record) => ({ ...record }))
  }

  /** Nothing is under way, and no step waits for its turn. */
  get idle(): boolean {
    return !this.#underWay && this.#queue.length === 0
  }

  /** Adds steps behind those that wait. They begin in `runUntil`. @throws ParameterError */
  begin(...steps: readonly Step[]): void {
    for (const step of steps) {
      text('Story.begin', 'what', step.what)
      func('Story.begin', 'run', step.run)
    }
    this.#queue.push(...steps)
    this.#waiting.wakeAll()
  }

  *#loop(): Task {
    const { kernel } = this.host
    for (;;) {
      yield* this.#waiting.until(() => this.#queue.length > 0, { state: 'S', what: 'the next step' })
      this.#underWay = true
      const step = this.#queue.shift()!
      yield* kernel.join(kernel.process('xl', () => this.#step(step)))
      this.#underWay = false
    }
  }

  *#step(step: Step): Task {
    const { what, tried = true } = step
    const record = { what, tried, fromNs: this.nowNs, toNs: undefined, ok: undefined, errors: [] }
    const index = this.#records.push(record) - 1
    this.#log.add('step begins', '', what)
    let outcome: Outcome | undefined
    let thrown: string[] = []
    try {
      const ended = yield* step.run(this)
      if (ended) outcome = ended
    } catch (error) {
      thrown = [`${what}: ${error instanceof Error ? error.message : String(error)}`]
    }
    const errors = [...(outcome?.errors.map(({ line }) => line) ?? []), ...thrown]
    Object.assign(this.#records[index]!, { toNs: this.nowNs, ok: !thrown.length && outcome?.ok !== false, errors })
    this.#log.add('step ends', '', what)
  }

  /** For a step: lets simulated time go by. */
  pass(seconds: number): Task {
    return this.host.kernel.sleep(seconds * 1e9)
  }

  // --- time ----------------------------------------------------------------------------------------------------------

  /**
   * Runs up to a time of the story in ns, or until something holds, which is looked at whenever all threads wait. False: it
   * did not hold within ten minutes of simulated time.
   */
  runUntil(until: number | (() => boolean)): boolean {
    const { scheduler } = this.host
    if (typeof until === 'function') return scheduler.advance(PATIENCE_NS, until)
    scheduler.advance(Math.max(0, until - this.nowNs))
    return true
  }

  // --- the stall -----------------------------------------------------------------------------------------------------

  /** Everything that is held goes on, and nothing is held any more. */
  release(): void {
    this.#log.add('release', '', '')
    this.#open = true
    for (const gate of this.#gates) gate.wakeAll()
    this.host.injector.release()
  }

  /** For a step or a callback: a kernel function that waits in D until the release. */
  *block(kernel: Kernel, fn: string, what: string): Task {
    const gate = kernel.waitQueue()
    this.#gates.push(gate)
    yield* kernel.call(
      fn,
      gate.until(() => this.#open, { state: 'D', what }),
    )
  }

  /** For a step: has the injector take one thing of domain 1, which it sends. */
  *inject(kind: 'netback' | 'blkback' | 'grant'): Task {
    const { host } = this
    const guest = host.guest(1)
    if (this.#stalls) host.injector.arm(kind, kind === 'netback' ? 'vif1.0' : '1.xvda')
    if (kind === 'netback') guest.netfront!.send()
    else guest.blkfront!.write()
    yield* this.pass(1)
  }

  /** For a step: registers a watch of dom0's kernel, which `takeDown` takes back. */
  *register(watch: XenbusWatch, choice: 'default' | 'domain' = 'default'): Task {
    this.#watches.push(watch)
    yield* this.host.xenbus.register(watch, choice)
  }

  // --- looking -------------------------------------------------------------------------------------------------------

  /** What has happened so far, by time. */
  get events(): readonly StoryEvent[] {
    return this.#log.events
  }

  /** Everything as it is now. */
  state(): StoryState {
    const { kernel, domains, xenbus } = this.host
    const views = (each: Kernel, domid: number): ThreadView[] => each.ps().map((record) => ({ domid, ...record }))
    return {
      nowNs: this.nowNs,
      released: this.#open,
      threads: [...views(kernel, 0), ...domains.guests.flatMap((guest) => views(guest.kernel, guest.domid))],
      lists: [xenbus.xenwatch, ...xenbus.delivery.domainLists].map(listView),
      domains: domains.list(),
    }
  }

  /** Names of threads in D; a guest's has its domain in front. */
  get stalled(): string[] {
    const { kernel, domains } = this.host
    return [kernel, ...domains.guests.map((guest) => guest.kernel)].flatMap((each) =>
      each.threads.filter(({ state }) => state === 'D').map(nameOf),
    )
  }

  /** Destroys all guests, unregisters the story's watches, and returns what is left of them, in words. After a release. */
  takeDown(): string[] {
    const { host } = this
    for (const watch of this.#watches.splice(0)) host.complete('story', host.xenbus.unregister(watch))
    for (const { domid } of host.domains.guests) host.complete('xl', host.toolstack.destroy(domid))
    host.pass(1)
    return [...leftovers(this.#before, host, this.#own), ...host.xenbus.reports]
  }
}

const listView = ({ name, domid, state, current, events }: EventThread): ListView => ({
  name,
  domid,
  state,
  running: current?.path,
  queued: events.map(({ path }) => path),
})
