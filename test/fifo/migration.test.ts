/**
 * FIFO guests on the move (NL-mig-3, NL-mig-5): within one memory to another window, in their own place, with events in the
 * middle of their queues, on pages that come only afterwards; and states whose words the guest has spoiled before.
 */

import { describe, expect, it } from 'vitest'
import { EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_PENDING, PAGE_SIZE } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type Domain, GuestKernel, Hypervisor, type RestoreOptions } from '../../src/index.js'
import { throughJson } from '../migration/facts.js'

const FRAMES = 64
/** Windows of one memory: A, B and what is left over around them. */
const memoryOf = (shared: boolean) => new WebAssembly.Memory({ initial: 16, maximum: 16, shared })
const A = 2 * PAGE_SIZE
const B = A + (FRAMES + 3) * PAGE_SIZE

interface Moved {
  xen: Hypervisor
  memory: WebAssembly.Memory
  kernel: GuestKernel
  /** Names in the order in which their handlers ran. */
  order: string[]
  /** Dom0's end of each channel by name. */
  ends: Map<string, number>
  domain: Domain
}

/** A FIFO guest in window A with channels of several priorities, on the vCPUs that `channels` says. */
function world(
  channels: readonly { name: string; priority: number; vcpu?: number }[],
  { shared = false, bits = 64 as 32 | 64 } = {},
): Moved {
  const memory = memoryOf(shared)
  const kernels = new Map<number, GuestKernel>()
  const xen = Hypervisor.create({ onUpcall: ({ domid, vcpuId }) => void kernels.get(domid)?.upcall(vcpuId) })
  xen.createDomain({ domid: 0 })
  const domain = xen.createDomain({
    domid: 1,
    bits,
    vcpus: 2,
    frames: FRAMES,
    memory,
    base: A,
    maxEvtchnPort: Infinity,
  })
  const kernel = GuestKernel.boot(xen.platform(domain), { levels: 'fifo' })
  kernels.set(1, kernel)
  const at: Moved = { xen, memory, kernel, order: [], ends: new Map(), domain }
  for (const { name, priority, vcpu = 0 } of channels) open(at, name, priority, vcpu)
  at.order.length = 0
  return at
}

function open({ xen, kernel, order, ends }: Moved, name: string, priority: number, vcpu = 0): number {
  const port = kernel.allocUnbound(0, { name, priority, vcpu, handler: () => void order.push(name) })
  const bind = { remote_dom: 1, remote_port: port }
  ends.set(name, xen.domain(0)!.eventChannelOp('bind_interdomain', bind).local_port)
  return port
}

const send = ({ xen, ends }: Moved, ...names: string[]) => {
  for (const name of names) xen.domain(0)!.eventChannelOp('send', { port: ends.get(name)! })
}
const hold = ({ domain }: Moved, value: 0 | 1) => {
  for (const vcpu of domain.vcpus) inside(vcpu).setUpcallMask(value)
}
const upcalls = ({ kernel, domain }: Moved) => {
  for (const { vcpuId } of domain.vcpus) kernel.upcall(vcpuId)
}
const word = (domain: Domain, port: number, bit: number) =>
  inside(domain).core.bitTest(inside(domain).fifo!.wordAt(port), bit)

/** Replaces the guest on its own host; `meanwhile` happens while it is frozen. */
function replace(at: Moved, options: RestoreOptions, meanwhile = () => {}): Domain {
  const replaces = at.xen.beginMigration(at.xen.domain(1)!, { mode: 'transparent' })
  meanwhile()
  at.domain = at.xen.restoreDomain(throughJson(replaces.state), { ...options, replaces })
  at.kernel.moveTo(at.xen.platform(at.domain))
  at.xen.startDomain(at.xen.domain(1)!)
  return at.domain
}

const QUEUED = [
  { name: 'low', priority: 12 },
  { name: 'first', priority: 7 },
  { name: 'second', priority: 7 },
  { name: 'third', priority: 7 },
  { name: 'high', priority: 2 },
  { name: 'quiet', priority: 7 },
] as const

