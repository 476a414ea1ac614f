/** Rules of the FIFO ABI one by one: what a raise writes, where, and what it leaves alone (spec part 4). */

import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { frameRefs } from '../../src/machine/memory.js'
import { host } from '../ops/raw.js'
import { LINKED, MASKED, PENDING } from './event_word.js'
import {
  ARRAY,
  BLOCKS,
  blockAt,
  consume,
  fifo,
  has,
  head,
  link,
  ready,
  send,
  setReady,
  setWord,
  word,
} from './words.js'

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
