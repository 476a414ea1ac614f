/** Rules of the FIFO ABI one by one: what a raise writes, where, and what it leaves alone (spec part 4). */

import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { DomainOptions, Vcpu } from '../../src/index.js'
import { QUEUES_SHIFT } from '../../src/machine/host_layout.js'
import { frameRefs } from '../../src/machine/memory.js'
import { FREE_GFN, type Guest, host } from '../ops/raw.js'
import { runThrough } from './steps.js'
import { BUSY, FifoWorld, LINK, LINKED, MASKED, PENDING } from './world.js'

const BLOCKS = FREE_GFN
/** Frames of the event array, as many as a test asks for. */
const ARRAY = FREE_GFN + 1
const blockAt = (vcpu: number) => BLOCKS * PAGE_SIZE + vcpu * 128

/** d1 on FIFO, with control blocks for these vCPUs and this many pages of the array. */
function fifo({ blocks = [0, 1], pages = 1, ...each }: Partial<DomainOptions> & { blocks?: number[]; pages?: number }) {
  const upcalls: string[] = []
  const upcall = ({ domid, vcpuId }: Vcpu) => void (domid === 1 && upcalls.push(`v${vcpuId}`))
  const all = host(64, { trace: { upcall } }, { maxEvtchnPort: 3000, ...each })
  const { d1 } = all
  for (const vcpu of blocks) d1.must('init_control', { control_gfn: BLOCKS, offset: vcpu * 128, vcpu })
  for (let page = 0; page < pages; page++) d1.must('expand_array', { array_gfn: ARRAY + page })
  return { ...all, upcalls }
}
const at = (port: number) => ARRAY * PAGE_SIZE + port * 4
const word = (guest: Guest, port: number) => guest.view.getUint32(at(port), true) | 0
const setWord = (guest: Guest, port: number, value: number) => guest.view.setUint32(at(port), value >>> 0, true)
const link = (guest: Guest, port: number) => word(guest, port) & LINK
const has = (guest: Guest, port: number, bit: number) => (word(guest, port) & bit) !== 0
const ready = (guest: Guest, vcpu = 0) => guest.view.getUint32(blockAt(vcpu), true)
const setReady = (guest: Guest, value: number, vcpu = 0) => guest.view.setUint32(blockAt(vcpu), value, true)
const head = (guest: Guest, vcpu = 0, priority = 7) => guest.view.getUint32(blockAt(vcpu) + 8 + 4 * priority, true)
const send = (guest: Guest, port: number) => guest.must('send', { port })
/** The guest takes an event off its queue; the handler's acknowledgement clears PENDING. */
const consume = (guest: Guest, port: number, handled = true) =>
  setWord(guest, port, word(guest, port) & ~(LINKED | LINK | (handled ? PENDING : 0)))

describe('geometry', () => {
  it('EC-fifo-1: port p is word p % 1024 of page p / 1024, up to 131,072 ports; the block has ready, then 16 heads', () => {
    const { d1 } = fifo({ pages: 2 })
    expect(inside(d1.domain).maxEvtchns).toBe(131072)
    for (let port = 1; port <= 1030; port++) d1.ipi()
    for (const [port, priority] of [
      [1030, 15],
      [1023, 0],
    ] as const) {
      d1.must('set_priority', { port, priority })
      send(d1, port)
      expect(d1.view.getUint32((ARRAY + Math.floor(port / 1024)) * PAGE_SIZE + (port % 1024) * 4, true) >>> 31).toBe(1)
      expect(d1.view.getUint32(blockAt(0) + 8 + 4 * priority, true)).toBe(port)
    }
    expect(ready(d1)).toBe(0x8001)
  })

  it('EC-fifo-2: each vCPU and priority has a queue of its own', () => {
    const { d1 } = fifo({})
    const ports = [0, 0, 1, 1].map((vcpu, i) => {
      const port = d1.ipi(vcpu)
      d1.must('set_priority', { port, priority: i % 2 ? 3 : 7 })
      send(d1, port)
      return port
    })
    expect([head(d1, 0, 7), head(d1, 0, 3), head(d1, 1, 7), head(d1, 1, 3)]).toEqual(ports)
    expect(ports.map((port) => link(d1, port))).toEqual([0, 0, 0, 0])
  })

  it('EC-fifo-2: the tail is Xen’s own: a guest that overwrites its heads does not change where an event goes', () => {
    const { d1 } = fifo({})
    const [first, second] = [d1.ipi(), d1.ipi()]
    send(d1, first)
    d1.view.setUint32(blockAt(0) + 8 + 28, 2999, true)
    send(d1, second)
    expect([link(d1, first), d1.view.getUint32(blockAt(0) + 8 + 28, true)]).toEqual([second, 2999])
  })
})

