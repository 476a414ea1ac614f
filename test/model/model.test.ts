/**
 * The library against the reference, in random sequences: channels that come and go, sends from both ends, masks,
 * unmasks, scans of several vCPUs with buffers of any size, registrations in the middle, resets. Every depth, width and
 * build. A failure prints fast-check's seed; EVTCHN_SEED repeats it, EVTCHN_RUNS asks for more runs.
 */

import fc from 'fast-check'
import { describe, it } from 'vitest'
import { givenSeed, runsOr } from '../settings.js'
import { type Command, type Form, Machine, newMemory } from './machine.js'

const FORMS: Form[] = [
  { bits: 64, levels: 2, nrPages: 0 },
  { bits: 64, levels: 3, nrPages: 2 },
  { bits: 64, levels: 4, nrPages: 2 },
  { bits: 32, levels: 2, nrPages: 0 },
  { bits: 32, levels: 3, nrPages: 1 },
  { bits: 32, levels: 4, nrPages: 2 },
  { bits: 32, levels: 5, nrPages: 2 },
]

const RUNS = runsOr(30)

/** How often each command is drawn. */
const WEIGHTS: Record<Command['do'], number> = {
  ipi: 4,
  timer: 1,
  unbound: 2,
  connect: 4,
  peerJoins: 2,
  peerCloses: 1,
  peerSends: 8,
  raiseTimer: 2,
  send: 10,
  sendMany: 3,
  close: 2,
  move: 5,
  status: 1,
  mask: 5,
  unmask: 6,
  unmaskLocally: 5,
  scan: 14,
  selectors: 3,
  register: 4,
  spread: 1,
  reset: 1,
  query: 1,
}

const command: fc.Arbitrary<Command> = fc.oneof(
  ...Object.entries(WEIGHTS).map(([name, weight]) => ({
    weight,
    arbitrary: fc.record({
      do: fc.constant(name as Command['do']),
      a: fc.nat(name === 'spread' ? 2 : 0xffff),
      b: fc.nat(0xffff),
    }),
  })),
)

/** How a sequence begins: from nothing, or in the deep tree with ports all over it; very many ports take their time. */
const deep = (size: number): Command[] => [
  { do: 'register', a: 7, b: 0 },
  { do: 'spread', a: size, b: 0 },
]
const beginning: fc.Arbitrary<Command[]> = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Command[]>([]) },
  { weight: 6, arbitrary: fc.constantFrom(0, 1, 2).map(deep) },
  { weight: 1, arbitrary: fc.constantFrom(3, 4).map(deep) },
)

describe.each([{ shared: false }, { shared: true }])('shared memory: $shared', ({ shared }) => {
  it.each(FORMS)('NL-tree-3, NL-scan-3, NL-set-1: $bits bits and $levels levels do what the reference does', (form) => {
    const memory = newMemory(shared)
    const commands = fc.array(command, { minLength: 1, maxLength: 80, size: 'max' })
    const property = fc.property(beginning, commands, (first, then) => {
      const machine = new Machine(form, memory)
      for (const each of [...first, ...then]) machine.run(each)
    })
    fc.assert(property, { numRuns: RUNS, ...(givenSeed === undefined ? {} : { seed: givenSeed }) })
  })
})
