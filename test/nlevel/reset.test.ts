/** The way back to two levels (NL-reset-1, NL-reset-2), and Xen's other operations on an N-level domain (NL-op-1). */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, HYPERVISOR, SCHEDOP, SHUTDOWN } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { Hypervisor, SOFTIRQ, type Vcpu } from '../../src/index.js'
import { P, PAGE, type Plan, plan } from './geometry.js'
import { ARGUMENT, FIRST_FREE, stateOf, TreeGuest } from './guest.js'

const [ENOENT, EAGAIN, EBUSY, EINVAL, ENOSYS, EOPNOTSUPP] = [-2, -11, -16, -22, -38, -95]
const FRAMES = 64

const FORMS = [
  [64, 3],
  [64, 4],
  [32, 3],
  [32, 5],
] as const

/** Three ways to the same end. */
const WAYS: [string, (guest: TreeGuest) => void][] = [
  ['EVTCHNOP_reset', (guest) => guest.must(guest.op('reset', { dom: DOMID_SELF }))],
  [
    'a reset by the control domain',
    (guest) => {
      const control = new TreeGuest(guest.xen, { domid: 0 })
      expect(control.op('reset', { dom: 1 })).toBe(EINVAL)
      guest.xen.pauseDomain(guest.xen.domain(1)!)
      control.must(control.op('reset', { dom: 1 }))
    },
  ],
  [
    'a soft reset',
    (guest) => {
      guest.viewAt().setUint32(ARGUMENT, SHUTDOWN.soft_reset, true)
      guest.must(guest.call(HYPERVISOR.sched_op, [SCHEDOP.shutdown, ARGUMENT]))
      guest.xen.softReset(guest.xen.domain(1)!)
    },
  ],
]

