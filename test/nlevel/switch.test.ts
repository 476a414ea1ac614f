/** The switch from two levels to a tree: what moves, what is told to whom, and that no event is lost (NL-reg-4, NL-reg-5). */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, SCHEDOP, sharedInfo } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { Hypervisor } from '../../src/index.js'
import { frameRefs } from '../../src/machine/memory.js'
import { channelsOf, PAGE, plan } from './geometry.js'
import { ARGUMENT, FIRST_FREE, TreeGuest } from './guest.js'

const FRAMES = 64
const TREE = plan(64, 3, 2, 2, FIRST_FREE)
const TWO_VCPUS = { frames: FRAMES, vcpus: 2 }

describe('the switch', () => {
  const forms = [
    [64, 3, 2],
    [64, 4, 3],
    [32, 3, 1],
    [32, 4, 2],
    [32, 5, 2],
  ] as const

  it.each(forms)(
    'NL-reg-4: %i bits, %i levels: pending bits move, mask bits are copied, the rest is as the guest made it',
    (bits, levels, nrPages) => {
      const guest = TreeGuest.on({}, { bits, vcpus: 2, frames: FRAMES })
      const tree = plan(bits, levels, nrPages, 2, FIRST_FREE)
      const { pending, mask } = sharedInfo(bits)
      const bytes = (bits * bits) / 8
      const pattern = (i: number) => (i * 167 + 13) & 0xff
      for (let i = 0; i < bytes; i++) {
        guest.bytes[PAGE + pending + i] = pattern(i)
        guest.bytes[PAGE + mask + i] = pattern(i + 5)
      }
      guest.clean(tree)
      // A bit that is in the leaf already stays (OR), and words beyond the first W² ports are not looked at.
      guest.bytes[tree.pending[0]! * PAGE + 3] = 0xa5
      for (const gfn of [...tree.pending, ...tree.mask]) guest.bytes.fill(0x3c, gfn * PAGE + bytes, (gfn + 1) * PAGE)
      guest.bytes[guest.level1(0)] = 0xff
      const other = guest.bytes.slice(PAGE, 2 * PAGE)
      for (const vcpu of [0, 1]) guest.must(guest.setSelectors(tree, vcpu))
      guest.must(guest.commit(tree))
      for (let i = 0; i < bytes; i++) {
        expect(guest.bytes[PAGE + pending + i]).toBe(0)
        expect(guest.bytes[PAGE + mask + i]).toBe(pattern(i + 5))
        expect(guest.bytes[tree.pending[0]! * PAGE + i]).toBe(i === 3 ? pattern(3) | 0xa5 : pattern(i))
        expect(guest.bytes[tree.mask[0]! * PAGE + i]).toBe(pattern(i + 5))
      }
      for (const gfn of [...tree.pending, ...tree.mask])
        expect(guest.bytes.subarray(gfn * PAGE + bytes, (gfn + 1) * PAGE).every((byte) => byte === 0x3c)).toBe(true)
      // Of shared_info nothing else but flags and level 1 of the two vCPUs.
      const changed = [...guest.bytes.slice(PAGE, 2 * PAGE).entries()]
        .filter(([i, byte]) => byte !== other[i] && (i < pending || i >= pending + bytes))
        .map(([i]) => i)
      expect(
        changed.every(
          (i) => i % 64 === 0 || (i % 64 >= sharedInfo(bits).sel && i % 64 < sharedInfo(bits).sel + bits / 8),
        ),
      ).toBe(true)
      expect(changed.every((i) => i < 128)).toBe(true)
    },
  )

  it.each(forms)(
    'NL-reg-4, NL-tree-4: %i bits, %i levels: from then on shared_info is neither read nor written',
    (bits, levels, nrPages) => {
      const guest = TreeGuest.on({}, { bits, frames: FRAMES })
      const [a, b] = [1, 2].map(() => guest.domain.eventChannelOp('bind_ipi', { vcpu: 0 }).port) as [number, number]
      guest.register(plan(bits, levels, nrPages, 1, FIRST_FREE))
      guest.quiet(0)
      const { pending, mask } = sharedInfo(bits)
      const words = guest.bytes.subarray(PAGE + pending, PAGE + mask + (bits * bits) / 8)
      // Not read: old words say that all is pending and masked.
      words.fill(0xff)
      for (const port of [a, b]) {
        guest.setBitAt(guest.leaf('mask', port), 0)
        expect(guest.op('send', { port })).toBe(0)
        expect([guest.pending(port), guest.flag(0)]).toEqual([1, 1])
      }
      guest.setBitAt(guest.leaf('mask', a), 1)
      expect(guest.op('unmask', { port: a })).toBe(0)
      expect(guest.masked(a)).toBe(0)
      expect(guest.op('close', { port: a })).toBe(0)
      expect(guest.pending(a)).toBe(0)
      expect(words.every((byte) => byte === 0xff)).toBe(true)
    },
  )

  it.each(forms)(
    'NL-reg-4: %i bits, %i levels: level 1 of every vCPU becomes 0 before the selectors are activated',
    (bits, levels, nrPages) => {
      const guest = TreeGuest.on({}, { bits, vcpus: 3, frames: FRAMES })
      const tree = plan(bits, levels, nrPages, 3, FIRST_FREE)
      for (const v of [0, 1, 2]) guest.bytes.fill(0xff, guest.level1(v), guest.level1(v) + bits / 8)
      guest.register(tree, [0, 2])
      const word = (v: number) =>
        bits === 64
          ? guest.viewAt().getBigUint64(guest.level1(v), true)
          : BigInt(guest.viewAt().getUint32(guest.level1(v), true))
      // vCPU 1 has none; of the others' words only the bits that have channels behind them are left.
      const ones = 2n ** BigInt(Math.ceil(channelsOf(bits, levels, nrPages) / bits ** (levels - 1))) - 1n
      expect([word(0), word(1), word(2)]).toEqual([ones, 0n, ones])
    },
  )

  it('NL-reg-5: an event raised before, in the middle of the two calls, or after is there when the vCPU scans', () => {
    const guest = TreeGuest.on({}, { vcpus: 2, frames: FRAMES })
    const ports = [0, 1, 0, 1, 0, 1].map((vcpu) => guest.domain.eventChannelOp('bind_ipi', { vcpu }).port)
    const send = (i: number) => expect(guest.op('send', { port: ports[i]! })).toBe(0)
    guest.clean(TREE)
    send(0)
    send(1)
    for (const vcpu of [0, 1]) {
      guest.must(guest.setSelectors(TREE, vcpu))
      send(2 + vcpu)
    }
    guest.must(guest.commit(TREE))
    for (const i of [4, 5]) send(i)
    for (const [i, port] of ports.entries()) {
      expect(guest.pending(port)).toBe(1)
      expect([guest.path(i % 2, port), guest.flag(i % 2)]).toEqual([[1, 1], 1])
    }
  })

  it('NL-reg-4: selectors of another size than the one committed are forgotten, their frames let go', () => {
    const guest = TreeGuest.on({}, TWO_VCPUS)
    const other = plan(64, 4, 1, 2, 32)
    guest.must(guest.setSelectors(TREE, 0))
    guest.must(guest.setSelectors(other, 1))
    guest.must(guest.commit(TREE))
    for (const { gfns } of other.selectors[1]!) expect(frameRefs(guest.domain.memory).references(gfns[0]!)).toBe(0)
    expect(inside(guest.domain.vcpu(1)).activeDepth).toBe(0)
    // So it may have the right ones later.
    expect(guest.setSelectors(TREE, 1)).toBe(0)
    expect(inside(guest.domain.vcpu(1)).activeDepth).toBe(3)
  })

  it('NL-sel-3: each vCPU is told, even if its flag was 1, and when it is told its selectors are all set', () => {
    const seen: unknown[] = []
    let guest: TreeGuest | undefined
    const xen = Hypervisor.create({
      trace: {
        upcall: ({ vcpuId }) => {
          if (!guest) return
          const { gfns, offset } = TREE.selectors[vcpuId]![0]!
          const level2 = guest.bytes.subarray(gfns[0]! * PAGE + offset, (gfns[0]! + 1) * PAGE)
          seen.push([
            vcpuId,
            level2.every((byte) => byte === 0xff),
            guest.viewAt().getBigUint64(guest.level1(vcpuId), true),
          ])
        },
      },
    })
    guest = new TreeGuest(xen, { domid: 1, ...TWO_VCPUS })
    guest.setFlag(1)
    guest.clean(TREE)
    for (const vcpu of [0, 1]) guest.must(guest.setSelectors(TREE, vcpu))
    expect(seen).toEqual([])
    guest.must(guest.commit(TREE))
    expect(seen).toEqual([
      [0, true, 0xffffn],
      [1, true, 0xffffn],
    ])
  })

  it('NL-reg-4: a poller of another vCPU sleeps through the switch and is woken by the first event after it', () => {
    const guest = TreeGuest.on({}, { vcpus: 2, frames: FRAMES })
    const port = guest.domain.eventChannelOp('bind_ipi', { vcpu: 0 }).port
    guest.clean(TREE)
    guest.must(guest.setSelectors(TREE, 0))
    guest.viewAt().setBigUint64(ARGUMENT, BigInt(ARGUMENT + 32), true)
    guest.viewAt().setUint32(ARGUMENT + 8, 1, true)
    guest.viewAt().setBigUint64(ARGUMENT + 16, 0n, true)
    guest.viewAt().setUint32(ARGUMENT + 32, port, true)
    expect(guest.call(HYPERVISOR.sched_op, [SCHEDOP.poll, ARGUMENT], 1)).toBe(0)
    expect(guest.domain.vcpu(1).polling).toBe(true)
    guest.must(guest.commit(TREE))
    expect(guest.domain.vcpu(1).polling).toBe(true)
    guest.setBitAt(guest.leaf('mask', port), 1)
    expect(guest.op('send', { port })).toBe(0)
    expect(guest.domain.vcpu(1).polling).toBe(false)
  })
})
