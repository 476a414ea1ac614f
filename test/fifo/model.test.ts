/**
 * The FIFO ABI against an independent reference: queues that are arrays, events that are records. What the words of the
 * real thing say, and who is upcalled and served in which order, must be what plain lists would do.
 *
 * The reference knows nothing of links, heads, tails, BUSY or READY: an event on a queue is an entry of an array.
 */

import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DOMID_SELF, PAGE_SIZE, VCPU_INFO_SIZE } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type Domain, Hypervisor } from '../../src/index.js'
import { seedOr } from '../settings.js'

const seed = seedOr(Date.now() % 2 ** 31)
const VCPUS = 3
const BLOCKS_GFN = 2
const DESCRIPTORS_GFN = 3
const OUT_GFN = 4
const PAGE_GFN = 5
const MASKED = 2 ** 30

interface Event {
  kind: 'free' | 'unbound' | 'ipi'
  notify: number
  priority: number
  pending: boolean
  masked: boolean
  saved: boolean
  /** The queue that holds it. */
  on: number[] | null
}

/** Plain lists. Answers what the hypervisor should: results, and upcalls in their order. */
class Reference {
  readonly events: Event[] = []
  readonly blocks: boolean[] = []
  readonly flags: boolean[] = []
  readonly queues: number[][][] = []
  page = false
  upcalls: number[] = []

  constructor() {
    for (let port = 0; port < 64; port++) this.events.push(freshEvent())
    for (let vcpu = 0; vcpu < VCPUS; vcpu++) {
      this.flags.push(false)
      this.forget(vcpu)
    }
  }

  forget(vcpu: number): void {
    this.blocks[vcpu] = false
    this.queues[vcpu] = Array.from({ length: 16 }, () => [])
  }

  open(kind: 'unbound' | 'ipi', vcpu: number): number {
    const port = this.events.findIndex((event, i) => i > 0 && event.kind === 'free' && !event.on)
    Object.assign(this.events[port]!, { kind, notify: vcpu, priority: 7 })
    return port
  }

  close(port: number): void {
    Object.assign(this.events[port]!, { kind: 'free', notify: 0, pending: false })
  }

  raise(port: number): void {
    const event = this.events[port]!
    if (!this.page) {
      event.saved = true
      return
    }
    if (!this.blocks[event.notify]) return
    event.pending = true
    if (event.masked || event.on) return
    event.on = this.queues[event.notify]![event.priority]!
    event.on.push(port)
    if (event.on.length === 1) this.flag(event.notify)
  }

  flag(vcpu: number): void {
    if (!this.flags[vcpu]) this.upcalls.push(vcpu)
    this.flags[vcpu] = true
  }

  unmask(port: number): void {
    const event = this.events[port]!
    if (!this.page || event.kind === 'free') return
    event.masked = false
    if (event.pending) this.raise(port)
  }

  scan(vcpu: number, max: number): number[] {
    this.flags[vcpu] = false
    const served: number[] = []
    if (!this.blocks[vcpu]) return served
    while (served.length < max) {
      const queue = this.queues[vcpu]!.find((each) => each.length)
      if (!queue) return served
      const port = queue.shift()!
      const event = this.events[port]!
      event.on = null
      if (!event.pending || event.masked) continue
      event.pending = false
      served.push(port)
    }
    // A full buffer with queues left: the guest's own flag is up again.
    this.flags[vcpu] = this.queues[vcpu]!.some((queue) => queue.length)
    return served
  }

  reset(): void {
    this.events.forEach((event, port) => {
      if (event.kind !== 'free') this.close(port)
      // The next init_control sets every port up anew (EC-init-13), saved events apart (EC-expand-7).
      Object.assign(event, { pending: false, masked: false, on: null, priority: 7 })
    })
    this.page = false
    for (let vcpu = 0; vcpu < VCPUS; vcpu++) this.forget(vcpu)
  }
}

const freshEvent = (): Event => ({
  kind: 'free',
  notify: 0,
  priority: 7,
  pending: false,
  masked: false,
  saved: false,
  on: null,
})

/** A FIFO domain whose guest is this test: blocks, descriptors and one page in frames of its own. */
class Real {
  upcalls: number[] = []
  readonly xen = Hypervisor.create({ trace: { upcall: (vcpu) => void (vcpu.domid && this.upcalls.push(vcpu.vcpuId)) } })
  readonly domain: Domain
  /** Dom0's ends, by guest port. */
  readonly remote: number[] = []