describe.each(FORMS)('%i bits, %i levels', (bits, levels) => {
  const tree: Plan = plan(bits, levels, 1, 2, FIRST_FREE)
  const registered = (host = {}) => {
    const guest = TreeGuest.on(host, { bits, vcpus: 3, frames: FRAMES })
    guest.register(tree, [0, 1])
    return guest
  }

  it.each(WAYS)('NL-reset-1: %s lets go of frames, zeroes level 1 and changes no other byte', (_, way) => {
    const guest = registered()
    guest.openIpi(5, 1)
    guest.setBitAt(guest.leaf('mask', 5), 0)
    guest.must(guest.op('send', { port: 5 }))
    guest.bytes.fill(0x77, ARGUMENT, ARGUMENT + 64)
    const before = guest.bytes.slice()
    way(guest)
    expect([inside(guest.domain).levels, inside(guest.domain).nlevel, inside(guest.domain).maxEvtchns]).toEqual([
      2,
      null,
      bits * bits,
    ])
    expect(guest.domain.memory.heldFrames).toBe(0)
    expect(guest.domain.vcpus.map(inside).map(({ recorded, activeDepth }) => [recorded, activeDepth])).toEqual(
      Array(3).fill([null, 2]),
    )
    const changed = [...guest.bytes.entries()].filter(
      ([i, byte]) => byte !== before[i] && (i < ARGUMENT || i >= ARGUMENT + 64),
    )
    const leaf = tree.pending[0]! * PAGE
    for (const [i, byte] of changed) {
      const level1 = [0, 1, 2].some((v) => i >= guest.level1(v) && i < guest.level1(v) + bits / 8)
      expect([i, byte, level1 || i === leaf]).toEqual([i, 0, true])
    }
    for (const v of [0, 1, 2])
      expect(guest.bytes.subarray(guest.level1(v), guest.level1(v) + bits / 8).some(Boolean)).toBe(false)
    // Upcall flags stay, and so do the selectors.
    expect([guest.flag(0), guest.flag(1)]).toEqual([1, 1])
    expect(guest.bytes.subarray(tree.selectors[0]![0]!.gfns[0]! * PAGE).some(Boolean)).toBe(true)
    // Two levels work, and the old frames are not used any more.
    guest.tree = null
    for (const v of [0, 1]) guest.quiet(v)
    const old = guest.bytes.slice(leaf, (tree.end + 1) * PAGE)
    guest.openIpi(3, 1)
    guest.setBitAt(guest.leaf('mask', 3), 0)
    guest.must(guest.op('send', { port: 3 }))
    expect([guest.pending(3), guest.path(1, 3), guest.flag(1)]).toEqual([1, [1], 1])
    expect(guest.bytes.slice(leaf, (tree.end + 1) * PAGE)).toEqual(old)
  })

  it('NL-reset-1: EAGAIN leaves N-level on, with everything that belongs to it', () => {
    let preempt = false
    const guest = registered({ preempt: () => preempt })
    guest.openIpi(66)
    const { softirqs } = guest.xen
    softirqs.open(SOFTIRQ.TASKLET, () => {
      preempt = false
      // While the reset waits, another vCPU opens a port behind it.
      expect(guest.domain.vcpu(1).eventChannelOp('bind_ipi', { vcpu: 1 }).port).toBe(1)
    })
    softirqs.raise(SOFTIRQ.TASKLET)
    preempt = true
    const { nlevel } = inside(guest.domain)
    expect(guest.op('reset', { dom: DOMID_SELF })).toBe(EAGAIN)
    expect([inside(guest.domain).levels, inside(guest.domain).nextEvtchn]).toEqual([levels, 0])
    expect(inside(guest.domain).nlevel).toBe(nlevel)
    for (const v of [0, 1]) guest.quiet(v)
    guest.setBitAt(guest.leaf('mask', 1), 0)
    guest.must(guest.op('send', { port: 1 }))
    expect([guest.pending(1), guest.path(1, 1), guest.flag(1)]).toEqual([1, Array(levels - 1).fill(1), 1])
    // The next one gets it done.
    guest.must(guest.op('reset', { dom: DOMID_SELF }))
    expect([inside(guest.domain).levels, guest.domain.memory.heldFrames]).toEqual([2, 0])
  })

  it('NL-reset-1: death lets go of all frames', () => {
    const guest = registered()
    guest.openIpi(70)
    guest.xen.killDomain(guest.xen.domain(1)!)
    expect(guest.domain.memory.heldFrames).toBe(0)
    expect(inside(guest.domain).nlevel).toBe(null)
  })

  it('NL-sel-3: recorded selectors that were never committed are let go by a reset and by death', () => {
    for (const end of [
      (guest: TreeGuest) => guest.must(guest.op('reset', { dom: DOMID_SELF })),
      (guest: TreeGuest) => guest.xen.killDomain(guest.xen.domain(1)!),
    ]) {
      const guest = TreeGuest.on({}, { bits, vcpus: 2, frames: FRAMES })
      guest.must(guest.setSelectors(tree, 1))
      expect(guest.domain.memory.heldFrames).toBe(levels - 2)
      end(guest)
      expect([guest.domain.memory.heldFrames, inside(guest.domain.vcpu(1)).recorded]).toEqual([0, null])
    }
  })

  it('NL-reset-2: another depth takes a reset first', () => {
    const guest = registered()
    const other = plan(bits, levels === 3 ? (bits === 64 ? 4 : 5) : 3, 1, 2, 40)
    expect(guest.setSelectors(other, 2)).toBe(EINVAL)
    expect(guest.commit(other)).toBe(EBUSY)
    expect(guest.commit(tree)).toBe(EBUSY)
    guest.must(guest.op('reset', { dom: DOMID_SELF }))
    guest.tree = null
    guest.register(other, [0])
    expect(inside(guest.domain).levels).toBe(other.levels)
  })

  it('NL-op-1: init_control is EBUSY, after its checks of vCPU and offset and before anything is allocated', () => {
    const guest = registered()
    const before = stateOf(guest)
    const op = (vcpu: number, offset: number, control_gfn: number) =>
      guest.op('init_control', { vcpu, offset, control_gfn })
    expect(op(3, 4028, 0)).toBe(ENOENT)
    expect(op(0, 4025, 0)).toBe(EINVAL)
    expect(op(0, 4032, 0)).toBe(EINVAL)
    expect(op(0, 12, 0)).toBe(EINVAL)
    for (const gfn of [40, 0, FRAMES, 2 ** 50]) expect(op(0, 4024, gfn)).toBe(EBUSY)
    expect(stateOf(guest)).toEqual(before)
  })

  it('NL-op-1: expand_array is EOPNOTSUPP; set_priority is ENOSYS for every port that there is', () => {
    const guest = registered()
    guest.openIpi(1)
    expect(guest.op('expand_array', { array_gfn: 40 })).toBe(EOPNOTSUPP)
    expect(guest.op('expand_array', { array_gfn: FRAMES })).toBe(EOPNOTSUPP)
    expect(guest.op('set_priority', { port: 64, priority: 99 })).toBe(EINVAL)
    for (const port of [0, 1, 63]) expect(guest.op('set_priority', { port, priority: 99 })).toBe(ENOSYS)
  })
})

