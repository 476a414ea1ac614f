/** The rules of FIFO’s links and queue locks, and of what other operations do on it. */

import { describe, expect, it } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import { QUEUES_SHIFT } from '../../src/machine/host_layout.js'
import { BUSY, LINK, LINKED, MASKED, PENDING } from './event_word.js'
import { runThrough } from './steps.js'
import { at, consume, fifo, has, head, send, setWord, word } from './words.js'
import { FifoWorld } from './world.js'

describe('queue locks', () => {
  it('EC-lock-5: a raise locks the old queue and the new one, one queue once, and leaves none locked', () => {
    const world = new FifoWorld({ ports: 1, vcpus: 2 })
    world.table.setNotifyVcpu(1, 1)
    const raise = () => {
      const taken: number[] = []
      runThrough(world.ops.setPending(1), ({ label, at }) => {
        if (label === 'lock') taken.push(at!)
      })
      expect(world.held.size).toBe(0)
      world.setWord(1, 0)
      return taken
    }
    const first = raise()
    const second = raise()
    // The lower address first: queue 0 of vCPU 0, then queue 7 of vCPU 1; then that one alone.
    expect(first[1]! - first[0]!).toBe((1 << QUEUES_SHIFT) + 7 * 4)
    expect(second).toEqual([first[1]])
    expect(world.table.lastQueue(1)).toBe((1 << 16) | 7)
  })
})

describe('set_link', () => {
  /** Links port 2 behind port 1; `guest` acts before each swap, by its number. */
  function race(guest: (world: FifoWorld, swap: number) => void) {
    const world = new FifoWorld({ ports: 2 })
    world.preload(1)
    const busy: boolean[] = []
    runThrough(world.ops.setPending(2), ({ label }) => {
      if (!label.startsWith('swap')) return
      busy.push((world.word(1) & BUSY) !== 0)
      guest(world, busy.length)
    })
    return { world, busy, tailWord: world.word(1), head: world.memory.words[(world.block(0) + 8) / 4 + 7]! }
  }

  it('EC-fifo-17: undisturbed, one swap sets LINK and nothing else', () => {
    const { busy, tailWord } = race(() => {})
    expect([busy, tailWord]).toEqual([[false], PENDING | LINKED | 2])
  })

  it('EC-fifo-18: a lost swap sets BUSY for the next attempts, and success clears it', () => {
    const { busy, tailWord, world } = race((world, swap) => {
      if (swap <= 2) world.setWord(1, world.word(1) ^ MASKED)
    })
    expect([busy, tailWord, world.state.fought]).toEqual([[false, true, true], PENDING | LINKED | 2, 0])
  })

  it('EC-fifo-18: a tail that the guest consumes meanwhile makes a new head, without BUSY', () => {
    const { tailWord, head } = race((world, swap) => {
      if (swap === 1) world.setWord(1, PENDING)
    })
    expect([tailWord, head]).toEqual([PENDING, 2])
  })

  it('EC-fifo-19: lost for good, BUSY is cleared and no head is written: the event is the guest’s loss', () => {
    const { busy, tailWord, head, world } = race((world) => world.setWord(1, world.word(1) ^ MASKED))
    expect([busy.length, tailWord & (BUSY | LINK), head, world.state.fought]).toEqual([5, 0, 1, 1])
    expect(world.state.tail(0, 7)).toBe(2)
  })
})

