/**
 * A guest that breaks every rule: words rewritten in the middle of linking, links and heads that point anywhere, pages and
 * blocks given twice or over each other. The hypervisor does bounded work, throws nothing, writes nowhere else, and loses
 * nobody else's events.
 */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Args, DOMID_SELF, type EvtchnOpName, PAGE_SIZE } from '../../src/abi/index.js'
import { GuestKernel, Hypervisor, XenError } from '../../src/index.js'
import { coreOf, createMemory } from '../../src/machine/core.js'
import { seedOr } from '../settings.js'
import { BUSY, LINK, LINKED, MASKED, PENDING } from './event_word.js'
import { exploreRuns } from './runs.js'
import { runThrough, SteppedMemory, shipped } from './steps.js'
import { FifoWorld } from './world.js'

const seed = seedOr(Date.now() % 2 ** 31)

/** Most accesses of one raise, locks aside: PENDING, MASKED, LINKED; nine for LINK; head; READY and flag. */
const MOST_ACCESSES = 3 + 9 + 1 + 2
const LOCKS = 2

/** Adds a guest that stores one of `values` into one of `ports`' words, `times` times, whenever it likes. */
function scribbler(world: FifoWorld, ports: readonly number[], values: readonly number[], times: number): FifoWorld {
  return world.add(
    'scribbler',
    (function* () {
      for (let i = 0; i < times; i++) {
        const way: number = yield { label: 'scribble', ways: ports.length * values.length, fresh: i }
        world.setWord(ports[way % ports.length]!, values[Math.floor(way / ports.length)]!)
      }
    })(),
    true,
  )
}

/** Bounded, in its place, sane in private: after every step. */
function checked(world: FifoWorld, allowed: readonly number[]): FifoWorld {
  world.invariant = () => {
    for (const at of world.memory.written) if (!allowed.includes(at)) return `wrote to ${world.nameOf(at)}`
    for (let q = 0; q < 16; q++) if (world.state.tail(0, q) > 2) return `tail ${world.state.tail(0, q)}`
    return null
  }
  world.verdict = () => (world.held.size ? 'a lock is left held' : null)
  return world
}

/** What a raise of port 2 behind port 1 may write: both words, its head, ready, the flag. */
const allowedOf = (world: FifoWorld) => [4, 8, world.block(0), world.block(0) + 8 + 28, world.flag(0)]

describe('words rewritten in the middle of linking, at every access', () => {
  it('three times, with anything: bounded, in its place, no exception', () => {
    const values = [0, LINKED, PENDING | LINKED | 5, MASKED, BUSY | LINKED | LINK, -1]
    const outcome = exploreRuns(() => {
      const world = new FifoWorld({ ports: 2 })
      world.preload(1)
      return checked(scribbler(world, [1, 2], values, 3).sender('a', 2), allowedOf(world))
    })
    expect(outcome.flaw).toBeNull()
    expect(outcome.longest.a).toBeLessThanOrEqual(MOST_ACCESSES + LOCKS)
    expect(outcome.states).toBeGreaterThan(10_000)
  })

  it('as often as it takes to spoil every attempt: it ends, BUSY is down, and the guest has lost its own event', () => {
    let fought = 0
    const outcome = exploreRuns(() => {
      const world = new FifoWorld({ ports: 2 })
      world.preload(1)
      checked(scribbler(world, [1], [LINKED, LINKED | PENDING], 7).sender('a', 2), allowedOf(world))
      const { verdict } = world
      world.verdict = () => {
        fought += world.state.fought
        return world.word(1) & BUSY ? 'BUSY is left up' : verdict()
      }
      return world
    })
    expect(outcome.flaw).toBeNull()
    expect(outcome.longest.a).toBeLessThanOrEqual(MOST_ACCESSES + LOCKS)
    expect(fought).toBeGreaterThan(0)
  })

  it('while another vCPU of the same guest is sent to: its queue is not touched', () => {
    const outcome = exploreRuns(() => {
      const world = new FifoWorld({ ports: 3, vcpus: 2 })
      world.preload(1)
      world.table.setNotifyVcpu(3, 1)
      scribbler(world, [1], [0, LINKED | 3, BUSY | LINKED, -1], 3)
        .sender('a', 2)
        .sender('b', 3)
        .guest(1)
      world.verdict = () => (world.served.includes(3) ? null : 'the event of the other vCPU is lost')
      return world
    })
    expect(outcome.flaw).toBeNull()
  })

  it('a guest that links its words in a circle ends its own scan', () => {
    const world = new FifoWorld({ ports: 3 })
    world.preload(1)
    for (const [port, next] of [
      [1, 2],
      [2, 3],
      [3, 1],
    ] as const)
      world.setWord(port, PENDING | LINKED | next)
    world.guest(0, 100)
    let steps = 0
    const { steps: scan } = world.threads[0]!
    for (let next = scan.next(0); !next.done && !(next.value.label === 'upcall' && steps); next = scan.next(0)) steps++
    expect(world.served).toEqual([1, 2, 3])
    expect(steps).toBeLessThan(40)
  })
})

