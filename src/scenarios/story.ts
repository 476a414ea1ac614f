/**
 * A story of a stalled dom0, told once with the stall and once without, so that each delay has something to be compared with.
 *
 *     guests ─▶ the story begins its stall ─▶ attempts, one after the other ─▶ release ─▶ all is taken down
 *                                             └ done or failed, and how long       └ nothing may be left
 *
 * A stall is a wait in D at a gate. Without the stall the gate is open from the beginning; nothing else differs.
 */

import { Host } from '../dom0/host/host.js'
import type { Kernel, Task, WaitQueue } from '../dom0/kernel/index.js'
import { guestConfig, type Outcome } from '../dom0/toolstack/index.js'
import type { Design, XenbusWatch } from '../dom0/xenbus/index.js'
import { differences, inventory } from './inventory.js'

/** A story: who it is about, and what is tried while something is stalled. */
export interface Story {
  readonly name: string
  /** What is stalled, in a few words. */
  readonly about: string
  /** Begins the stall, then tries what others need. */
  tell(telling: Telling): void
  /** What is looked at after the release. Default: nothing. */
  after?(telling: Telling): void
}

/** One thing that was tried. */
export interface Attempt {
  readonly what: string
  readonly ok: boolean
  readonly ns: number
  readonly errors: readonly string[]
}

/** How a story went under one design. */
export interface StoryResult {
  readonly story: string
  readonly design: Design
  readonly attempts: readonly Attempt[]
  /** Threads in D before the release; a guest's has its domain in front. */
  readonly stalled: readonly string[]
  /** What the story itself saw. */
  readonly notes: readonly string[]
  /** What was left at the end, and what the kernel reported; empty if all is well. */
  readonly problems: readonly string[]
}

/** A story while it is told. */
export class Telling {
  readonly host: Host
  readonly #stalls: boolean
  readonly #attempts: Attempt[] = []
  readonly #notes: string[] = []
  readonly #gates: WaitQueue[] = []
  readonly #watches: XenbusWatch[] = []
  #open: boolean

  constructor(design: Design, stalls: boolean, random: (n: number) => number) {
    this.#stalls = stalls
    this.#open = !stalls
    this.host = new Host({ xenMtwatch: design !== 'single', design, scheduler: { choose: random } })
  }

  /** Runs a process to its end. */
  xl<T>(task: Task<T>): T {
    return this.host.complete('xl', task)
  }

  /** Tries something that somebody needs, and keeps how it went. */
  attempt(what: string, task: Task<Outcome>): void {
    const { ok, ns, errors } = this.xl(task)
    this.#attempts.push({ what, ok, ns, errors: errors.map(({ line }) => line) })
  }

  /** `xl create` of one more guest with a disk and an interface. */
  create(name: string): Task<Outcome> {
    return this.host.toolstack.create(guestConfig(name))
  }

  note(text: string): void {
    this.#notes.push(text)
  }

  /** A kernel function that waits in D until the release. */
  *block(kernel: Kernel, fn: string, what: string): Task {
    const gate = kernel.waitQueue()
    this.#gates.push(gate)
    const wait = gate.until(() => this.#open, { state: 'D', what })
    yield* kernel.call(fn, wait)
  }

  /** Has the injector take one thing of domain 1. */
  inject(kind: 'netback' | 'blkback' | 'grant'): void {
    const { host } = this
    const guest = host.guest(1)
    if (this.#stalls) host.injector.arm(kind, kind === 'netback' ? 'vif1.0' : '1.xvda')
    if (kind === 'netback') guest.netfront!.send()
    else guest.blkfront!.write()
    host.pass(1)
  }

  /** Registers a watch of dom0's kernel, which is taken back at the end. */
  register(watch: XenbusWatch, choice: 'default' | 'domain' = 'default'): void {
    this.#watches.push(watch)
    this.xl(this.host.xenbus.register(watch, choice))
  }

  /** Tells a whole story. */
  run(story: Story, design: Design): StoryResult {
    const { host } = this
    const before = inventory(host)
    for (const name of ['guest1', 'guest2']) this.xl(this.create(name))
    host.pass(1)
    story.tell(this)
    const stalled = this.#inD()
    this.#open = true
    for (const gate of this.#gates) gate.wakeAll()
    host.injector.release()
    host.pass(1)
    story.after?.(this)
    for (const watch of this.#watches) this.xl(host.xenbus.unregister(watch))
    for (const { domid } of host.domains.guests) this.xl(host.toolstack.destroy(domid))
    host.pass(1)
    const problems = [...differences(before, inventory(host)), ...host.xenbus.reports]
    if (this.#stalls && !stalled.length) problems.push('nothing was stalled')
    return { story: story.name, design, attempts: this.#attempts, stalled, notes: this.#notes, problems }
  }

  #inD(): string[] {
    const { kernel, domains } = this.host
    const of = (each: Kernel, where: string) =>
      each
        .ps()
        .filter(({ state }) => state === 'D')
        .map(({ name }) => where + name)
    return [...of(kernel, ''), ...domains.guests.flatMap((guest) => of(guest.kernel, `domain ${guest.domid}: `))]
  }
}

/** A story under a design, with its stall and without. */
export interface ToldStory {
  readonly story: string
  readonly design: Design
  readonly stalled: StoryResult
  readonly reference: StoryResult
}

/** Tells a story under a design. `random` begins anew for each of the two runs. */
export function tellStory(story: Story, design: Design, random: () => (n: number) => number): ToldStory {
  const run = (stalls: boolean) => new Telling(design, stalls, random()).run(story, design)
  return { story: story.name, design, stalled: run(true), reference: run(false) }
}
