/** The FIFO lines of the list of advisories and bugs, one regression test each. The names are those of the list. */

import { beforeEach, describe, expect, it } from 'vitest'
import {
  DOMID_SELF,
  EVTCHN_FIFO_LINKED,
  EVTCHN_FIFO_MASKED,
  EVTCHN_FIFO_PENDING,
  HYPERVISOR,
  PAGE_SIZE,
  SCHEDOP,
} from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type Domain, Errno, Hypervisor, type Vcpu, type XenError } from '../../src/index.js'
import { LINKED, PENDING } from './event_word.js'
import { exploreRuns } from './runs.js'
import { runThrough } from './steps.js'
import { FifoWorld } from './world.js'

const BLOCK = 3
const PAGE = 4

let xen: Hypervisor
let dom0: Domain
let domain: Domain
let upcalls: string[]
let onUnblock: (vcpu: Vcpu) => void

beforeEach(() => {
  upcalls = []
  onUnblock = () => {}
  xen = Hypervisor.create({
    trace: { upcall: ({ domid, vcpuId }) => void (domid && upcalls.push(`v${vcpuId}`)) },
    onUnblock: (vcpu) => onUnblock(vcpu),
  })
  dom0 = xen.createDomain({ domid: 0 })
  domain = xen.createDomain({ domid: 1, vcpus: 2, maxEvtchnPort: Infinity })
})

const init = (vcpu = 0, gfn = BLOCK) =>
  domain.eventChannelOp('init_control', { control_gfn: gfn, offset: vcpu * 128, vcpu })
const expand = (gfn = PAGE) => domain.eventChannelOp('expand_array', { array_gfn: gfn })
/** A port of the guest and dom0's end of it. */
function connect(): [port: number, remote: number] {
  const port = domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 }).port
  return [port, dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port }).local_port]
}
const send = (port: number) => dom0.eventChannelOp('send', { port })
const word = (port: number) => inside(domain).core.fifoWord(inside(domain).fifo!.wordAt(port)) >>> 0
const bit = (port: number, n: number) => (word(port) >>> n) & 1
const ready = (vcpu = 0) => domain.memory.data.getUint32(BLOCK * PAGE_SIZE + vcpu * 128, true)
const head = (priority: number, vcpu = 0) =>
  domain.memory.data.getUint32(BLOCK * PAGE_SIZE + vcpu * 128 + 8 + 4 * priority, true)
/** The guest takes an event off its queue and clears PENDING. */
function consume(port: number): void {
  const at = inside(domain).fifo!.wordAt(port)
  for (const each of [EVTCHN_FIFO_LINKED, EVTCHN_FIFO_PENDING]) inside(domain).core.bitClear(at, each)
  for (let n = 0; n < 17; n++) inside(domain).core.bitClear(at, n)
}
const errno = (body: () => unknown): number => {
  try {
    body()
    return 0
  } catch (error) {
    return (error as XenError).errno
  }
}

