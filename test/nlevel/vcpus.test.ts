/** vCPUs without selectors, on the dummy, added late, and ports that move between them (NL-sel-4, NL-vi-1, NL-vcpu-1). */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, SCHEDOP, VCPUOP } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type DomainOptions, Hypervisor } from '../../src/index.js'
import { bytesAt, channelsOf, PAGE, plan } from './geometry.js'
import { ARGUMENT, FIRST_FREE, TreeGuest } from './guest.js'

const EBUSY = -16

/** A guest whose upcalls are noted: [vCPU] in their order. */
function noting(options: Partial<DomainOptions>): { guest: TreeGuest; told: number[] } {
  const told: number[] = []
  const xen = Hypervisor.create({ trace: { upcall: ({ vcpuId }) => void told.push(vcpuId) } })
  return { guest: new TreeGuest(xen, { domid: 1, frames: 128, maxEvtchnPort: Infinity, ...options }), told }
}

function poll(guest: TreeGuest, vcpu: number, port: number): void {
  guest.viewAt().setBigUint64(ARGUMENT, BigInt(ARGUMENT + 32), true)
  guest.viewAt().setUint32(ARGUMENT + 8, 1, true)
  guest.viewAt().setBigUint64(ARGUMENT + 16, 0n, true)
  guest.viewAt().setUint32(ARGUMENT + 32, port, true)
  expect(guest.call(HYPERVISOR.sched_op, [SCHEDOP.poll, ARGUMENT], vcpu)).toBe(0)
}

function registerInfo(guest: TreeGuest, vcpu: number, gfn: number, offset = 0): number {
  guest.viewAt().setBigUint64(ARGUMENT, BigInt(gfn), true)
  guest.viewAt().setUint32(ARGUMENT + 8, offset, true)
  guest.viewAt().setUint32(ARGUMENT + 12, 0, true)
  const rc = guest.call(HYPERVISOR.vcpu_op, [VCPUOP.register_vcpu_info, vcpu, ARGUMENT])
  if (rc === 0) guest.infoGpa[vcpu] = gfn * PAGE + offset
  return rc
}

const FORMS = [
  [64, 3],
  [64, 4],
  [32, 3],
  [32, 4],
  [32, 5],
] as const

