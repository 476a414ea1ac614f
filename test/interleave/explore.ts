/**
 * Every interleaving of a few threads over a small shared memory, by explicit state exploration.
 *
 *     cells      pending | mask | level 1 | level 2 | flag | pc of a sender | its locals | pc of a scan | …
 *                   4       4       2         4       1          4               3             4
 *     packed     |<------------------- 32 bits ------------------->|<------------------- 32 bits ---- …
 *
 * A state is a vector of small unsigned cells: the shared memory and, for every thread, its program counter and live
 * locals. A step is exactly one atomic memory operation plus the computation up to the next one, so the paths through
 * the graph of states are all sequentially consistent executions, no more and no fewer. Weak memory is out of reach:
 * nothing here tells apart two orders that differ only in what a store buffer may delay (the reason of NL-set-2 for
 * taking the read-modify-write on the leaf at once).
 *
 * Depth first, with a visited set of packed states. The only reductions are these, both exact:
 *   - a thread sets its locals to 0 when it needs them no more, so states that differ in dead values only are one;
 *   - computation that touches no shared cell belongs to the memory operation before it.
 * Depth first rather than breadth first because the path to a state that is entered again while still on the stack is a
 * cycle: an execution that never ends. A model without one terminates under every schedule, fair or not.
 */

/** One value per cell. */
export type State = Int32Array

/** The cells of a state and where each lies in the packed form. A cell never straddles two words. */
export class Layout {
  readonly #bits: number[] = []
  readonly #word: number[] = []
  readonly #shift: number[] = []
  #used = 0