describe('advisories', () => {
  it('EC-XSA-107: an event for a vCPU without control block is dropped, target or old queue, and nothing breaks', () => {
    init(1)
    expand()
    const [port, remote] = connect()
    send(remote)
    expect([word(port), inside(domain).fifo!.dropped, upcalls]).toEqual([0, 1, []])
    // The old queue of a port is at first vCPU 0's, which still has no block.
    domain.eventChannelOp('bind_vcpu', { port, vcpu: 1 })
    send(remote)
    expect([bit(port, EVTCHN_FIFO_LINKED), upcalls]).toEqual([1, ['v1']])
  })

  it('EC-XSA-188, EC-init-9: after a failed first init_control nothing of FIFO remains', () => {
    for (const [control_gfn, offset, vcpu] of [
      [9999, 0, 0],
      [BLOCK, 4, 0],
      [BLOCK, 0, 7],
    ] as const) {
      expect(errno(() => domain.eventChannelOp('init_control', { control_gfn, offset, vcpu }))).toBeGreaterThan(0)
      expect(errno(() => expand())).toBe(Errno.EOPNOTSUPP)
      expect(errno(() => domain.eventChannelOp('set_priority', { port: 1, priority: 1 }))).toBe(Errno.ENOSYS)
      expect([inside(domain).fifo, domain.memory.heldFrames, inside(domain).maxEvtchns]).toEqual([null, 0, 4096])
    }
    init()
    expand()
    const [port, remote] = connect()
    send(remote)
    expect(head(7)).toBe(port)
  })

  it('EC-XSA-221: poll and status of ports that have no object or no page are refused or answered, not followed', () => {
    init()
    const view = domain.memory.data
    const poll = (port: number) => {
      view.setBigUint64(PAGE_SIZE * 5, BigInt(PAGE_SIZE * 5 + 64), true)
      view.setUint32(PAGE_SIZE * 5 + 8, 1, true)
      view.setBigUint64(PAGE_SIZE * 5 + 16, 1n, true)
      view.setUint32(PAGE_SIZE * 5 + 64, port, true)
      return xen.hypercall(domain.vcpu(0), HYPERVISOR.sched_op, [SCHEDOP.poll, PAGE_SIZE * 5])
    }
    for (let port = 32; port < 4200; port += 31) {
      expect(poll(port)).toBe(-Errno.EINVAL)
      if (port >= 64) expect(errno(() => domain.eventChannelOp('status', { dom: DOMID_SELF, port }))).toBe(Errno.EINVAL)
    }
    const [port] = connect()
    expect(poll(port)).toBe(0)
    expect(domain.vcpu(0).polling).toBe(true)
  })

  it('EC-XSA-295: a guest that fights for a word holds the hypervisor up for a bounded number of accesses', () => {
    // The whole of the argument is in hostile.test.ts; here the worst guest: it changes the tail before each swap.
    const world = new FifoWorld({ ports: 2 })
    world.preload(1)
    let accesses = 0
    runThrough(world.ops.setPending(2), ({ label }) => {
      if (label.startsWith('swap')) world.setWord(1, world.word(1) ^ PENDING)
      if (!label.startsWith('lock')) accesses++
    })
    expect([accesses, world.state.fought]).toEqual([12, 1])
    // Its own event is lost, and BUSY is gone.
    expect(world.word(1) & (LINKED | (1 << 28))).toBe(LINKED)
  })

  it('EC-XSA-342: the limit follows the ABI and is never kept', () => {
    const narrow = xen.createDomain({ domid: 2, bits: 32, maxEvtchnPort: Infinity })
    expect(inside(narrow).maxEvtchns).toBe(1024)
    narrow.eventChannelOp('init_control', { control_gfn: BLOCK, offset: 0, vcpu: 0 })
    for (let i = 1; i <= 1100; i++) narrow.eventChannelOp('bind_ipi', { vcpu: 0 })
    narrow.eventChannelOp('reset', { dom: DOMID_SELF })
    expect(inside(narrow).maxEvtchns).toBe(1024)
    const before = narrow.memory.view().slice(PAGE_SIZE, 2 * PAGE_SIZE)
    inside(narrow).portOps.setPending(1100)
    inside(narrow).portOps.unmask(1100)
    expect(narrow.memory.view().slice(PAGE_SIZE, 2 * PAGE_SIZE)).toEqual(before)
  })

  it('EC-XSA-358, EC-init-12: a control block is published with its sixteen queues ready for use', () => {
    init(1)
    init(0)
    expand()
    for (let priority = 0; priority < 16; priority++) {
      const [port, remote] = connect()
      domain.eventChannelOp('set_priority', { port, priority })
      send(remote)
      expect([head(priority), inside(domain).fifo!.tail(0, priority)]).toEqual([port, port])
    }
    expect(ready()).toBe(0xffff)
  })

  it('EC-XSA-359, EC-init-12: the array is there before the port operations that use it', () => {
    const seen: boolean[] = []
    const { useOps } = inside(domain)
    inside(domain).useOps = (ops) => {
      seen.push((inside(domain).fifo?.blockAt(0) ?? -1) >= 0)
      useOps.call(inside(domain), ops)
    }
    init()
    expect(seen).toEqual([true])
  })

  it('EC-XSA-505: expand_array looks at the FIFO state under the event lock', () => {
    init()
    let state = inside(domain).fifo
    const held: boolean[] = []
    Object.defineProperty(inside(domain), 'fifo', {
      get: () => {
        held.push(inside(domain).eventLock.held)
        return state
      },
      set: (value) => {
        state = value
      },
    })
    expand()
    expect(held).not.toContain(false)
    domain.eventChannelOp('reset', { dom: DOMID_SELF })
    expect(errno(() => expand())).toBe(Errno.EOPNOTSUPP)
  })
})