describe('a Xen-attached port', () => {
  it.each(WAYS.slice(0, 2))(
    'NL-reset-1: beyond the new max_evtchns it survives %s, is neither pending nor unmasked, and touches nothing',
    (_, way) => {
      const xen = Hypervisor.create()
      const guest = new TreeGuest(xen, { domid: 1, frames: FRAMES, maxEvtchnPort: Infinity })
      guest.register(plan(64, 3, 1, 1, FIRST_FREE))
      guest.openIpi(4200)
      const calls: [Vcpu, number][] = []
      const port = xen.allocXenPort(xen.domain(1)!, {
        remoteDomid: 1,
        notify: (vcpu, port) => void calls.push([vcpu, port]),
      })
      expect(port).toBe(4201)
      way(guest)
      expect([inside(guest.domain).levels, inside(guest.domain).maxEvtchns]).toEqual([2, 4096])
      guest.tree = null
      expect([inside(guest.domain).ports.activeEvtchns, inside(guest.domain).ports.xenEvtchns]).toEqual([1, 1])
      expect([guest.domain.isPending(port), guest.domain.isMasked(port)]).toEqual([false, true])
      expect([inside(guest.domain).portOps.isPending(port), inside(guest.domain).portOps.isMasked(port)]).toEqual([
        false,
        true,
      ])
      // Whatever bits lie where such a port's would be: set and clear ones.
      const shared = guest.bytes.slice(PAGE, 2 * PAGE)
      guest.bytes.fill(0x5a, PAGE + 2048, 2 * PAGE)
      const before = guest.bytes.slice()
      for (const high of [4096, 4097, 4098, 4099, 4200, 4201, 4202, P, 2 ** 20, 2 ** 31 - 1])
        for (const act of ['setPending', 'clearPending', 'unmask', 'moved'] as const)
          inside(guest.domain).portOps[act](high)
      expect(guest.bytes.every((byte, i) => byte === before[i])).toBe(true)
      guest.bytes.set(shared, PAGE)
      expect([...xen.dump()].at(-1)).toMatch(/^ +4201 \[0\/1\/.\]: s=2 n=0 x=1 d=1$/)
      expect(guest.op('unmask', { port })).toBe(0)
      expect(guest.op('close', { port })).toBe(EINVAL)
      // Its remote end still calls it.
      guest.must(guest.op('bind_interdomain', { remote_dom: 1, remote_port: port }))
      guest.must(guest.op('send', { port: guest.out.local_port! }))
      expect(calls).toEqual([[guest.domain.vcpu(0), port]])
      // And Xen still raises the other end.
      guest.setBitAt(guest.leaf('pending', 1), 0)
      xen.notifyViaXenPort(xen.domain(1)!, port)
      expect(guest.pending(1)).toBe(1)
      xen.freeXenPort(xen.domain(1)!, port)
      expect([inside(guest.domain).ports.activeEvtchns, inside(guest.domain).ports.xenEvtchns]).toEqual([1, 0])
    },
  )
})