describe.each(FORMS)('%i bits, %i levels', (bits, levels) => {
  it('NL-sel-4: a vCPU without active selectors latches: the leaf, pollers, and nothing else', () => {
    const { guest, told } = noting({ bits, vcpus: 3 })
    const tree = plan(bits, levels, 1, 3, FIRST_FREE)
    guest.register(tree, [0])
    const port = guest.domain.eventChannelOp('bind_ipi', { vcpu: 1 }).port
    poll(guest, 2, port)
    told.length = 0
    for (const how of ['send', 'unmask'] as const) {
      guest.setBitAt(guest.leaf('pending', port), how === 'send' ? 0 : 1)
      guest.setBitAt(guest.leaf('mask', port), how === 'send' ? 0 : 1)
      const ram = guest.bytes.slice()
      expect(guest.op(how, { port })).toBe(0)
      const changed = [...guest.bytes.entries()].filter(
        ([i, byte]) => byte !== ram[i] && (i < ARGUMENT || i > ARGUMENT + 32),
      )
      expect(changed.map(([i]) => i)).toEqual([guest.leaf(how === 'send' ? 'pending' : 'mask', port)[0] + (port >> 3)])
    }
    expect(told).toEqual([])
    expect(guest.domain.vcpu(2).polling).toBe(false)
    // When its selectors come, it scans in full and finds what was latched (NL-sel-3).
    expect(guest.setSelectors(tree, 1)).toBe(0)
    expect([guest.path(1, port), guest.flag(1), told]).toEqual([Array(levels - 1).fill(1), 1, [1]])
    expect(guest.setSelectors(tree, 1)).toBe(EBUSY)
  })

  it('NL-vi-1: for a vCPU on the dummy, its vcpu_info is the last level to come', () => {
    const { guest, told } = noting({ bits, vcpus: 35 })
    // All vCPUs share their selector frames (NL-frame-1), but for 33 and 34, which are on the dummy.
    const tree = plan(bits, levels, 1, 3, FIRST_FREE)
    const selectors = Array.from({ length: 35 }, (_, v) => tree.selectors[Math.max(0, v - 32)]!)
    const wide = { ...tree, selectors }
    const port = guest.domain.eventChannelOp('bind_ipi', { vcpu: 33 }).port
    guest.register(wide, [0, 33])
    expect(told).toEqual([0])
    told.length = 0
    guest.setBitAt(guest.leaf('mask', port), 0)
    expect(guest.op('send', { port })).toBe(0)
    expect(told).toEqual([])
    const selectorWords = () =>
      tree.selectors[1]!.flatMap(({ gfns }) => gfns).some((gfn) =>
        guest.bytes.subarray(gfn * PAGE, (gfn + 1) * PAGE).some(Boolean),
      )
    expect([guest.pending(port), selectorWords()]).toEqual([1, false])
    expect(inside(guest.domain.vcpu(33)).activeDepth).toBe(0)

    const gfn = 100
    expect(registerInfo(guest, 33, gfn, 128)).toBe(0)
    expect(told).toEqual([33])
    expect([guest.path(33, port), guest.flag(33)]).toEqual([Array(levels - 1).fill(1), 1])
    // EC-vi-14: from the dummy come zeroes and a set upcall mask; level 1 has the bits that lead somewhere, as NL-sel-3.
    expect(guest.bytes[guest.infoGpa[33]! + 1]).toBe(1)
    const channels = channelsOf(bits, levels, 1)
    const ones = Math.ceil(channels / bits ** (levels - 1))
    expect(guest.viewAt().getUint32(guest.level1(33), true)).toBe(2 ** Math.min(ones, 32) - 1)
  })

  it('NL-vi-1: on the dummy without selectors, the area comes first and the selectors last', () => {
    const { guest, told } = noting({ bits, vcpus: 33 })
    const tree = plan(bits, levels, 1, 2, FIRST_FREE)
    guest.register({ ...tree, selectors: Array.from({ length: 33 }, (_, v) => tree.selectors[v >> 5]!) }, [0])
    const port = guest.domain.eventChannelOp('bind_ipi', { vcpu: 32 }).port
    guest.setBitAt(guest.leaf('mask', port), 0)
    expect(registerInfo(guest, 32, 100)).toBe(0)
    guest.bytes.fill(0, 100 * PAGE, 100 * PAGE + 64)
    told.length = 0
    expect(guest.op('send', { port })).toBe(0)
    expect([guest.pending(port), guest.flag(32), told]).toEqual([1, 0, []])
    expect(guest.setSelectors(guest.tree!, 32)).toBe(0)
    expect([guest.path(32, port), guest.flag(32), told]).toEqual([Array(levels - 1).fill(1), 1, [32]])
  })

  it('NL-vi-1, EC-vi-15: with all levels there, a new vcpu_info gets level 1 all ones and no other level is touched', () => {
    const { guest, told } = noting({ bits })
    const tree = plan(bits, levels, 1, 1, FIRST_FREE)
    guest.register(tree)
    guest.quiet(0)
    told.length = 0
    const selectors = () =>
      tree.selectors[0]!.flatMap(({ gfns }) =>
        gfns.flatMap((gfn) => [...guest.bytes.subarray(gfn * PAGE, (gfn + 1) * PAGE)]),
      )
    const before = selectors()
    expect(registerInfo(guest, 0, 100, 64)).toBe(0)
    expect(selectors()).toEqual(before)
    const at = guest.level1(0)
    expect([...guest.bytes.subarray(at, at + bits / 8)]).toEqual(Array(bits / 8).fill(0xff))
    expect([guest.flag(0), told]).toEqual([1, [0]])
    // The old slot is not used again (EC-vi-16).
    const port = guest.domain.eventChannelOp('bind_ipi', { vcpu: 0 }).port
    guest.setBitAt(guest.leaf('mask', port), 0)
    guest.quiet(0)
    const old = guest.bytes.slice(PAGE, PAGE + 64)
    expect(guest.op('send', { port })).toBe(0)
    expect(guest.bytes.slice(PAGE, PAGE + 64)).toEqual(old)
    expect([guest.path(0, port), guest.flag(0)]).toEqual([Array(levels - 1).fill(1), 1])
  })

  it('NL-vcpu-1: a pending, unmasked port climbs on its new vCPU; the old one may find nothing to do', () => {
    const { guest, told } = noting({ bits, vcpus: 3 })
    guest.register(plan(bits, levels, 1, 3, FIRST_FREE), [0, 1])
    for (const v of [0, 1]) guest.quiet(v)
    const port = guest.domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 1 }).port
    const climbed = Array(levels - 1).fill(1)
    const none = Array(levels - 1).fill(0)
    const cases = [
      { pending: 1, masked: 0, path: climbed, flag: 1 },
      { pending: 1, masked: 1, path: none, flag: 0 },
      { pending: 0, masked: 0, path: none, flag: 0 },
    ]
    for (const { pending, masked, path, flag } of cases) {
      for (const v of [0, 1]) guest.quiet(v)
      guest.must(guest.op('bind_vcpu', { port, vcpu: 0 }))
      guest.setBitAt(guest.leaf('pending', port), pending)
      guest.setBitAt(guest.leaf('mask', port), masked)
      for (const v of [0, 1]) guest.quiet(v)
      told.length = 0
      expect(guest.op('bind_vcpu', { port, vcpu: 1 })).toBe(0)
      expect([guest.path(1, port), guest.flag(1), told]).toEqual([path, flag, flag ? [1] : []])
      expect([guest.path(0, port), guest.flag(0)]).toEqual([none, 0])
      expect([guest.pending(port), guest.masked(port)]).toEqual([pending, masked])
      // A vCPU that latches gets no selector bit.
      told.length = 0
      expect(guest.op('bind_vcpu', { port, vcpu: 2 })).toBe(0)
      expect([guest.flag(2), told]).toEqual([0, []])
    }
  })

  it('NL-vcpu-1, NL-set-1: the climb on the new vCPU stops at a bit that is set there', () => {
    const { guest } = noting({ bits, vcpus: 2 })
    guest.register(plan(bits, levels, 1, 2, FIRST_FREE))
    const port = guest.domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 1 }).port
    for (let stop = levels - 1; stop >= 1; stop--) {
      guest.must(guest.op('bind_vcpu', { port, vcpu: 0 }))
      guest.setBitAt(guest.leaf('pending', port), 1)
      guest.setBitAt(guest.leaf('mask', port), 0)
      guest.quiet(1)
      guest.setBitAt(guest.selector(1, stop, port), 1)
      expect(guest.op('bind_vcpu', { port, vcpu: 1 })).toBe(0)
      const expected = Array.from({ length: levels - 1 }, (_, i) => (levels - 1 - i >= stop ? 1 : 0))
      expect([guest.path(1, port), guest.flag(1)]).toEqual([expected, 0])
    }
  })
})