describe('bugs without an advisory', () => {
  it('EC-bug-2: setting LINK does not loop on what the guest writes', () => {
    // At most four swaps after the first, however the guest answers: see EC-XSA-295 and hostile.test.ts.
    const world = new FifoWorld({ ports: 2 })
    world.preload(1)
    let swaps = 0
    runThrough(world.ops.setPending(2), ({ label }) => {
      if (!label.startsWith('swap')) return
      swaps++
      world.setWord(1, (world.word(1) & ~0x1ffff) | swaps)
    })
    expect(swaps).toBe(5)
  })

  it('EC-bug-3: READY is set for a new head only', () => {
    init()
    expand()
    const [first, toFirst] = connect()
    const [second, toSecond] = connect()
    send(toFirst)
    domain.memory.data.setUint32(BLOCK * PAGE_SIZE, 0, true)
    send(toSecond)
    expect([ready(), head(7), word(first) & 0x1ffff, upcalls]).toEqual([0, first, second, ['v0']])
  })

  it('EC-bug-4: an event that comes before its page is delivered with the page', () => {
    init()
    const [port, remote] = connect()
    send(remote)
    expect([inside(domain).portOps.isPending(port), upcalls]).toEqual([false, []])
    expand()
    expect([bit(port, EVTCHN_FIFO_PENDING), head(7), upcalls]).toEqual([1, port, ['v0']])
  })

  it('EC-bug-4, EC-init-13: one that was pending on two levels is delivered too', () => {
    const [port, remote] = connect()
    send(remote)
    upcalls.length = 0
    inside(domain.vcpu(0)).setUpcallMask(0)
    domain.memory.poke8(inside(domain.vcpu(0)).info, 0)
    init()
    expand()
    expect([bit(port, EVTCHN_FIFO_PENDING), head(7), upcalls]).toEqual([1, port, ['v0']])
  })

  it('EC-bug-5: the tail of an old queue does not outlive the move of its event', () => {
    init(0)
    init(1)
    expand()
    const [port, remote] = connect()
    const [other, toOther] = connect()
    send(remote)
    consume(port)
    domain.eventChannelOp('bind_vcpu', { port, vcpu: 1 })
    send(remote)
    expect(inside(domain).fifo!.tail(0, 7)).toBe(0)
    // Were it kept, this event would be linked behind one that is on another vCPU's queue.
    send(toOther)
    expect([head(7, 0), word(port) & 0x1ffff]).toEqual([other, 0])
  })

  it('EC-bug-6: links and tails have 17 bits', () => {
    init()
    for (let page = 0; page < 66; page++) expand(10 + page)
    for (let i = 1; i < 66000; i++) domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    const ports = [66000, 66001].map(() => domain.eventChannelOp('bind_ipi', { vcpu: 0 }).port)
    for (const port of ports) domain.eventChannelOp('send', { port })
    expect([head(7), word(66000) & 0x1ffff, inside(domain).fifo!.tail(0, 7)]).toEqual([66000, 66001, 66001])
  })

  it('EC-bug-7, EC-close-10, EC-port-11: a closed port that is still linked is not given out again', () => {
    init()
    expand()
    const [port, remote] = connect()
    send(remote)
    domain.eventChannelOp('close', { port })
    expect([bit(port, EVTCHN_FIFO_PENDING), bit(port, EVTCHN_FIFO_LINKED)]).toEqual([0, 1])
    const [next] = connect()
    expect(next).toBe(port + 1)
    consume(port)
    const [again] = connect()
    expect(again).toBe(port)
  })

  it('EC-bug-7: where all that is free is linked, the answer is ENOSPC', () => {
    const small = xen.createDomain({ domid: 2, maxEvtchnPort: 3 })
    small.eventChannelOp('init_control', { control_gfn: BLOCK, offset: 0, vcpu: 0 })
    small.eventChannelOp('expand_array', { array_gfn: PAGE })
    for (let port = 1; port <= 3; port++) {
      small.eventChannelOp('bind_ipi', { vcpu: 0 })
      small.eventChannelOp('send', { port })
      small.eventChannelOp('close', { port })
    }
    expect(errno(() => small.eventChannelOp('bind_ipi', { vcpu: 0 }))).toBe(Errno.ENOSPC)
  })

  it('EC-bug-8, EC-fifo-16: a poller wakes when the event is linked, and for a masked one as well', () => {
    init()
    expand()
    const [port, remote] = connect()
    const woken: string[] = []
    onUnblock = () => woken.push(`${bit(port, EVTCHN_FIFO_LINKED)} ready ${ready()}`)
    inside(domain.vcpu(0)).setUpcallMask(1)
    inside(domain).startPoll(inside(domain.vcpu(1)), port)
    send(remote)
    expect(woken).toEqual(['1 ready 128'])
    consume(port)
    inside(domain).core.bitSet(inside(domain).fifo!.wordAt(port), EVTCHN_FIFO_MASKED)
    inside(domain).startPoll(inside(domain.vcpu(1)), port)
    send(remote)
    expect(woken.length).toBe(2)
    inside(domain).startPoll(inside(domain.vcpu(1)), port)
    send(remote)
    domain.eventChannelOp('unmask', { port })
    expect(woken.length).toBe(2)
  })

  it('EC-bug-12: a dropped event leaves PENDING clear, so the next one comes through', () => {
    init(1)
    expand()
    const [port, remote] = connect()
    send(remote)
    init(0)
    expect(bit(port, EVTCHN_FIFO_PENDING)).toBe(0)
    send(remote)
    expect([head(7), upcalls]).toEqual([port, ['v0']])
  })

  it('EC-bug-5, EC-bug-8 and the order of linking hold at every interleaving', () => {
    // The wrong orders are each found there: interleave.test.ts.
    const outcome = exploreRuns(() => new FifoWorld({ ports: 2 }).sender('a', 1).sender('b', 2).guest())
    expect(outcome.flaw).toBeNull()
  })
})