  constructor(bits: 32 | 64, shared: boolean) {
    this.xen.createDomain({ domid: 0 })
    this.domain = this.xen.createDomain({ domid: 1, bits, vcpus: VCPUS, shared, frames: 16, maxEvtchnPort: 63 })
  }

  get #view(): DataView {
    const { buffer, byteOffset } = this.domain.memory.view()
    return new DataView(buffer, byteOffset)
  }

  init(vcpu: number): void {
    const at = BLOCKS_GFN * PAGE_SIZE + vcpu * 128
    const view = this.#view
    for (let i = 0; i < 72; i += 4) view.setUint32(at + i, 0, true)
    const descriptor = this.#descriptor(vcpu)
    const info = 1 * PAGE_SIZE + vcpu * VCPU_INFO_SIZE
    for (let i = 0; i < 84; i += 4) view.setUint32(descriptor + i, 0, true)
    view.setUint32(descriptor, info, true)
    view.setUint32(descriptor + 4, at, true)
    view.setUint32(descriptor + 8, DESCRIPTORS_GFN * PAGE_SIZE + 4000, true)
    view.setUint32(descriptor + 12, 1024, true)
    view.setUint32(DESCRIPTORS_GFN * PAGE_SIZE + 4000, PAGE_GFN * PAGE_SIZE, true)
    this.domain.eventChannelOp('init_control', { control_gfn: BLOCKS_GFN, offset: vcpu * 128, vcpu })
  }

  #descriptor(vcpu: number): number {
    return DESCRIPTORS_GFN * PAGE_SIZE + vcpu * 128
  }

  expand(masked: boolean): void {
    const page = new Uint32Array(this.domain.memory.memory.buffer, PAGE_GFN * PAGE_SIZE, 1024)
    page.fill(masked ? MASKED : 0)
    this.domain.eventChannelOp('expand_array', { array_gfn: PAGE_GFN })
  }

  open(kind: 'unbound' | 'ipi', vcpu: number): number {
    if (kind === 'ipi') return this.domain.eventChannelOp('bind_ipi', { vcpu }).port
    const port = this.domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 }).port
    const dom0 = this.xen.domain(0)!
    this.remote[port] = dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port }).local_port
    return port
  }

  close(port: number, kind: Event['kind']): void {
    this.domain.eventChannelOp('close', { port })
    if (kind === 'unbound') this.xen.domain(0)!.eventChannelOp('close', { port: this.remote[port]! })
  }

  raise(port: number, kind: Event['kind']): void {
    if (kind === 'ipi') this.domain.eventChannelOp('send', { port })
    else this.xen.domain(0)!.eventChannelOp('send', { port: this.remote[port]! })
  }

  scan(vcpu: number, max: number): number[] {
    const count = inside(this.domain).core.fifoScan(this.#descriptor(vcpu), OUT_GFN * PAGE_SIZE, max)
    return [...new Uint32Array(this.domain.memory.memory.buffer, OUT_GFN * PAGE_SIZE, count)]
  }

  clearFlag(vcpu: number): void {
    this.#view.setUint8(PAGE_SIZE + vcpu * VCPU_INFO_SIZE, 0)
  }

  get flags(): boolean[] {
    return this.domain.vcpus.map((vcpu) => vcpu.upcallPending !== 0)
  }
}

const STEPS = [
  'open',
  'ipi',
  'close',
  'send',
  'send',
  'send',
  'scan',
  'mask',
  'unmask',
  'hypercall',
  'priority',
  'move',
]
const step = fc.oneof(
  { weight: 60, arbitrary: fc.tuple(fc.constantFrom(...STEPS), fc.nat(15), fc.nat(15)) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom('init', 'expand'), fc.nat(15), fc.nat(1)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('reset'), fc.constant(0), fc.constant(0)) },
)