it('EC-vcpu-6, NL-vcpu-1: at two levels nothing moves', () => {
  for (const bits of [32, 64] as const) {
    const { guest, told } = noting({ bits, vcpus: 2 })
    const port = guest.domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 1 }).port
    guest.setBitAt(guest.leaf('pending', port), 1)
    expect(guest.op('bind_vcpu', { port, vcpu: 1 })).toBe(0)
    expect([guest.path(1, port), guest.flag(1), told]).toEqual([[0], 0, []])
  }
})

it('EC-up-6, NL-sel-4: a vCPU that comes up is upcalled for what was raised while it was down', () => {
  for (const levels of [2, 3]) {
    const entered: number[] = []
    const xen = Hypervisor.create({
      onUpcall: ({ vcpuId }) => {
        entered.push(vcpuId)
        guest.setFlag(0, vcpuId)
      },
    })
    const guest: TreeGuest = new TreeGuest(xen, { domid: 1, vcpus: 2, frames: 32 })
    if (levels > 2) guest.register(plan(64, levels, 1, 2, FIRST_FREE))
    for (const v of [0, 1]) guest.quiet(v)
    guest.openIpi(1, 1)
    guest.setBitAt(guest.leaf('mask', 1), 0)
    expect(guest.call(HYPERVISOR.vcpu_op, [VCPUOP.down, 1, 0])).toBe(0)
    entered.length = 0
    guest.must(guest.op('send', { port: 1 }))
    expect([entered, guest.flag(1)]).toEqual([[], 1])
    expect(guest.call(HYPERVISOR.vcpu_op, [VCPUOP.up, 1, 0])).toBe(0)
    expect([entered, guest.flag(1)]).toEqual([[1], 0])
    // Up already, and nothing to tell.
    expect(guest.call(HYPERVISOR.vcpu_op, [VCPUOP.up, 1, 0])).toBe(0)
    expect(entered).toEqual([1])
  }
})

it('NL-vi-1: an area for the events of the registered width is aligned for that width', () => {
  const { guest } = noting({ bits: 64 })
  guest.register(plan(64, 3, 1, 1, FIRST_FREE))
  inside(guest.domain).latchWidth(32)
  expect(registerInfo(guest, 0, 100, 4)).toBe(-6)
  expect(registerInfo(guest, 0, 100, 8)).toBe(0)
})

it('NL-tree-2: an area that crosses levels of one page is as large as its channels want', () => {
  // Level 2 of four 64-bit levels has one bit for each 4,096 ports.
  expect(bytesAt(64, 4, 2, channelsOf(64, 4, 512))).toBe(512)
  expect(bytesAt(64, 4, 3, channelsOf(64, 4, 512))).toBe(8 * PAGE)
  expect(bytesAt(32, 5, 4, channelsOf(32, 5, 1024))).toBe(32 * PAGE)
})