describe('other operations', () => {
  it('EC-fifo-20: closing clears PENDING only: what is queued behind the port is still found through it', () => {
    const { d1 } = fifo({})
    const [a, b] = [d1.ipi(), d1.ipi()]
    for (const port of [a, b]) send(d1, port)
    d1.must('close', { port: a })
    expect([word(d1, a), head(d1)]).toEqual([LINKED | b, a])
  })

  it('EC-fifo-22: pending and masked are bits of the word; without a page a port is not pending, and masked', () => {
    const { d1 } = fifo({})
    for (let port = 1; port <= 1024; port++) d1.ipi()
    const { domain } = d1
    expect([domain.isPending(1024), domain.isMasked(1024), inside(domain).portOps.isBusy!(1024)]).toEqual([
      false,
      true,
      false,
    ])
    expect([domain.isPending(1), domain.isMasked(1)]).toEqual([false, false])
    setWord(d1, 1, PENDING | MASKED)
    expect([domain.isPending(1), domain.isMasked(1), inside(domain).portOps.isBusy!(1)]).toEqual([true, true, false])
    setWord(d1, 1, LINKED)
    expect([domain.isPending(1), domain.isMasked(1), inside(domain).portOps.isBusy!(1)]).toEqual([false, false, true])
  })

  it('EC-dump-7: six characters: `?` without a page, B if BUSY, then LINK or a dash, wider if LINK needs it', () => {
    const { xen, d1 } = fifo({})
    for (let port = 1; port <= 1024; port++) d1.ipi()
    const words = [0, LINKED, LINKED | BUSY | 131070, PENDING | LINKED | 1234, BUSY | 77, MASKED | LINKED | 12345]
    for (const [i, word] of words.entries()) setWord(d1, i + 1, word)
    const lines = [...xen.dump({ domid: 1 })].map((line) => line.slice(0, line.indexOf(':')))
    const from = lines.findIndex((line) => line.startsWith('       1 ['))
    expect([...lines.slice(from, from + words.length), lines.at(-1)]).toEqual([
      '       1 [0/0/  -   ]',
      '       2 [0/0/  0   ]',
      '       3 [0/0/B 131070]',
      '       4 [1/0/  1234]',
      '       5 [0/0/B -   ]',
      '       6 [0/1/  12345]',
      '    1024 [0/1/?     ]',
    ])
  })

  it('EC-fifo-23: a bind gives the local end priority 7, and leaves that of the remote end and of a Xen-attached port', () => {
    const { xen, d1 } = fifo({})
    const remote = d1.unbound(1)
    d1.must('set_priority', { port: remote, priority: 3 })
    const stale = d1.ipi()
    d1.must('set_priority', { port: stale, priority: 9 })
    d1.must('close', { port: stale })
    const local = d1.must('bind_interdomain', { remote_dom: 1, remote_port: remote }).local_port
    const { ports } = inside(d1.domain)
    expect([local, ports.priority(local), ports.priority(remote)]).toEqual([stale, 7, 3])
    d1.must('set_priority', { port: local, priority: 9 })
    // Its own spurious event is still queued (EC-inter-8).
    consume(d1, local)
    d1.must('close', { port: local })
    const attached = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {} })
    expect([attached, ports.priority(attached)]).toEqual([local, 9])
  })

  it('EC-fifo-27: the guest clears MASKED by itself, and calls Xen for what is pending then', () => {
    const { d1 } = fifo({})
    const { core, memory } = inside(d1.domain)
    const [idle, due] = [d1.ipi(), d1.ipi()]
    for (const port of [idle, due]) setWord(d1, port, MASKED)
    send(d1, due)
    expect([idle, due].map((port) => core.fifoUnmask(memory.base + at(port)))).toEqual([0, 1])
    expect([word(d1, idle), word(d1, due)]).toEqual([0, PENDING])
    d1.must('unmask', { port: due })
    expect([head(d1), has(d1, due, LINKED)]).toEqual([due, true])
  })

  it('EC-fifo-29, EC-odd-12: what an offline vCPU left on its queue stays taken until the guest drains it', () => {
    const { d1 } = fifo({})
    const port = d1.ipi(1)
    inside(d1.domain.vcpu(1)).down = true
    send(d1, port)
    d1.must('close', { port })
    expect(d1.ipi(0)).toBe(port + 1)
    consume(d1, port)
    expect(d1.ipi(0)).toBe(port)
  })
})
