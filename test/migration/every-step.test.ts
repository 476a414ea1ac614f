/** Save, restore, compare after every step of random operations: both modes, both widths, depths 2 to 4. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Bits,
  ECS,
  EVTCHN_FIFO_MASKED,
  EVTCHN_FIFO_PENDING,
  type EvtchnOpName,
  HYPERVISOR,
  PAGE_SIZE,
  SCHEDOP,
  sharedInfo,
  VCPU_INFO_SIZE,
  VCPUOP,
  VIRQ,
  XEN_LEGACY_MAX_VCPUS,
} from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type Domain, GuestKernel, Hypervisor, XenError } from '../../src/index.js'
import { isRaised } from '../../src/migration/handle.js'
import { domainFacts, expectSame, hostText, portFacts, ramOf, throughJson } from './facts.js'

const FRAMES = 64
/** Never used by the driver that registers the tree: the last frames. */
const ARGUMENT_GFN = FRAMES - 1
const INFO_GFN = FRAMES - 2
const GRANTS = { pirqs: [3, 4, 5], globalVirqs: [VIRQ.CONSOLE, VIRQ.DOM_EXC] }

/** What the guest's channels are in. */
type Form = 2 | 3 | 4 | 'fifo'

/** A host with a control domain, the guest that is moved, and a third domain. */
class World {
  readonly xen = Hypervisor.create()
  readonly #notify = () => {}

  constructor(bits: Bits, levels: Form) {
    this.xen.createDomain({ domid: 0, frames: 8 })
    this.xen.createDomain({ domid: 2, frames: 8, bits })
    const guest = this.xen.createDomain({ domid: 1, frames: FRAMES, bits, vcpus: 3, maxEvtchnPort: 90 })
    for (const pirq of GRANTS.pirqs) inside(guest).pirqs.permitted.add(pirq)
    for (const virq of GRANTS.globalVirqs) this.xen.setGlobalVirqHandler(this.xen.domain(1)!, virq)
    if (levels !== 2) GuestKernel.boot(this.xen.platform(guest), { levels, ...(levels !== 'fifo' && { nrPages: 1 }) })
  }

  get guest(): Domain {
    return this.xen.domain(1)!
  }

