/**
 * No event is lost: the library's own code on both sides of a queue, senders and guest interleaved at every access to
 * guest memory and every queue lock, exhaustively.
 */

import { describe, expect, it } from 'vitest'
import { LINKED, MASKED, PENDING } from './event_word.js'
import { exploreRuns } from './runs.js'
import { type Edit, readSources, type Sources } from './steps.js'
import { FifoWorld } from './world.js'

/** Each scenario by name: a world and its threads. Small, but every pair of places meets. */
const SCENARIOS: Record<string, (sources?: Sources) => FifoWorld> = {
  'a sender and nobody else': (sources) => {
    const world = new FifoWorld({ ports: 1, sources }).sender('a', 1)
    world.verdict = () => world.wrong()
    return world
  },
  'a poller that marks itself and looks, beside a sender': (sources) =>
    new FifoWorld({ ports: 1, sources }).poller(0, 1).sender('a', 1),
  'a port that is closed and opened again, beside a sender': (sources) =>
    new FifoWorld({ ports: 1, sources }).locked().sender('a', 1).reopener(1).guest(),
  'a reset that closes two ports, and one that is opened again, beside a sender': (sources) => {
    const world = new FifoWorld({ ports: 2, sources }).locked().sender('a', 1, 2).reopener(1).guest()
    return world.add(
      'closer',
      world.excluding('close', () => world.close(2)),
    )
  },
  'a page of the event array that comes while a port of it is sent': (sources) =>
    new FifoWorld({ ports: 1, pages: false, sources }).sender('a', 1).expander(1).guest(),
  'two senders on two ports of one queue, and its consumer': (sources) =>
    new FifoWorld({ ports: 2, sources }).sender('a', 1).sender('b', 2).guest(),
  'two senders on one port, twice': (sources) =>
    new FifoWorld({ ports: 1, sources }).sender('a', 1, 1).sender('b', 1).guest(),
  'two senders that share two ports, and the consumer': (sources) =>
    new FifoWorld({ ports: 2, sources }).sender('a', 1, 2).sender('b', 2, 1).guest(),
  'two senders behind an event that is being consumed': (sources) => {
    const world = new FifoWorld({ ports: 3, sources })
    world.preload(3)
    return world.sender('a', 1).sender('b', 2).guest()
  },
  'the same, consumed in batches': (sources) => {
    const world = new FifoWorld({ ports: 3, sources })
    world.preload(3)
    return world.sender('a', 1).sender('b', 2).guest(0, 8)
  },
  'a sender of the tail itself beside a sender behind it': (sources) => {
    const world = new FifoWorld({ ports: 2, sources })
    world.preload(1)
    return world.sender('a', 1).sender('b', 2).guest()
  },
  'two priorities': (sources) => {
    const world = new FifoWorld({ ports: 2, sources })
    world.table.setPriority(1, 3)
    return world.sender('a', 1).sender('b', 2, 1).guest()
  },
  'a port whose priority changes between its sends': (sources) => {
    const world = new FifoWorld({ ports: 2, sources })
    world.add(
      'setter',
      (function* () {
        yield { label: 'set priority' }
        world.table.setPriority(1, 2)
      })(),
    )
    return world.sender('a', 1, 1).sender('b', 2).guest()
  },
  'a port that moves to another vCPU while it is queued': (sources) => {
    const world = new FifoWorld({ ports: 2, vcpus: 2, sources })
    world.preload(1)
    world.add(
      'mover',
      (function* () {
        yield { label: 'bind_vcpu' }
        world.table.setNotifyVcpu(1, 1)
      })(),
    )
    return world.sender('a', 1).sender('b', 2).guest(0).guest(1)
  },
  'a masked tail that is unmasked while another event is linked behind it': (sources) => {
    const world = new FifoWorld({ ports: 2, sources })
    world.preload(1)
    world.setWord(1, world.word(1) | MASKED)
    return world.unmasker(1).sender('b', 2).guest()
  },
  'a masked port that is unmasked and sent while its priority changes': (sources) => {
    const world = new FifoWorld({ ports: 1, sources })
    world.setWord(1, MASKED)
    return world.changes(1, { priority: 2 }).unmasker(1).sender('a', 1).guest()
  },
  'a masked port that is unmasked and sent while it moves to another vCPU': (sources) => {
    const world = new FifoWorld({ ports: 1, vcpus: 2, sources })
    world.setWord(1, MASKED)
    return world.changes(1, { vcpu: 1 }).unmasker(1).sender('a', 1).guest(0).guest(1)
  },
  'a masked port that is sent while it is unmasked': (sources) => {
    const world = new FifoWorld({ ports: 1, sources })
    world.setWord(1, MASKED)
    return world.unmasker(1).sender('a', 1).guest()
  },
}