describe.each([false, true])('shared memory: %s', (shared) => {
  it.each([
    ['to another window', B],
    ['into its own window', A],
  ])('NL-mig-3, EC-fifo-14: moved %s in mid-queue, the order of every queue is kept', (_, base) => {
    const at = world(QUEUED, { shared })
    hold(at, 1)
    send(at, 'low', 'third', 'first', 'second', 'high', 'first')
    const tails = inside(at.domain).fifo!.toJSON().queues
    replace(at, { memory: at.memory, base })
    expect([at.domain.memory.base, inside(at.domain).fifo!.controlBlock(1)]).toEqual([base, tails[1]!.block])
    // The event that every connected end gets to be safe comes after those that were in the queue (NL-mig-6).
    expect(inside(at.domain).fifo!.tail(0, 7)).toBe(6)
    hold(at, 0)
    upcalls(at)
    expect(at.order).toEqual(['high', 'third', 'first', 'second', 'quiet', 'low'])
    at.order.length = 0
    send(at, 'second', 'high')
    expect(at.order).toEqual(['second', 'high'])
  })

  it('NL-mig-3: what is done after the move touches no byte of the old window nor of what lies around', () => {
    const at = world(QUEUED, { shared })
    hold(at, 1)
    send(at, 'first', 'high')
    replace(at, { memory: at.memory, base: B })
    const all = new Uint8Array(at.memory.buffer)
    const outside = () => [
      Buffer.from(all.slice(0, B)).toString('base64'),
      Buffer.from(all.slice(B + FRAMES * PAGE_SIZE)).toString('base64'),
    ]
    all.fill(0xa5, 0, B)
    const before = outside()
    hold(at, 0)
    upcalls(at)
    open(at, 'late', 3, 1)
    for (const { name } of QUEUED) send(at, name, 'late')
    at.kernel.setPriority(1, 0)
    at.kernel.moveToVcpu(1, 1)
    at.kernel.mask(2)
    at.kernel.unmask(2)
    at.kernel.close(3)
    expect(at.order.length).toBeGreaterThan(2 * QUEUED.length)
    expect(outside()).toEqual(before)
  })

  it('EC-fifo-28, EC-expand-5: the event array grows after the move, where the guest is now', () => {
    const at = world(QUEUED, { shared })
    replace(at, { memory: at.memory, base: B })
    const { domain } = at
    for (let port = QUEUED.length + 1; port < 1024; port++)
      domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 0 })
    at.order.length = 0
    const port = open(at, 'beyond', 5)
    expect([port, inside(domain).fifo!.nrPages]).toEqual([1024, 2])
    expect(inside(domain).fifo!.wordAt(1024) - domain.memory.base).toBe(inside(domain).fifo!.pageGfns[1]! * PAGE_SIZE)
    at.order.length = 0
    send(at, 'beyond', 'low')
    expect(at.order).toEqual(['beyond', 'low'])
  })
})

