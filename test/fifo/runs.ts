/**
 * Every interleaving of a few generators (steps.ts), by running them again and again. A generator cannot be copied, so a
 * state is reached by replaying the schedule that leads to it; states that were seen are not entered twice.
 *
 * What a thread will do depends on nothing but what it has read so far, so its history stands for where it is: two states
 * with equal memory, equal private state and equal histories are one. Histories are interned, which makes that exact, and
 * begin anew where a thread says that it has forgotten everything.
 */

import type { Step, Steps } from './steps.js'

/** A thread of a world. A daemon may wait for ever. */
export interface Thread {
  readonly name: string
  readonly steps: Steps<void>
  readonly daemon?: boolean
}

/** One fresh run of a scenario. */
export interface World {
  readonly threads: readonly Thread[]
  /** Everything beside the threads, as text. */
  key(): string
  /** What is wrong after a step; null = nothing. */
  invariant?(): string | null
  /** What is wrong when nothing can go on any more; null = nothing. */
  verdict(): string | null
  /** Set by the explorer: what the running thread has read. */
  onRead: (value: number) => void
  /** A thread of this world is about to take a step. */
  resume?(): void
  /** Names an address, for schedules. */
  nameOf(at: number): string
}

/** Outcome: how many states and ends there are, or what is wrong and how it came to that. */
export interface Outcome {
  states: number
  ends: number
  /** Most steps that one thread took, by name. */
  longest: Record<string, number>
  flaw: { what: string; schedule: string[] } | null
}

/** A thread in a run. */
interface Running {
  thread: Thread
  next: Step | null
  history: number
  taken: number
}

const interned = new Map<string, number>()
function intern(history: number, value: number): number {
  const key = `${history},${value}`
  let id = interned.get(key)
  if (id === undefined) {
    id = interned.size + 1
    interned.set(key, id)
  }
  return id
}

class Run {
  readonly world: World
  readonly running: Running[]
  readonly schedule: string[] = []
  readonly #tell: boolean
  #current: Running | null = null

  /** `tell`: keep the schedule as text. */
  constructor(make: () => World, tell = false) {
    this.#tell = tell
    this.world = make()
    this.world.onRead = (value) => {
      if (this.#current) this.#current.history = intern(this.#current.history, value)
    }
    this.running = this.world.threads.map((thread) => ({ thread, next: null, history: 0, taken: 0 }))
    for (const each of this.running) this.#advance(each, 0)
  }

  #advance(each: Running, way: number): void {
    this.#current = each
    this.world.resume?.()
    const { done, value } = each.thread.steps.next(way)
    this.#current = null
    each.next = done ? null : (value as Step)
    if (done) each.history = intern(-2, 0)
    else if (each.next!.fresh !== undefined) each.history = intern(-1, each.next!.fresh)
  }

  /** Lets a thread take its next step in one of its ways. */
  move([index, way]: readonly [number, number]): void {
    const each = this.running[index]!
    if (this.#tell) {
      const { label, at, ways } = each.next!
      const where = at === undefined ? '' : ` ${this.world.nameOf(at)}`
      this.schedule.push(`${each.thread.name}: ${label}${where}${ways ? ` (${way})` : ''}`)
    }
    each.history = intern(each.history, -1 - way)
    each.taken++
    this.#advance(each, way)
  }

  moves(): [number, number][] {
    return this.running.flatMap(({ next }, index) => {
      if (!next || (next.ready && !next.ready())) return []
      return Array.from({ length: next.ways ?? 1 }, (_, way): [number, number] => [index, way])
    })
  }

  key(): string {
    return `${this.world.key()}|${this.running.map(({ history }) => history).join(',')}`
  }

  get stuck(): string | null {
    const waiting = this.running.find(({ next, thread }) => next && !thread.daemon)
    return waiting ? `${waiting.thread.name} waits for ever: ${waiting.next!.label}` : null
  }
}

/** Explores all interleavings up to the first flaw. @throws Error beyond `limit` states: an exploration is whole or none. */
export function exploreRuns(make: () => World, limit = 400_000): Outcome {
  const seen = new Set<string>()
  const outcome: Outcome = { states: 0, ends: 0, longest: {}, flaw: null }
  const pending: { run: Run | null; path: Path | null }[] = [{ run: new Run(make), path: null }]
  while (pending.length) {
    const { run: alive, path } = pending.pop()!
    const run = alive ?? replay(make, path)
    let what: string | null = null
    const key = run.key()
    if (seen.has(key)) continue
    seen.add(key)
    if (seen.size > limit) throw new Error(`more than ${limit} states: the scenario is too large for this test`)
    for (const { thread, taken } of run.running)
      outcome.longest[thread.name] = Math.max(outcome.longest[thread.name] ?? 0, taken)
    const moves = run.moves()
    what = run.world.invariant?.() ?? null
    if (!what && !moves.length) {
      outcome.ends++
      what = run.stuck ?? run.world.verdict()
    }
    if (what) {
      outcome.flaw = { what, schedule: replay(make, path, true).schedule }
      break
    }
    // The last move goes on with this run; the others begin anew when their time comes.
    for (const move of moves.slice(0, -1)) pending.push({ run: null, path: { move, before: path } })
    const last = moves.at(-1)
    if (!last) continue
    run.move(last)
    pending.push({ run, path: { move: last, before: path } })
  }
  outcome.states = seen.size
  return outcome
}

/** The moves that lead to a state, last first. */
interface Path {
  readonly move: readonly [number, number]
  readonly before: Path | null
}

function replay(make: () => World, path: Path | null, tell = false): Run {
  const run = new Run(make, tell)
  const moves: (readonly [number, number])[] = []
  for (let at = path; at; at = at.before) moves.push(at.move)
  for (let i = moves.length - 1; i >= 0; i--) run.move(moves[i]!)
  return run
}