  /** Operation `kind` with three numbers to take its arguments from; what Xen refuses has no effect. */
  step([kind, a, b, c]: readonly [number, number, number, number]): void {
    const { xen, guest } = this
    const port = 1 + (a % 12)
    const vcpu = b % 3
    const peer = xen.domain(b % 2 ? 0 : 2)!
    const op = (domain: Domain, name: EvtchnOpName, args: Record<string, number>) => domain.eventChannelOp(name, args)
    const operations = [
      () => op(guest, 'alloc_unbound', { dom: 1, remote_dom: [0, 1, 2, 7][c % 4]! }),
      () => op(peer, 'bind_interdomain', { remote_dom: 1, remote_port: port }),
      () => op(peer, 'alloc_unbound', { dom: peer.domid, remote_dom: 1 }),
      () => op(guest, 'bind_interdomain', { remote_dom: peer.domid, remote_port: port }),
      () => op(guest, 'bind_interdomain', { remote_dom: 1, remote_port: port }),
      () => op(guest, 'bind_virq', { virq: [0, 1, 2, 3, 11][c % 5]!, vcpu }),
      () => op(guest, 'bind_ipi', { vcpu }),
      () => op(guest, 'bind_pirq', { pirq: 3 + (c % 3), flags: a & 1 }),
      () => op(guest, 'bind_vcpu', { port, vcpu }),
      () => op(guest, 'close', { port }),
      () => op(peer, 'close', { port }),
      () => op(guest, 'send', { port }),
      () => op(peer, 'send', { port }),
      () => op(guest, 'unmask', { port }),
      () => xen.sendVirq(xen.domain(1)!.vcpu(vcpu), c % 2),
      () => xen.sendGlobalVirq(VIRQ.CONSOLE),
      () => xen.sendPirq(xen.domain(1)!, 3 + (c % 3)),
      () => this.guestBit('mask', port, (c & 1) === 1),
      () => this.guestBit('pending', port, false),
      () => this.poll(vcpu, c % 2 ? [port] : [port, port + 1]),
      () => this.registerInfo(vcpu),
      () => void xen.allocXenPort(xen.domain(1)!, { remoteDomid: peer.domid, notify: this.#notify }),
      () => guest.vcpu(vcpu).eventChannelOp('send', { port }),
      () => this.sched(vcpu, SCHEDOP.block),
      () => this.eoiMap(),
      // FIFO only; another ABI refuses them.
      () => op(guest, 'expand_array', { array_gfn: FRAMES - 4 - (c % 2) }),
      () => op(guest, 'set_priority', { port, priority: c % 16 }),
      () => op(guest, 'reset', { dom: 1 }),
    ]
    try {
      operations[kind % operations.length]!()
    } catch (error) {
      if (!(error instanceof XenError)) throw error
    }
  }

  guestBit(which: 'pending' | 'mask', port: number, value: boolean): void {
    const { guest } = this
    if (inside(guest).fifo) {
      this.fifoBit(which, port, value)
      return
    }
    const gfn = inside(guest).nlevel?.[which === 'mask' ? 'maskGfns' : 'pendingGfns'][0]
    const base = gfn === undefined ? guest.sharedInfoGfn * PAGE_SIZE + sharedInfo(guest.bits)[which] : gfn * PAGE_SIZE
    const ram = guest.memory.view()
    const at = base + (port >> 3)
    if (value) ram[at]! |= 1 << (port & 7)
    else ram[at]! &= ~(1 << (port & 7))
  }

  /** In the event word, if there is one. */
  fifoBit(which: 'pending' | 'mask', port: number, value: boolean): void {
    const at = inside(this.guest).fifo!.wordAt(port)
    if (at < 0) return
    const view = new DataView(this.guest.memory.memory.buffer)
    const bit = 2 ** (which === 'mask' ? EVTCHN_FIFO_MASKED : EVTCHN_FIFO_PENDING)
    const word = view.getUint32(at, true)
    view.setUint32(at, (value ? word | bit : word & ~bit) >>> 0, true)
  }

  get arguments(): DataView {
    const { memory } = this.guest
    return new DataView(memory.memory.buffer, memory.base + ARGUMENT_GFN * PAGE_SIZE, PAGE_SIZE)
  }

  /** A vCPU that is blocked makes no calls. */
  sched(vcpu: number, cmd: number): void {
    if (this.guest.vcpu(vcpu).blocked) return
    this.xen.hypercall(this.guest.vcpu(vcpu), HYPERVISOR.sched_op, [cmd, ARGUMENT_GFN * PAGE_SIZE])
  }

  poll(vcpu: number, ports: number[]): void {
    const wide = this.guest.bits === 64
    const view = this.arguments
    for (let i = 0; i < 64; i += 4) view.setUint32(i, 0, true)
    view.setUint32(0, ARGUMENT_GFN * PAGE_SIZE + 64, true)
    view.setUint32(wide ? 8 : 4, ports.length, true)
    view.setUint32(wide ? 16 : 8, ports[0]! % 2 ? 5000 : 0, true)
    for (const [i, port] of ports.entries()) view.setUint32(64 + 4 * i, port, true)
    this.sched(vcpu, SCHEDOP.poll)
  }

  registerInfo(vcpu: number): void {
    const view = this.arguments
    view.setBigUint64(0, BigInt(INFO_GFN), true)
    view.setUint32(8, 64 * vcpu, true)
    const registers = [VCPUOP.register_vcpu_info, vcpu, ARGUMENT_GFN * PAGE_SIZE]
    this.xen.hypercall(this.guest.vcpu(vcpu), HYPERVISOR.vcpu_op, registers)
  }

  eoiMap(): void {
    this.arguments.setBigUint64(0, BigInt(FRAMES - 3), true)
    this.xen.hypercall(this.guest.vcpu(0), HYPERVISOR.physdev_op, [28, ARGUMENT_GFN * PAGE_SIZE])
  }
}

/** Uniform, for small numbers are no simpler than large ones here; shrinking leaves steps out. */
const number = fc.noBias(fc.integer({ min: 0, max: 599 }))
const steps = fc.array(fc.tuple(number, number, number, number), { minLength: 16, maxLength: 30, size: 'max' })

const CASES: [Bits, Form][] = [
  [32, 2],
  [32, 3],
  [32, 4],
  [32, 'fifo'],
  [64, 2],
  [64, 3],
  [64, 4],
  [64, 'fifo'],
]

/** What a restore on a host without the peers makes of a domain's facts: other ends gone, Xen's ports too. */
function withoutPeers(domain: Domain) {
  const { ports, ...facts } = domainFacts(domain)
  const kept = ports.filter(([, , , consumer]) => !consumer)
  const self = new Map(
    kept.filter(([, state, , , domid]) => state === ECS.INTERDOMAIN && domid === 1).map((p) => [p[0], p[5]!]),
  )
  return {
    ...facts,
    frozen: 'restored' as const,
    pauseCount: 0,
    active: facts.active - facts.xen,
    xen: 0,
    ports: kept.map((port) => {
      const [number, state, vcpu, consumer, domid, remote] = port
      const loop = domid === 1 && self.get(remote!) === number
      return state === ECS.INTERDOMAIN && !loop ? [number, ECS.UNBOUND, vcpu, consumer, domid] : port
    }),
  }
}

function checkTransparent(world: World): void {
  const { xen, guest } = world
  const before = hostText(xen)
  const move = xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
  expect(structuredClone(move.state)).toEqual(move.state)
  const state = throughJson(move.state)
  move.abort()
  expectSame(xen, before, 'frozen, saved and thawed')

  const there = Hypervisor.create()
  const restored = there.restoreDomain(state, GRANTS)
  expect(domainFacts(restored)).toEqual(withoutPeers(guest))
  expect(Buffer.compare(ramOf(restored), ramOf(guest)), 'RAM').toBe(0)
  expect(there.nextTimerNs).toBe(xen.nextTimerNs)
  there.startDomain(there.domain(1)!)
  const again = there.saveDomain(there.domain(1)!, { mode: 'transparent' })
  const { interdomain, unbound, ...ports } = again.ports
  expect(interdomain.rows.length + unbound.rows.length).toBe(
    state.ports.interdomain.rows.length + state.ports.unbound.rows.length,
  )
  const same = { ...state.ports, interdomain, unbound, ...ports }
  expect({ ...again, ram: [] }).toEqual({ ...state, ram: [], xenPorts: [], ports: same })
}

function checkCooperative({ xen, guest }: World): void {
  const before = hostText(xen)
  const state = throughJson(xen.saveDomain(xen.domain(1)!))
  expectSame(xen, before, 'saved')
  const restored = Hypervisor.create().restoreDomain(state)
  const facts = domainFacts(restored)
  expect(facts).toMatchObject({ levels: 2, nlevel: null, ports: [], active: 0, frozen: null, bits: guest.bits })
  expect(facts.vcpus.every(({ infoGfn, recorded }) => infoGfn < 0 && !recorded)).toBe(true)
  // RAM is the same but for what the restorer clears in shared_info (EC-guest-6).
  const { pending, mask, words, sel } = sharedInfo(guest.bits)
  const [mine, theirs] = [ramOf(guest), ramOf(restored)]
  const bytes = (words * guest.bits) / 8
  const at = PAGE_SIZE
  expect(theirs.subarray(at + pending, at + pending + bytes).every((byte) => byte === 0)).toBe(true)
  expect(theirs.subarray(at + mask, at + mask + bytes).every((byte) => byte === 0xff)).toBe(true)
  for (const ram of [mine, theirs]) {
    ram.fill(0, at + pending, at + pending + bytes)
    ram.fill(0, at + mask, at + mask + bytes)
    for (let vcpu = 0; vcpu < XEN_LEGACY_MAX_VCPUS; vcpu++) {
      const word = at + vcpu * VCPU_INFO_SIZE + sel
      ram.fill(0, word, word + guest.bits / 8)
    }
  }
  expect(Buffer.compare(mine, theirs), 'RAM').toBe(0)
}

/** Replaces the guest by its restored self on the same host; the channels must be intact. */
function replace({ xen, guest }: World): void {
  const channels = (domain: Domain) => portFacts(domain).filter(([, , , consumer]) => !consumer)
  const before = { guest: channels(guest), peers: [0, 2].map((domid) => portFacts(xen.domain(domid)!)) }
  const xenPorts = new Set(
    portFacts(guest)
      .filter(([, , , consumer]) => consumer)
      .map(([port]) => port),
  )
  const pending = before.guest.filter(([port]) => isRaised(inside(guest), port)).map(([port]) => port)
  const replaces = xen.beginMigration(xen.domain(1)!, { mode: 'transparent' })
  const restored = xen.restoreDomain(throughJson(replaces.state), { replaces })
  xen.startDomain(xen.domain(1)!)
  expect(replaces.status).toBe('committed')
  expect(xen.domain(1)).toBe(restored)
  expect(guest.dying).toBe('dead')
  expect(xen.hypercall(guest.vcpu(0), HYPERVISOR.sched_op, [SCHEDOP.yield])).toBe(-3)

  const lost = (port: readonly number[]) => port[1] === ECS.INTERDOMAIN && port[4] === 1 && xenPorts.has(port[5]!)
  expect(channels(restored)).toEqual(
    before.guest.map((port) => (lost(port) ? [port[0], ECS.UNBOUND, port[2], 0, 1] : port)),
  )
  for (const [i, domid] of [0, 2].entries())
    expect(portFacts(xen.domain(domid)!), `d${domid}`).toEqual(
      before.peers[i]!.map((port) => (lost(port) ? [port[0], ECS.UNBOUND, port[2], port[3], 1] : port)),
    )
  for (const port of pending) expect(isRaised(inside(restored), port), `port ${port} stays pending`).toBe(true)
  const cut = channels(restored).filter(([, state, , , domid]) => state === ECS.INTERDOMAIN && domid !== 1)
  expect(restored.restored!.connected.map(({ port }) => port).sort()).toEqual(cut.map(([port]) => port).sort())
  for (const [port, , , , domid, remotePort] of cut) {
    expect(isRaised(inside(restored), port), `port ${port} was set pending`).toBe(true)
    expect(xen.domain(domid!)!.isPending(remotePort!), `its other end`).toBe(true)
  }
}

describe('after every step of random operations', () => {
  it.each(CASES)(
    'NL-mig-3, NL-mig-4, NL-mig-5: %i bits, %s levels: a transparent state restores to the same domain',
    (bits, levels) => {
      fc.assert(
        fc.property(steps, (sequence) => {
          const world = new World(bits, levels)
          checkTransparent(world)
          for (const step of sequence) {
            world.step(step)
            checkTransparent(world)
          }
        }),
        { numRuns: 2 },
      )
    },
  )

  it('NL-mig-3: every operation and every state of a port, one after the other', () => {
    const world = new World(64, 3)
    const seen = new Set<string>()
    for (let i = 0; i < 150; i++) {
      world.step([i % 25, i + (i >> 3), i >> 2, i >> 3])
      if (i === 2) world.poll(2, [1])
      checkTransparent(world)
      const { guest } = world
      for (const [, state] of portFacts(guest)) seen.add(`state ${state}`)
      if (guest.vcpus.some((vcpu) => vcpu.polling)) seen.add('polling')
      if (guest.vcpus.some((vcpu) => inside(vcpu).infoGfn >= 0)) seen.add('vcpu_info')
      if (guest.vcpus.some((vcpu) => vcpu.upcallPending)) seen.add('upcall')
      if (inside(guest).ports.xenEvtchns) seen.add('Xen-attached')
      if (inside(guest).pirqs.eoiMapGfn >= 0) seen.add('EOI map')
    }
    const states = [ECS.UNBOUND, ECS.INTERDOMAIN, ECS.PIRQ, ECS.VIRQ, ECS.IPI].map((state) => `state ${state}`)
    expect([...seen].sort()).toEqual([...states, 'polling', 'vcpu_info', 'upcall', 'Xen-attached', 'EOI map'].sort())
  })

  it.each(CASES)(
    'NL-mig-1: %i bits, %s levels: a cooperative state restores to two levels without channels',
    (bits, levels) => {
      fc.assert(
        fc.property(steps, (sequence) => {
          const world = new World(bits, levels)
          for (const step of sequence) {
            world.step(step)
            checkCooperative(world)
          }
        }),
        { numRuns: 2 },
      )
    },
  )

  it.each(CASES)(
    'NL-mig-6: %i bits, %s levels: a guest that is replaced by its restored self keeps every channel',
    (bits, levels) => {
      fc.assert(
        fc.property(steps, (sequence) => {
          const world = new World(bits, levels)
          for (const step of sequence) {
            world.step(step)
            replace(world)
          }
        }),
        { numRuns: 2 },
      )
    },
  )
})
