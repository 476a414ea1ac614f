/** Raising, unmasking and clearing, word by word (NL-set-1, NL-unmask-1, NL-clear-1, NL-bad-1): which words change. */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, HYPERVISOR, SCHEDOP, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { Hypervisor } from '../../src/index.js'
import { random } from '../random.js'
import { seedOr } from '../settings.js'
import { plan } from './geometry.js'
import { ARGUMENT, FIRST_FREE, TreeGuest } from './guest.js'

const FORMS = [
  [64, 2],
  [64, 3],
  [64, 4],
  [32, 2],
  [32, 3],
  [32, 4],
  [32, 5],
] as const

/** A domain with a peer; everything masked and quiet. */
function machine(bits: 32 | 64, levels: number, last = 70) {
  const told: number[] = []
  const xen = Hypervisor.create({ trace: { upcall: (vcpu) => void (vcpu.domid === 1 && told.push(vcpu.vcpuId)) } })
  const guest = new TreeGuest(xen, { domid: 1, bits, vcpus: 2, frames: 64, maxEvtchnPort: Infinity })
  if (levels > 2) guest.register(plan(bits, levels, levels === 3 && bits === 32 ? 1 : 2, 2, FIRST_FREE))
  for (const v of [0, 1]) guest.quiet(v)
  guest.openIpi(last, 1)
  told.length = 0
  return { xen, guest, told, port: last }
}

/** Words of the guest's width that an operation changed, argument structs aside, as [address, old XOR new]. */
function changes(guest: TreeGuest, operation: () => void): Map<number, bigint> {
  const before = guest.bytes.slice()
  operation()
  const wide = guest.domain.bits === 64
  const [was, is] = [new Uint32Array(before.buffer), new Uint32Array(guest.bytes.slice().buffer)]
  const found = new Map<number, bigint>()
  for (let i = 0, end = was.length; i < end; i++) {
    if (was[i] === is[i] || (i * 4 >= ARGUMENT && i * 4 < ARGUMENT + 256)) continue
    const at = wide ? (i & ~1) * 4 : i * 4
    const diff = BigInt((was[i]! ^ is[i]!) >>> 0) << (wide && i & 1 ? 32n : 0n)
    found.set(at, (found.get(at) ?? 0n) | diff)
  }
  return found
}

/** The word and bit of a bitmap position, as `changes` has them. */
const word = (guest: TreeGuest, [gpa, bit]: readonly [number, number]): [number, bigint] => {
  const { bits } = guest.domain
  const at = gpa + Math.floor(bit / bits) * (bits / 8)
  return [at, 1n << BigInt(bit % bits)]
}