describe('init_control and expand_array', () => {
  it('EC-init-9: the first success sets existing ports up and gives them priority 7', () => {
    const { d1 } = host(64)
    const port = d1.ipi()
    send(d1, port)
    d1.must('init_control', { control_gfn: BLOCKS, offset: 0, vcpu: 0 })
    expect([inside(d1.domain).ports.priority(port), inside(d1.domain).levels]).toEqual([7, 0])
    expect(inside(d1.domain).ports.savedPending(port)).toBe(true)
  })

  it('EC-init-10: a later call maps that vCPU’s block only, and none can be moved (EINVAL) nor let go before a reset', () => {
    const { d1 } = fifo({ blocks: [0], pages: 0 })
    const onV1 = d1.ipi(1)
    d1.must('expand_array', { array_gfn: ARRAY })
    send(d1, onV1)
    expect(has(d1, onV1, PENDING)).toBe(false)
    expect(d1.answer('init_control', { control_gfn: BLOCKS + 3, offset: 0, vcpu: 0 })).toBe('EINVAL')
    d1.must('init_control', { control_gfn: BLOCKS, offset: 128, vcpu: 1 })
    send(d1, onV1)
    expect([head(d1, 1), frameRefs(d1.domain.memory).references(BLOCKS)]).toEqual([onV1, 2])
    d1.must('reset', { dom: 1 })
    expect(frameRefs(d1.domain.memory).references(BLOCKS)).toBe(0)
  })

  it('EC-expand-5: a new page raises the remembered events of its own range, each on its notify vCPU', () => {
    const { d1, upcalls } = fifo({ pages: 0 })
    for (let port = 1; port <= 1100; port++) d1.ipi(port & 1)
    for (const port of [5, 8, 1100]) send(d1, port)
    expect(upcalls).toEqual([])
    d1.must('expand_array', { array_gfn: ARRAY })
    expect([head(d1, 1), head(d1, 0), upcalls]).toEqual([5, 8, ['v1', 'v0']])
    consume(d1, 5)
    d1.must('expand_array', { array_gfn: ARRAY + 1 })
    expect([link(d1, 8), has(d1, 1100, PENDING), word(d1, 5)]).toEqual([1100, true, 0])
  })
})