describe(`the compiled core is the source that is explored (seed ${seed})`, () => {
  const word = fc.oneof(fc.integer(), fc.constantFrom(0, LINKED, MASKED, PENDING | LINKED | 2, BUSY | LINKED, -1))
  it.each([false, true])('call by call, threads %s', (shared) => {
    const core = coreOf(createMemory(16, shared))
    const real = new Int32Array(core.memory.buffer, 0, 2048)
    const property = fc.property(
      fc.array(word, { minLength: 8, maxLength: 8 }),
      fc.nat(131071),
      fc.nat(15),
      (words, port, q) => {
        const memory = new SteppedMemory(8192)
        shipped.machine = { guest: memory, private: memory, held: new Set() }
        const stepped = shipped.core
        for (const view of [real, memory.words]) {
          view.fill(0)
          view.set(words, 1)
        }
        const pairs: [number, number | undefined][] = [
          [runThrough(stepped.fifoRaise(4)), core.fifoRaise(4)],
          [runThrough(stepped.fifoSetLink(8, port)), core.fifoSetLink(8, port)],
          [runThrough(stepped.fifoReady(12, q, 256)), core.fifoReady(12, q, 256)],
          [runThrough(stepped.fifoUnmask(16)), core.fifoUnmask(16)],
        ]
        runThrough(stepped.fifoSetHead(1024, q, port))
        core.fifoSetHead(1024, q, port)
        for (const [mine, theirs] of pairs) expect(mine).toBe(theirs)
        // A scan over whatever the words link to: descriptor at 4096, page table at 4400 to page 0, output at 4800.
        for (const view of [real, memory.words]) view.set([256, 1024, 4400, 1024], 1024)
        expect(runThrough(stepped.fifoScan(4096, 4800, 4))).toBe(core.fifoScan(4096, 4800, 4))
        expect([...memory.words]).toEqual([...real])
      },
    )
    fc.assert(property, { seed, numRuns: 300 })
  })
})