describe.each(FORMS)('%i bits, %i levels', (bits, levels) => {
  const selectors = Array.from({ length: levels - 1 }, (_, i) => levels - 1 - i)

  it.each([1, 31, 32, 63, 64, 65, 127, bits * bits - 1])(
    'NL-set-1, NL-tree-1, NL-tree-2: a raise of port %i sets its leaf bit, each selector bit, the flag, and no other bit',
    (port) => {
      const { guest, told } = machine(bits, levels, port)
      guest.setBitAt(guest.leaf('mask', port), 0)
      const found = changes(guest, () => guest.must(guest.op('send', { port })))
      const expected = new Map([
        word(guest, guest.leaf('pending', port)),
        ...selectors.map((k) => word(guest, guest.selector(1, k, port))),
        [guest.infoGpa[1]!, 1n] as [number, bigint],
      ])
      expect(found).toEqual(expected)
      expect(told).toEqual([1])
      // NL-bad-1 allows n + 2.
      expect(found.size).toBe(levels + 1)
      // A second raise merges with the first.
      expect(changes(guest, () => guest.must(guest.op('send', { port }))).size).toBe(0)
      expect(told).toEqual([1])
    },
  )

  it('NL-set-1: a raise stops at a pending leaf bit, whatever is above it', () => {
    const { guest, told, port } = machine(bits, levels)
    guest.setBitAt(guest.leaf('mask', port), 0)
    guest.setBitAt(guest.leaf('pending', port), 1)
    expect(changes(guest, () => guest.must(guest.op('send', { port }))).size).toBe(0)
    expect(told).toEqual([])
  })

  it('NL-set-1, NL-set-2: a climb stops at a selector bit that is set, at each level', () => {
    for (const stop of selectors) {
      const { guest, told, port } = machine(bits, levels)
      guest.setBitAt(guest.leaf('mask', port), 0)
      guest.setBitAt(guest.selector(1, stop, port), 1)
      // All other bits of the word do not matter.
      const found = changes(guest, () => guest.must(guest.op('send', { port })))
      const below = selectors.filter((k) => k > stop).map((k) => word(guest, guest.selector(1, k, port)))
      expect(found).toEqual(new Map([word(guest, guest.leaf('pending', port)), ...below]))
      expect(told).toEqual([])
    }
  })

  it('NL-set-1: other bits of the same selector words neither stop a climb nor change', () => {
    const { guest, told, port } = machine(bits, levels)
    guest.setBitAt(guest.leaf('mask', port), 0)
    for (const k of selectors) {
      const [gpa, bit] = guest.selector(1, k, port)
      const [at, mask] = word(guest, [gpa, bit])
      if (bits === 64) guest.viewAt().setBigUint64(at, ~mask, true)
      else guest.viewAt().setUint32(at, Number(~mask & 0xffff_ffffn), true)
    }
    const found = changes(guest, () => guest.must(guest.op('send', { port })))
    expect(found.size).toBe(levels + 1)
    expect(told).toEqual([1])
  })

  it('NL-set-1, EC-up-1: with the upcall flag set already, level 1 is marked and nobody is told', () => {
    const { guest, told, port } = machine(bits, levels)
    guest.setBitAt(guest.leaf('mask', port), 0)
    guest.setFlag(1, 1)
    const found = changes(guest, () => guest.must(guest.op('send', { port })))
    expect(found.size).toBe(levels)
    expect(told).toEqual([])
  })

  it('NL-set-1: a masked port gets its leaf bit only, and wakes pollers all the same', () => {
    const { guest, told, port } = machine(bits, levels)
    guest.setBitAt(guest.leaf('mask', port), 1)
    poll(guest, 0, [port])
    const found = changes(guest, () => guest.must(guest.op('send', { port })))
    expect(found).toEqual(new Map([word(guest, guest.leaf('pending', port))]))
    expect(guest.domain.vcpu(0).polling).toBe(false)
    expect(told).toEqual([])
    // Only on 0 → 1 (EC-poll-12).
    poll(guest, 0, [3])
    guest.must(guest.op('send', { port }))
    expect(guest.domain.vcpu(0).polling).toBe(true)
  })

  it('NL-unmask-1: acts only if the mask was set, and climbs only if the port is pending', () => {
    for (const [masked, pending] of [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ] as const) {
      const { guest, told, port } = machine(bits, levels)
      guest.setBitAt(guest.leaf('mask', port), masked)
      guest.setBitAt(guest.leaf('pending', port), pending)
      poll(guest, 0, [3])
      // By another vCPU than the port's: delivery goes to the port's (EC-unmask-3).
      const found = changes(guest, () => guest.must(guest.op('unmask', { port }, 0)))
      const climb = masked && pending
      const expected = new Map<number, bigint>(masked ? [word(guest, guest.leaf('mask', port))] : [])
      if (climb) {
        for (const k of selectors) expected.set(...word(guest, guest.selector(1, k, port)))
        expected.set(guest.infoGpa[1]!, 1n)
      }
      expect(found, `masked ${masked}, pending ${pending}`).toEqual(expected)
      expect(told).toEqual(climb ? [1] : [])
      // No pollers (EC-2l-8).
      expect(guest.domain.vcpu(0).polling).toBe(true)
    }
  })

  it('NL-clear-1: close clears the leaf bit; selectors go stale and the mask stays', () => {
    const { guest, told, port } = machine(bits, levels)
    guest.setBitAt(guest.leaf('mask', port), 0)
    guest.must(guest.op('send', { port }))
    told.length = 0
    const found = changes(guest, () => guest.must(guest.op('close', { port })))
    expect(found).toEqual(new Map([word(guest, guest.leaf('pending', port))]))
    expect([guest.path(1, port), guest.flag(1), told]).toEqual([selectors.map(() => 1), 1, []])
    // A port that is born again at that number can be raised at once: nothing is left over (EC-bug-1).
    guest.must(guest.op('bind_ipi', { vcpu: 1 }))
    expect([guest.out.port, guest.pending(port)]).toEqual([port, 0])
  })

  it('NL-set-1: binding raises the local port, VIRQs climb on their vCPU', () => {
    const { xen, guest, told } = machine(bits, levels)
    const peer = new TreeGuest(xen, { domid: 2 })
    peer.must(peer.op('alloc_unbound', { dom: DOMID_SELF, remote_dom: 1 }))
    const found = changes(guest, () =>
      guest.must(guest.op('bind_interdomain', { remote_dom: 2, remote_port: peer.out.port! })),
    )
    const port = guest.out.local_port!
    expect(found.size).toBe(levels + 1)
    expect([guest.pending(port), guest.path(0, port), told]).toEqual([1, selectors.map(() => 1), [0]])
    guest.must(guest.op('bind_virq', { virq: VIRQ.TIMER, vcpu: 1 }))
    const timer = guest.out.port!
    guest.setBitAt(guest.leaf('mask', timer), 0)
    for (const v of [0, 1]) guest.quiet(v)
    told.length = 0
    expect(changes(guest, () => xen.sendVirq(xen.domain(1)!.vcpu(1), VIRQ.TIMER)).size).toBe(levels + 1)
    expect([guest.path(1, timer), guest.flag(1), told]).toEqual([selectors.map(() => 1), 1, [1]])
  })

  it('NL-bad-1: whatever is in its words, no operation touches more than n + 2 words per port', () => {
    const { guest } = machine(bits, levels)
    const next = random(seedOr(0xbeef ^ (bits * levels)))
    const from = guest.tree ? FIRST_FREE * 4096 : 0x1000
    for (let round = 0; round < 120; round++) {
      const byte = [0, 0xff, -1][round % 3]!
      for (let at = from; at < from + 0xc00; at++) guest.bytes[at] = byte < 0 ? next(256) : byte
      if (guest.tree) for (let at = 0x1000; at < 0x1000 + 128; at++) guest.bytes[at] = byte < 0 ? next(256) : byte
      const port = 1 + next(69)
      const op = (['send', 'unmask', 'close'] as const)[round % 7 === 6 ? 2 : next(2)]!
      const found = changes(guest, () => void guest.op(op, { port }))
      expect(found.size, `${op} of ${port} in round ${round}`).toBeLessThanOrEqual(levels + 2)
      const polled = changes(guest, () => void poll(guest, 0, [port, 3]))
      expect(polled.size).toBe(0)
      if (op === 'close') guest.must(guest.op('bind_ipi', { vcpu: 0 }))
    }
  })
})