/** Does one step on both; answers what each said, for comparing. */
function both(real: Real, model: Reference, [what, a, b]: readonly [string, number, number]): [unknown, unknown] {
  const open = model.events.flatMap(({ kind }, port) => (kind === 'free' ? [] : [port]))
  const port = open[a % Math.max(1, open.length)] ?? 0
  const vcpu = a % VCPUS
  switch (what) {
    case 'open':
    case 'ipi': {
      const kind = what === 'open' ? 'unbound' : 'ipi'
      // Twelve ports are enough, so that numbers come again soon.
      if (open.length >= 12) return [0, 0]
      return [real.open(kind, kind === 'ipi' ? vcpu : 0), model.open(kind, kind === 'ipi' ? vcpu : 0)]
    }
    case 'init':
      if (model.blocks[vcpu]) return [0, 0]
      real.init(vcpu)
      model.blocks[vcpu] = true
      return [0, 0]
    case 'expand':
      if (model.page || !inside(real.domain).fifo) return [0, 0]
      real.expand(b === 1)
      model.page = true
      for (const each of model.events) each.masked = b === 1
      for (const [i, each] of model.events.entries()) if (each.saved) model.raise(i)
      return [0, 0]
    case 'reset': {
      real.domain.eventChannelOp('reset', { dom: DOMID_SELF })
      for (const end of real.remote.filter((each) => each)) {
        if (inside(real.xen.domain(0)!).ports.state(end)) real.xen.domain(0)!.eventChannelOp('close', { port: end })
      }
      model.reset()
      // Off FIFO the two-level words would take over: the guest goes on with FIFO at once.
      real.init(0)
      model.blocks[0] = true
      for (const id of [0, 1, 2]) {
        real.clearFlag(id)
        model.flags[id] = false
      }
      return [0, 0]
    }
    case 'scan':
      if (!model.blocks[vcpu]) return [0, 0]
      return [real.scan(vcpu, 1 + (b % 4)), model.scan(vcpu, 1 + (b % 4))]
  }
  if (port) onPort(real, model, port, what, b)
  return [0, 0]
}

/** A step about one open port, on both. */
function onPort(real: Real, model: Reference, port: number, what: string, b: number): void {
  const event = model.events[port]!
  switch (what) {
    case 'close':
      real.close(port, event.kind)
      model.close(port)
      break
    case 'send':
      real.raise(port, event.kind)
      model.raise(port)
      break
    case 'mask':
    case 'unmask': {
      if (!model.page) break
      const word = inside(real.domain).fifo!.wordAt(port)
      if (what === 'mask') inside(real.domain).core.bitSet(word, 30)
      else if (inside(real.domain).core.fifoUnmask(word)) real.domain.eventChannelOp('unmask', { port })
      if (what === 'mask') event.masked = true
      else model.unmask(port)
      break
    }
    case 'hypercall':
      real.domain.eventChannelOp('unmask', { port })
      model.unmask(port)
      break
    case 'priority':
      real.domain.eventChannelOp('set_priority', { port, priority: b })
      event.priority = b
      break
    case 'move':
      if (event.kind === 'ipi') break
      real.domain.eventChannelOp('bind_vcpu', { port, vcpu: b % VCPUS })
      event.notify = b % VCPUS
  }
}

/** What can be told of both: as plain data, so that one comparison covers it. */
function compare(real: Real, model: Reference, after: string): void {
  const { fifo, portOps, ports } = inside(real.domain)
  const found = model.events.map((_, port) => [
    portOps.isPending(port),
    portOps.isBusy!(port),
    ports.savedPending(port),
    model.page && portOps.isMasked(port),
  ])
  const wanted = model.events.map(({ pending, on, saved, masked }) => [pending, on !== null, saved, masked])
  const tails = model.queues.map((queues, vcpu) => queues.map((queue, q) => (queue.length ? fifo!.tail(vcpu, q) : 0)))
  const lasts = model.queues.map((queues) => queues.map((queue) => queue.at(-1) ?? 0))
  const mine = { upcalls: real.upcalls, flags: real.flags, ports: found, tails }
  const theirs = { upcalls: model.upcalls, flags: model.flags, ports: wanted, tails: lasts }
  if (!isDeepStrictEqual(mine, theirs)) expect(mine, `after ${after}`).toEqual(theirs)
}

describe.each([
  [64, false],
  [32, false],
  [64, true],
] as const)(`FIFO is lists, %i bit, threads %s (seed ${seed})`, (bits, shared) => {
  it('in every result, upcall and order of service', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 200 }), (steps) => {
        const real = new Real(bits, shared)
        const model = new Reference()
        real.init(0)
        model.blocks[0] = true
        for (const each of steps) {
          real.upcalls = []
          model.upcalls = []
          const [found, wanted] = both(real, model, each)
          if (!isDeepStrictEqual(found, wanted)) expect(found, each.join(' ')).toEqual(wanted)
          compare(real, model, each.join(' '))
        }
      }),
      { seed, numRuns: 600 },
    )
  })
})