  /** A new cell of 1 to 32 bits. */
  cell(bits: number): number {
    if ((this.#used & 31) + bits > 32) this.#used = (this.#used + 31) & ~31
    this.#bits.push(bits)
    this.#word.push(this.#used >>> 5)
    this.#shift.push(this.#used & 31)
    this.#used += bits
    return this.#bits.length - 1
  }

  /** Cells of a state. */
  get cells(): number {
    return this.#bits.length
  }

  /** Words of a packed state. */
  get words(): number {
    return (this.#used + 31) >>> 5
  }

  /** Packs `state` into `into` at `at`. @throws RangeError if a value does not fit: a mistake in the model. */
  pack(state: State, into: Int32Array, at: number): void {
    const bits = this.#bits
    const words = this.#word
    const shifts = this.#shift
    let word = 0
    let packed = 0
    for (let i = 0; i < bits.length; i++) {
      const value = state[i]!
      if (value >>> bits[i]!) throw new RangeError(`cell ${i} of ${bits[i]} bits holds ${value}`)
      if (words[i] !== word) {
        into[at + word] = packed
        packed = 0
        word++
      }
      packed |= value << shifts[i]!
    }
    into[at + word] = packed
  }
}

/** Set of packed states, numbered in order of arrival. Open addressing over typed arrays. */
class StateSet {
  readonly #layout: Layout
  readonly #words: number
  #keys: Int32Array
  #slots: Int32Array
  size = 0

  constructor(layout: Layout) {
    this.#layout = layout
    this.#words = layout.words
    this.#keys = new Int32Array(this.#words << 12)
    this.#slots = new Int32Array(1 << 13)
  }

  /** Number of the state; it is new if the number is the size before the call. */
  add(state: State): number {
    const at = this.size * this.#words
    if (at === this.#keys.length) this.#grow()
    this.#layout.pack(state, this.#keys, at)
    const slot = this.#find(at)
    const found = this.#slots[slot]!
    if (found) return found - 1
    this.#slots[slot] = ++this.size
    return this.size - 1
  }

  /** Slot of the key at `at`: the one that holds an equal key, else the free one where it belongs. */
  #find(at: number): number {
    const keys = this.#keys
    const words = this.#words
    let hash = 0
    for (let i = 0; i < words; i++) {
      hash = Math.imul(hash ^ keys[at + i]!, 0x9e3779b1)
      hash ^= hash >>> 15
    }
    const last = this.#slots.length - 1
    for (let slot = hash & last; ; slot = (slot + 1) & last) {
      const other = this.#slots[slot]!
      if (!other) return slot
      const from = (other - 1) * words
      let i = 0
      while (i < words && keys[from + i] === keys[at + i]) i++
      if (i === words) return slot
    }
  }

  #grow(): void {
    const keys = new Int32Array(this.#keys.length * 2)
    keys.set(this.#keys)
    this.#keys = keys
    this.#slots = new Int32Array(this.#slots.length * 2)
    for (let i = 0; i < this.size; i++) this.#slots[this.#find(i * this.#words)] = i + 1
  }
}

/** A thread of the model. Its state is in cells; the object itself is constant. */
export interface Thread {
  readonly name: string
  /** In how many ways its next step can go; 0 if it is at rest or waits for another thread. */
  ways(state: State): number
  /** It has ended, or it has nothing to do: no reason to worry if nobody ever goes on. */
  atRest(state: State): boolean
  /** Takes the next step, in place. */
  step(state: State, way: number): void
  /** What the next step does, for schedules. */
  label(state: State): string
}

/** What to explore. */
export interface Problem {
  readonly layout: Layout
  readonly threads: readonly Thread[]
  /** Beginnings; one state per choice that is made before the first step. */
  readonly initial: readonly State[]
  /** What is wrong with a state in which no thread can go on and all are at rest; null = nothing. */
  readonly verdict: (state: State) => string | null
}

/** What is wrong and how it comes to that. */
export interface Flaw {
  readonly what: string
  /** One line a step. */
  readonly schedule: readonly string[]
}

/** Outcome of an exploration. */
export interface Result {
  /** Distinct states seen: all that are reachable, unless there is a flaw. */
  readonly states: number
  /** Those of them in which no thread can go on. */
  readonly ends: number
  readonly flaw: Flaw | null
}

/** The flaw of an execution that comes back to a state it was in. */
export const ENDLESS = 'the schedule repeats itself and never ends'
/** The flaw of an execution in which threads wait for each other. */
export const STUCK = 'nobody can go on, but some have not ended'

/** One state of the current path and the move that is tried from it. */
interface Frame {
  readonly state: State
  number: number
  thread: number
  way: number
  ways: number
  moved: boolean
}

/**
 * Explores every schedule until the first flaw. With `cycles` false, endless schedules are not a flaw (for models that
 * are known to be wrong and are searched for one kind of error).
 * @throws Error if there are more than `limit` states: an exploration is whole or it is none.
 */
export function explore(problem: Problem, { limit = 1_000_000, cycles = true } = {}): Result {
  const { layout, threads, verdict } = problem
  const seen = new StateSet(layout)
  let onPath = new Uint8Array(1 << 12)
  const frames: Frame[] = []
  let ends = 0

  const flawed = (what: string, depth: number): Result => {
    const path = frames.slice(0, depth + 1).filter((frame) => frame.thread < threads.length)
    const schedule = path.map(({ state, thread }) => `${threads[thread]!.name}: ${threads[thread]!.label(state)}`)
    return { states: seen.size, ends, flaw: { what, schedule } }
  }
  const frameAt = (depth: number): Frame => {
    frames[depth] ??= { state: new Int32Array(layout.cells), number: 0, thread: 0, way: 0, ways: -1, moved: false }
    return frames[depth]
  }
  /** Enters the state at `depth` if it is new. Answers its number if it is not, else -1. */
  const enter = (depth: number): number => {
    const frame = frameAt(depth)
    const before = seen.size
    const number = seen.add(frame.state)
    if (number < before) return number
    if (number >= limit) throw new Error(`more than ${limit} states: the model is too large for this test`)
    if (number === onPath.length) {
      const longer = new Uint8Array(number * 2)
      longer.set(onPath)
      onPath = longer
    }
    frame.number = number
    frame.thread = 0
    frame.way = 0
    frame.ways = -1
    frame.moved = false
    onPath[number] = 1
    return -1
  }

  for (const first of problem.initial) {
    frameAt(0).state.set(first)
    if (enter(0) >= 0) continue
    let depth = 0
    while (depth >= 0) {
      const frame = frames[depth]!
      if (!nextMove(frame, threads)) {
        if (!frame.moved) {
          ends++
          const stuck = threads.some((thread) => !thread.atRest(frame.state))
          const what = stuck ? STUCK : verdict(frame.state)
          if (what !== null) return flawed(what, depth)
        }
        onPath[frame.number] = 0
        depth--
        continue
      }
      const { state } = frameAt(depth + 1)
      state.set(frame.state)
      threads[frame.thread]!.step(state, frame.way++)
      frame.moved = true
      const known = enter(depth + 1)
      if (known < 0) depth++
      else if (cycles && onPath[known]) return flawed(ENDLESS, depth)
    }
  }
  return { states: seen.size, ends, flaw: null }
}

/** Moves on to the next thread that can go in a way not tried yet; false if there is none. */
function nextMove(frame: Frame, threads: readonly Thread[]): boolean {
  for (; frame.thread < threads.length; frame.thread++) {
    if (frame.ways < 0) frame.ways = threads[frame.thread]!.ways(frame.state)
    if (frame.way < frame.ways) return true
    frame.way = 0
    frame.ways = -1
  }
  return false
}