describe('rules that surprise', () => {
  it('EC-reset-11, EC-odd-20: two-level bits survive a stay in FIFO and swallow the first send after it', () => {
    const [port, remote] = connect()
    send(remote)
    init()
    domain.eventChannelOp('reset', { dom: DOMID_SELF })
    dom0.eventChannelOp('close', { port: remote })
    domain.memory.poke8(inside(domain.vcpu(0)).info, 0)
    upcalls.length = 0
    const [again, toAgain] = connect()
    expect([again, domain.isPending(again)]).toEqual([port, true])
    send(toAgain)
    expect(upcalls).toEqual([])
  })

  it('EC-expand-7, EC-odd-21: the mark of an early event is never taken back', () => {
    init()
    const [port, remote] = connect()
    send(remote)
    expand()
    domain.eventChannelOp('reset', { dom: DOMID_SELF })
    expect(inside(domain).ports.savedPending(port)).toBe(true)
    domain.memory.view().fill(0, BLOCK * PAGE_SIZE, (PAGE + 1) * PAGE_SIZE)
    init()
    expand()
    // The port is free, and its word says pending all the same.
    expect([inside(domain).ports.state(port), bit(port, EVTCHN_FIFO_PENDING), head(7)]).toEqual([0, 1, port])
  })

  it('EC-fifo-21: unmask by hypercall links what is pending, on the vCPU that the port is bound to', () => {
    init(0)
    init(1)
    expand()
    const [port, remote] = connect()
    inside(domain).core.bitSet(inside(domain).fifo!.wordAt(port), EVTCHN_FIFO_MASKED)
    send(remote)
    expect(ready()).toBe(0)
    domain.eventChannelOp('bind_vcpu', { port, vcpu: 1 })
    domain.eventChannelOp('unmask', { port })
    expect([head(7, 1), upcalls]).toEqual([port, ['v1']])
  })
})
