/**
 * No event is lost on levels: the shipped code of both cores, senders and guest interleaved at every access to memory,
 * exhaustively. The other files here explore orders of steps that the code does not have; this one, the code.
 */

import { describe, expect, it } from 'vitest'
import { exploreRuns } from '../fifo/runs.js'
import { type Edit, readSources, type Sources } from '../fifo/steps.js'
import { ShippedWorld } from './shipped.js'

type Scenario = (levels: 2 | 3, sources?: Sources) => ShippedWorld

/** Ports 1 and 2 share a word of the leaf, 33 has another: two bits of the level above. */
const SCENARIOS: Record<string, Scenario> = {
  'two senders on one port, twice': (levels, sources) =>
    new ShippedWorld({ levels, ports: [1], sources }).sender('a', 1, 1).sender('b', 1).guest(),
  'two senders on two ports of one word': (levels, sources) =>
    new ShippedWorld({ levels, ports: [1, 2], sources }).sender('a', 1).sender('b', 2).guest(),
  'two senders on ports of two words, and a scan that takes one event a round': (levels, sources) =>
    new ShippedWorld({ levels, ports: [1, 33], sources }).sender('a', 1).sender('b', 33).guest(0, 1),
  'a masked port that is sent while it is unmasked': (levels, sources) =>
    new ShippedWorld({ levels, ports: [1], sources }).mask(1).unmasker(1).sender('a', 1).guest(),
  'a port that moves to another vCPU while it is sent': (levels, sources) =>
    new ShippedWorld({ levels, ports: [1], vcpus: 2, sources }).mover(1, 1).sender('a', 1).guest(0).guest(1),
  'a masked port that is unmasked and sent while it moves to another vCPU': (levels, sources) =>
    new ShippedWorld({ levels, ports: [1], vcpus: 2, sources })
      .mask(1)
      .mover(1, 1)
      .unmasker(1)
      .sender('a', 1)
      .guest(0)
      .guest(1),
  'a reset that closes two ports and one that is opened again, beside a sender': (levels, sources) =>
    new ShippedWorld({ levels, ports: [1, 2], sources }).locked().resetter(1, 2).sender('a', 1, 2).guest(),
  'a poller that marks itself and looks, beside a sender': (levels, sources) =>
    new ShippedWorld({ levels, ports: [1], sources }).poller(0, 1).sender('a', 1),
}

describe('the shipped steps of both cores on levels, at every interleaving', () => {
  for (const levels of [2, 3] as const)
    it.each(Object.keys(SCENARIOS))(`NL-set-1, NL-scan-1: %s: no event is lost (n = ${levels})`, (name) => {
      const { flaw, states, ends } = exploreRuns(() => SCENARIOS[name]!(levels))
      expect(flaw).toBeNull()
      expect(states).toBeGreaterThan(10)
      expect(ends).toBeGreaterThan(0)
    })
})

/** Another order, and the scenario that finds it. */
const MUTANTS: readonly (readonly [
  what: string,
  name: keyof typeof SCENARIOS,
  edits: Parameters<typeof readSources>[0],
])[] = [
  [
    'NL-scan-1: the flag is cleared after level 1 is taken',
    'two senders on ports of two words, and a scan that takes one event a round',
    {
      core: [
        [
          '  write<u8>(load<u32>(d, UPCALL), 0)\n  const top = take<T>(load<u32>(d, LEVEL1))\n',
          '  const top = take<T>(load<u32>(d, LEVEL1))\n  write<u8>(load<u32>(d, UPCALL), 0)\n',
        ],
      ] satisfies Edit[],
    },
  ],
  [
    'NL-set-1: the flag is raised before level 1',
    'two senders on one port, twice',
    {
      core: [
        [
          '  if (selectorSet(l1, port >>> (b * (n - 1)))) return 0\n  return markPending(upcall)\n',
          '  const edge = markPending(upcall)\n  if (selectorSet(l1, port >>> (b * (n - 1)))) return 0\n  return edge\n',
        ],
      ] satisfies Edit[],
    },
  ],
  [
    'EC-unmask-3, NL-unmask-1: pending is read before the mask is cleared',
    'a masked port that is sent while it is unmasked',
    {
      core: [
        [
          '  if (!(fetchAnd<u32>(wordOf(maskPage, port), ~bit) & bit)) return 0\n  return read<u32>(wordOf(pendingPage, port)) & bit ? 1 : 0\n',
          '  const due = read<u32>(wordOf(pendingPage, port)) & bit ? 1 : 0\n  return fetchAnd<u32>(wordOf(maskPage, port), ~bit) & bit ? due : 0\n',
        ],
      ] satisfies Edit[],
    },
  ],
  [
    'EC-poll-4, EC-up-11: the sender looks for pollers before its test-and-set',
    'a poller that marks itself and looks, beside a sender',
    {
      host: [
        [
          '  const leaf = leafOf(dom, port)\n  const found',
          '  const early = polled(dom)\n  const leaf = leafOf(dom, port)\n  const found',
        ],
        ['  return kick | polled(dom)\n}\n\n/** NL-unmask-1. No', '  return kick | early\n}\n\n/** NL-unmask-1. No'],
      ] satisfies Edit[],
    },
  ],
]

describe('another order of the same steps loses an event', () => {
  it.each(MUTANTS)('%s', (_, name, edits) => {
    const sources = readSources(edits)
    const flaws = ([2, 3] as const).map((levels) => exploreRuns(() => SCENARIOS[name]!(levels, sources)).flaw?.what)
    expect(flaws.join()).toMatch(/lost|waits for ever/)
  })
})