describe(`two domains in one memory, one of them hostile (seed ${seed})`, () => {
  const FRAMES = 64
  const OPS: readonly EvtchnOpName[] = [
    'init_control',
    'expand_array',
    'set_priority',
    'bind_ipi',
    'close',
    'unmask',
    'bind_vcpu',
    'send',
    'reset',
  ]
  const gfn = fc.oneof({ weight: 5, arbitrary: fc.nat(6) }, { weight: 1, arbitrary: fc.nat(FRAMES + 2) })
  const action = fc.oneof(
    fc.record({ kind: fc.constant('op' as const), op: fc.constantFrom(...OPS), gfn, a: fc.nat(20), b: fc.nat(16) }),
    fc.record({ kind: fc.constant('write' as const), gfn: fc.nat(6), at: fc.nat(1023), value: fc.integer() }),
    fc.record({
      kind: fc.constant('fill' as const),
      gfn: fc.nat(6),
      value: fc.constantFrom(0, -1, LINKED | 1, LINKED | LINK, BUSY | LINKED),
    }),
    fc.record({ kind: fc.constant('dom0' as const), port: fc.nat(12) }),
    fc.record({ kind: fc.constant('victim' as const) }),
  )

  it('nothing throws, the neighbour and its events are untouched', () => {
    const property = fc.property(fc.array(action, { minLength: 20, maxLength: 120 }), (actions) => {
      const memory = createMemory(2 * FRAMES + 256, false)
      const kernels = new Map<number, GuestKernel>()
      const xen = Hypervisor.create({ onUpcall: (vcpu) => void kernels.get(vcpu.domid)?.upcall(vcpu.vcpuId) })
      const dom0 = xen.createDomain({ domid: 0, memory, base: 2 * FRAMES * PAGE_SIZE, frames: 32 })
      const hostile = xen.createDomain({ domid: 1, memory, base: 0, frames: FRAMES, vcpus: 2 })
      const victim = xen.createDomain({ domid: 2, memory, base: FRAMES * PAGE_SIZE, frames: FRAMES })
      const kernel = GuestKernel.boot(xen.platform(victim), { levels: 'fifo' })
      kernels.set(2, kernel)
      let got = 0
      let sent = 0
      const port = kernel.allocUnbound(0, { handler: () => void got++ })
      const toVictim = dom0.eventChannelOp('bind_interdomain', { remote_dom: 2, remote_port: port }).local_port
      const toHostile: number[] = []
      for (let i = 0; i < 8; i++) {
        const remote = hostile.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 }).port
        toHostile.push(dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: remote }).local_port)
      }
      const words = new Int32Array(memory.buffer, 0, (FRAMES * PAGE_SIZE) / 4)
      const outside = () => new Uint8Array(memory.buffer, FRAMES * PAGE_SIZE, FRAMES * PAGE_SIZE).slice()
      got = 0
      for (const each of actions) {
        const before = each.kind === 'victim' ? null : outside()
        if (each.kind === 'op') attempt(() => hostile.eventChannelOp(each.op, argsOf(each.op, each)))
        else if (each.kind === 'write') words[each.gfn * 1024 + each.at] = each.value
        else if (each.kind === 'fill') words.fill(each.value, each.gfn * 1024, (each.gfn + 1) * 1024)
        else if (each.kind === 'dom0') attempt(() => dom0.eventChannelOp('send', { port: toHostile[each.port % 8]! }))
        else {
          sent++
          dom0.eventChannelOp('send', { port: toVictim })
        }
        if (before) expect(Buffer.compare(before, outside())).toBe(0)
        expect(got).toBe(sent)
      }
      expect([...xen.dump({ domid: 1 })].length).toBeGreaterThan(2)
    })
    fc.assert(property, { seed, numRuns: 60 })
  })
})

/** A refusal is an answer; anything else that is thrown is not. */
function attempt(body: () => unknown): void {
  try {
    body()
  } catch (error) {
    if (!(error instanceof XenError)) throw error
  }
}

function argsOf(op: EvtchnOpName, { gfn, a, b }: { gfn: number; a: number; b: number }): Args {
  switch (op) {
    case 'init_control':
      return { control_gfn: gfn, offset: a * 8, vcpu: b & 1 }
    case 'expand_array':
      return { array_gfn: gfn }
    case 'set_priority':
      return { port: a, priority: b }
    case 'bind_ipi':
      return { vcpu: b & 1 }
    case 'bind_vcpu':
      return { port: a, vcpu: b & 1 }
    case 'reset':
      return { dom: DOMID_SELF }
    default:
      return { port: a }
  }
}