it.each([
  [64, 4, 65, 2 ** 21 + 77],
  [32, 5, 33, 2 ** 20 + 77],
] as const)(
  'NL-tree-2: %i bits, %i levels, %i pages: a selector level of several pages is used beyond the first',
  (bits, levels, nrPages, port) => {
    const guest = TreeGuest.on({}, { bits, frames: 200 })
    guest.register(plan(bits, levels, nrPages, 1, FIRST_FREE))
    guest.quiet(0)
    // Port objects as if all of them had been opened.
    inside(guest.domain).ports.grow(port)
    inside(guest.domain).ports.take(port)
    inside(guest.domain).ports.setUnbound(port, 0)
    guest.setBitAt(guest.leaf('mask', port), 0)
    const found = changes(guest, () => inside(guest.domain).portOps.setPending(port))
    const selectors = Array.from({ length: levels - 1 }, (_, i) => word(guest, guest.selector(0, levels - 1 - i, port)))
    expect(found).toEqual(new Map([word(guest, guest.leaf('pending', port)), ...selectors, [guest.infoGpa[0]!, 1n]]))
    expect([...guest.xen.dump()].at(-1)).toBe(`    ${port} [1/0/${'1'.repeat(levels - 1)}]: s=2 n=0 x=0 d=0`)
    guest.quiet(0)
    expect([...guest.xen.dump()].at(-1)).toContain(`[1/0/${'0'.repeat(levels - 1)}]`)
  },
)

function poll(guest: TreeGuest, vcpu: number, ports: number[]): void {
  const view = guest.viewAt(ARGUMENT, 256)
  const wide = guest.domain.bits === 64
  for (let i = 0; i < 24; i++) view.setUint8(i, 0)
  view.setUint32(0, ARGUMENT + 64, true)
  view.setUint32(wide ? 8 : 4, ports.length, true)
  for (const [i, port] of ports.entries()) view.setUint32(64 + 4 * i, port, true)
  guest.call(HYPERVISOR.sched_op, [SCHEDOP.poll, ARGUMENT], vcpu)
}