describe('senders and guest, at every interleaving', () => {
  it.each(Object.keys(SCENARIOS))('%s: no event is lost', (name) => {
    const { flaw, states, ends } = exploreRuns(() => SCENARIOS[name]!())
    expect(flaw).toBeNull()
    expect(states).toBeGreaterThan(5)
    expect(ends).toBeGreaterThan(0)
  })

  it('a masked event stays where it is until it is unmasked', () => {
    const outcome = exploreRuns(() => {
      const world = new FifoWorld({ ports: 1 })
      world.setWord(1, MASKED)
      world.sender('a', 1).sender('b', 1).guest()
      world.verdict = () => (world.word(1) === (PENDING | MASKED) ? world.wrong() : 'the word changed')
      return world
    })
    expect(outcome.flaw).toBeNull()
  })

  it('priorities hold: an event of the first queue that is ready is never served after one that was linked later below it', () => {
    // Both are linked before the guest looks; whatever senders do meanwhile, 1 is served first.
    const outcome = exploreRuns(() => {
      const world = new FifoWorld({ ports: 3 })
      world.table.setPriority(1, 2)
      world.preload(2)
      world.setWord(1, PENDING | LINKED)
      world.state.setTail(0, 2, 1)
      world.table.setLastQueue(1, 2)
      world.memory.words[(world.block(0) + 8) / 4 + 2] = 1
      world.memory.words[world.block(0) / 4]! |= 4
      world.sender('a', 3).guest()
      world.remembersOrder = true
      const { verdict } = world
      world.verdict = () => (world.served[0] === 1 ? verdict() : `served ${world.served}`)
      return world
    })
    expect(outcome.flaw).toBeNull()
  })

  it('EC-fifo-4, EC-fifo-5, EC-lock-8: three changes of priority in a row drop the event, with PENDING clear', () => {
    let dropped = 0
    const outcome = exploreRuns(() => {
      const world = new FifoWorld({ ports: 1 })
      world.add(
        'setter',
        (function* () {
          for (const priority of [1, 2, 3, 4]) {
            yield { label: `set priority ${priority}` }
            world.table.setPriority(1, priority)
          }
        })(),
      )
      world.sender('a', 1).guest()
      world.verdict = () => {
        dropped += world.state.dropped
        if (world.state.dropped && world.word(1)) return 'a dropped event left its word changed'
        return world.lost() ?? (world.served.length + world.state.dropped === 1 ? null : 'neither served nor dropped')
      }
      return world
    })
    expect(outcome.flaw).toBeNull()
    expect(dropped).toBeGreaterThan(0)
  })
})

describe('what is explored is what ships, and an order that is wrong is found', () => {
  const flawOf = (edits: { core?: Edit[]; host?: Edit[] }, names = Object.keys(SCENARIOS)) => {
    const sources = readSources(edits)
    for (const name of names) {
      const { flaw } = exploreRuns(() => SCENARIOS[name]!(sources), 50_000)
      if (flaw) return flaw.what
    }
    return null
  }

  it.each<[string, { core?: Edit[]; host?: Edit[] }]>([
    [
      'the tail moved without a look at its word',
      { core: [['  if (!(word & LINKED)) return 0\n  let found', '  let found']] },
    ],
    [
      'LINK written without a compare',
      {
        core: [
          [
            'let found = compareExchange<u32>(tail, word, (word & ~(BUSY | LINK)) | port)',
            'write<u32>(tail, (word & ~(BUSY | LINK)) | port)\n  let found = word',
          ],
        ],
      },
    ],
    ['BUSY left up', { core: [['      fetchAnd<u32>(tail, ~BUSY)\n      return 0', '      return 0']] }],
    [
      'the guest unlinks without a compare',
      {
        core: [
          [
            'const found = compareExchange<u32>(word, old, old & ~(LINKED | LINK))',
            'const found = old\n        write<u32>(word, old & ~(LINKED | LINK))',
          ],
        ],
      },
    ],
    [
      'the flag cleared after ready is taken',
      {
        core: [
          ['  write<u8>(upcall, 0)\n', ''],
          ['  let served: i32 = 0\n  while', '  write<u8>(upcall, 0)\n  let served: i32 = 0\n  while'],
        ],
      },
    ],
    ['a full buffer that does not ask to be called again', { core: [['  if (ready) fetchOr<u8>(upcall, 1)\n', '']] }],
    [
      'LINKED before PENDING',
      {
        core: [
          [
            '  const fresh: i32 = fetchOr<u32>(word, PENDING) & PENDING ? 0 : 1\n  if (read<u32>(word) & MASKED) return fresh\n  return fetchOr<u32>(word, LINKED) & LINKED ? fresh : fresh | 2',
            '  const masked = read<u32>(word) & MASKED\n  const linked = masked || fetchOr<u32>(word, LINKED) & LINKED\n  const fresh = fetchOr<u32>(word, PENDING) & PENDING ? 0 : 1\n  return linked ? fresh : fresh | 2',
          ],
        ],
      },
    ],
    ['a head without READY', { host: [['linked == NEW_HEAD ? makeReady', 'linked == 99 ? makeReady']] }],
    [
      'READY before the head',
      {
        host: [
          ['linked == NEW_HEAD ? makeReady(dom, functions, block, queue) : 0', '0'],
          [
            '    linked = link(functions',
            '    if (load<u32>(to) == 0) makeReady(dom, functions, block, queue)\n    linked = link(functions',
          ],
        ],
      },
    ],
    ['EC-bug-5: a stale tail kept', { host: [['if (load<u32>(from) == port) store<u32>(from, 0)', '']] }],
    ['no lock', { host: [['    lockBoth(from, to, thread)\n', '']] }],
    [
      'EC-bug-8: pollers looked for before the event is there',
      {
        host: [
          [
            '  const found = call_indirect<i32>(functions + FIFO_RAISE, word)',
            '  const early = polled(dom)\n  const found = call_indirect<i32>(functions + FIFO_RAISE, word)',
          ],
          [
            'return found & NEWLY_PENDING ? kick | polled(dom) : kick',
            'return found & NEWLY_PENDING ? kick | early : kick',
          ],
        ],
      },
    ],
    ['a poller that leaves no mark', { host: [['  write<u32>(v + POLLING, 1)\n', '']] }],
  ])('%s', (_, edits) => {
    expect(flawOf(edits)).not.toBeNull()
  })
})