describe('events raised while the source stands still', () => {
  it.each([
    ['in its own window', A],
    ['in another window', B],
  ])('NL-mig-5: %s, none is lost', (_, base) => {
    const at = world(QUEUED)
    hold(at, 1)
    send(at, 'third')
    // Of a channel without its other end the restored domain hears only what the source heard.
    at.domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    at.xen.sendVirq(at.xen.domain(1)!.vcpu(0), 0)
    const timer = at.kernel.bindVirq(0, { name: 'timer', handler: () => void at.order.push('timer') })
    at.order.length = 0
    replace(at, { memory: at.memory, base }, () => {
      send(at, 'high', 'first')
      at.xen.sendVirq(at.xen.domain(1)!.vcpu(0), 0)
    })
    expect(at.domain.restored!.raised.sort()).toEqual([2, 5, timer].sort())
    hold(at, 0)
    upcalls(at)
    expect(at.order.filter((name) => name === 'timer')).toEqual(['timer'])
    expect(at.order.slice(0, 3)).toEqual(['high', 'third', 'first'])
  })

  it.each([2, 3, 4] as const)('NL-mig-5: on %i levels too, in the place of the source', (levels) => {
    const memory = new WebAssembly.Memory({ initial: 80, maximum: 80 })
    const kernels = new Map<number, GuestKernel>()
    const xen = Hypervisor.create({ onUpcall: ({ domid, vcpuId }) => void kernels.get(domid)?.upcall(vcpuId) })
    const domain = xen.createDomain({ domid: 1, frames: 1200, memory })
    const kernel = GuestKernel.boot(xen.platform(domain), { levels })
    kernels.set(1, kernel)
    let ran = 0
    kernel.bindVirq(0, { handler: () => void ran++ })
    const replaces = xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
    xen.sendVirq(xen.domain(1)!.vcpu(0), 0)
    const restored = xen.restoreDomain(throughJson(replaces.state), { replaces, memory })
    expect(restored.restored!.raised).toEqual([1])
    kernel.moveTo(xen.platform(restored))
    xen.startDomain(xen.domain(1)!)
    expect(ran).toBe(1)
  })

  /** A FIFO guest by hand: its port has no page yet. */
  function early() {
    const xen = Hypervisor.create()
    const domain = xen.createDomain({ domid: 1, frames: 16 })
    domain.eventChannelOp('init_control', { control_gfn: 4, offset: 0, vcpu: 0 })
    const { port } = domain.eventChannelOp('bind_virq', { virq: 0, vcpu: 0 })
    return { xen, port: port }
  }
  const pageComes = (domain: Domain, port: number) => {
    domain.eventChannelOp('expand_array', { array_gfn: 5 })
    return [
      word(domain, port, EVTCHN_FIFO_PENDING),
      word(domain, port, EVTCHN_FIFO_LINKED),
      inside(domain).fifo!.tail(0, 7),
    ]
  }

  it('NL-mig-5, EC-bug-4: an event that came before its page is delivered with the page, on another host', () => {
    const { xen, port } = early()
    const move = xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
    xen.sendVirq(xen.domain(1)!.vcpu(0), 0)
    const there = Hypervisor.create()
    const domain = there.restoreDomain(throughJson(move.state))
    const { raised } = move.commit()
    expect(raised).toEqual([port])
    expect(there.startDomain(there.domain(1)!, { raised })).toBe(1)
    expect(pageComes(domain, port)).toEqual([1, 1, port])
  })

  it('NL-mig-5, EC-bug-4: and in the place of its source', () => {
    const { xen, port } = early()
    const replaces = xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
    xen.sendVirq(xen.domain(1)!.vcpu(0), 0)
    const domain = xen.restoreDomain(throughJson(replaces.state), { replaces })
    expect(domain.restored!.raised).toEqual([port])
    xen.startDomain(xen.domain(1)!)
    expect(pageComes(domain, port)).toEqual([1, 1, port])
  })

  it('NL-mig-5, EC-expand-7: the mark of an early event whose page is there is none that waits', () => {
    const { xen, port } = early()
    const domain = xen.domain(1)!
    xen.sendVirq(xen.domain(1)!.vcpu(0), 0)
    pageComes(domain, port)
    inside(domain).core.bitClear(inside(domain).fifo!.wordAt(port), EVTCHN_FIFO_PENDING)
    const move = xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
    expect(move.raised()).toEqual([])
    xen.sendVirq(xen.domain(1)!.vcpu(0), 0)
    expect(move.raised()).toEqual([port])
    move.abort()
  })
})

describe('a guest that has spoiled its words before it is moved', () => {
  it.each([
    ['a circle', [2, 3, 1]],
    ['links to themselves', [1, 2, 3]],
    ['links beyond the array', [131071, 65536, 1024]],
    ['links to nowhere', [0, 0, 0]],
  ])('NL-mig-4, NL-bad-1: %s: restored as it is, raises stay bounded, the guest goes on', (_, links) => {
    const at = world([
      { name: 'a', priority: 7 },
      { name: 'b', priority: 7 },
      { name: 'c', priority: 7 },
      { name: 'fine', priority: 3 },
    ])
    hold(at, 1)
    send(at, 'a', 'b', 'c')
    const view = new DataView(at.memory.buffer)
    for (const [i, link] of links.entries())
      view.setUint32(
        inside(at.domain).fifo!.wordAt(i + 1),
        (2 ** EVTCHN_FIFO_PENDING + 2 ** EVTCHN_FIFO_LINKED + link) >>> 0,
        true,
      )
    replace(at, { memory: at.memory, base: B }, () => send(at, 'a', 'fine'))
    send(at, 'a', 'b', 'c', 'fine')
    hold(at, 0)
    upcalls(at)
    expect(at.order[0]).toBe('fine')
    expect(at.order.length).toBeLessThan(20)
    // Its own queue it has lost; another one works.
    at.order.length = 0
    send(at, 'fine')
    expect(at.order).toEqual(['fine'])
    expect(word(at.domain, 4, EVTCHN_FIFO_MASKED)).toBe(0)
  })
})