describe('a raise', () => {
  it('EC-fifo-3, EC-odd-17: without a page it is remembered: no word is written and no poller woken', () => {
    const { d1, upcalls } = fifo({ pages: 0 })
    const port = d1.ipi()
    const before = d1.bytes.slice(BLOCKS * PAGE_SIZE)
    inside(d1.domain).startPoll(inside(d1.domain.vcpu(1)), port)
    send(d1, port)
    expect([inside(d1.domain).ports.savedPending(port), d1.domain.vcpu(1).polling, upcalls]).toEqual([true, true, []])
    expect(d1.bytes.slice(BLOCKS * PAGE_SIZE)).toEqual(before)
  })

  it('EC-fifo-4: the first queue that a port is taken from is that of vCPU 0, priority 0, which stays as it is', () => {
    const { d1 } = fifo({})
    const urgent = d1.ipi()
    d1.must('set_priority', { port: urgent, priority: 0 })
    send(d1, urgent)
    const port = d1.ipi(1)
    expect(inside(d1.domain).ports.lastQueue(port)).toBe(0)
    send(d1, port)
    expect([inside(d1.domain).fifo!.tail(0, 0), inside(d1.domain).fifo!.tail(1, 7)]).toEqual([urgent, port])
  })

  it('EC-fifo-6, EC-odd-17: without a control block it is dropped: PENDING stays clear and no poller is woken', () => {
    const { d1 } = fifo({ blocks: [1] })
    const port = d1.ipi(0)
    inside(d1.domain).startPoll(inside(d1.domain.vcpu(1)), port)
    send(d1, port)
    expect([word(d1, port), d1.domain.vcpu(1).polling, inside(d1.domain).ports.savedPending(port)]).toEqual([
      0,
      true,
      false,
    ])
  })

  it('EC-fifo-7: of an event that is PENDING but on no queue links it, and wakes no poller', () => {
    const { d1 } = fifo({})
    const port = d1.ipi()
    setWord(d1, port, PENDING)
    inside(d1.domain).startPoll(inside(d1.domain.vcpu(1)), port)
    send(d1, port)
    expect([has(d1, port, LINKED), head(d1), d1.domain.vcpu(1).polling]).toEqual([true, port, true])
  })

  it('EC-fifo-8, EC-fifo-16: a MASKED event is pending, on no queue, not READY, and its poller is woken', () => {
    const { d1, upcalls } = fifo({})
    const port = d1.ipi()
    setWord(d1, port, MASKED)
    inside(d1.domain).startPoll(inside(d1.domain.vcpu(1)), port)
    send(d1, port)
    expect([word(d1, port), ready(d1), head(d1), upcalls]).toEqual([PENDING | MASKED, 0, 0, []])
    expect(d1.domain.vcpu(1).polling).toBe(false)
  })

  it('EC-fifo-8: an event that is LINKED already is not queued again, nor is READY set', () => {
    const { d1 } = fifo({})
    const [port, other] = [d1.ipi(), d1.ipi()]
    for (const each of [port, other]) send(d1, each)
    setReady(d1, 0)
    setWord(d1, port, word(d1, port) & ~PENDING)
    send(d1, port)
    expect([word(d1, port) | 0, ready(d1), inside(d1.domain).fifo!.tail(0, 7)]).toEqual([
      PENDING | LINKED | other,
      0,
      other,
    ])
  })

  it('EC-fifo-9, EC-fifo-10: linked on another queue, it leaves no tail on the old one and remembers the new one', () => {
    const { d1 } = fifo({})
    const port = d1.unbound(1)
    const peer = d1.must('bind_interdomain', { remote_dom: 1, remote_port: port }).local_port
    send(d1, peer)
    expect([inside(d1.domain).ports.lastQueue(port), inside(d1.domain).fifo!.tail(0, 7)]).toEqual([7, port])
    consume(d1, port)
    d1.must('bind_vcpu', { port, vcpu: 1 })
    d1.must('set_priority', { port, priority: 2 })
    send(d1, peer)
    expect(inside(d1.domain).ports.lastQueue(port)).toBe((1 << 16) | 2)
    expect([inside(d1.domain).fifo!.tail(0, 7), inside(d1.domain).fifo!.tail(1, 2)]).toEqual([0, port])
  })

  it('EC-fifo-9: the old tail stays if it is another port’s', () => {
    const { d1 } = fifo({})
    const [port, later] = [d1.ipi(), d1.ipi()]
    for (const each of [port, later]) send(d1, each)
    consume(d1, port)
    d1.must('set_priority', { port, priority: 2 })
    send(d1, port)
    expect(inside(d1.domain).fifo!.tail(0, 7)).toBe(later)
  })

  it('EC-fifo-11, EC-fifo-13: behind a tail that is still linked it is linked, and becomes the tail', () => {
    const { d1 } = fifo({})
    const [a, b, c] = [d1.ipi(), d1.ipi(), d1.ipi()]
    for (const port of [b, a, c]) send(d1, port)
    expect([head(d1), link(d1, b), link(d1, a), link(d1, c), inside(d1.domain).fifo!.tail(0, 7)]).toEqual([
      b,
      a,
      c,
      0,
      c,
    ])
  })

  it('EC-fifo-12: behind a tail that was consumed it is the new head, and the consumed word keeps its bits', () => {
    const { d1 } = fifo({})
    const [a, b] = [d1.ipi(), d1.ipi()]
    send(d1, a)
    consume(d1, a, false)
    send(d1, b)
    expect([head(d1), word(d1, a), inside(d1.domain).fifo!.tail(0, 7)]).toEqual([b, PENDING, b])
  })

  it('EC-fifo-15: a new head upcalls if its READY bit was clear, and not if the guest has not looked yet', () => {
    const { d1, upcalls } = fifo({})
    const [a, b, c] = [d1.ipi(), d1.ipi(), d1.ipi()]
    send(d1, a)
    consume(d1, a)
    d1.setFlag(0)
    send(d1, b)
    expect([head(d1), d1.flag(), upcalls]).toEqual([b, 0, ['v0']])
    consume(d1, b)
    setReady(d1, 0)
    send(d1, c)
    expect([head(d1), d1.flag(), upcalls]).toEqual([c, 1, ['v0', 'v0']])
  })

  it('EC-prio-5: a queued event stays where it is; a new priority counts from the next linking on', () => {
    const { d1 } = fifo({})
    const port = d1.ipi()
    send(d1, port)
    d1.must('set_priority', { port, priority: 1 })
    send(d1, port)
    expect([head(d1, 0, 7), head(d1, 0, 1), ready(d1)]).toEqual([port, 0, 1 << 7])
    consume(d1, port)
    send(d1, port)
    expect([head(d1, 0, 1), ready(d1)]).toEqual([port, (1 << 7) | (1 << 1)])
  })
})

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
