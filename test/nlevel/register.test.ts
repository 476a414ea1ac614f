/** EVTCHNOP_register_nlevel: every error in the order of NL-reg-1, all or nothing (NL-reg-2), what it answers (NL-reg-6). */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, EVTCHN_STRUCTS, EVTCHNOP, encode, HYPERVISOR } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { frameRefs } from '../../src/machine/memory.js'

import { channelsOf, P, PAGE, plan } from './geometry.js'
import { ARGUMENT, FIRST_FREE, MASK_GFNS, PENDING_GFNS, stateOf, TreeGuest } from './guest.js'
import { attempt, type Break, later, type Operation } from './order.js'

const [EPERM, EFAULT, EBUSY, EINVAL, ENOSPC] = [-1, -14, -16, -22, -28]
const FRAMES = 64
const TREE = plan(64, 3, 2, 2, FIRST_FREE)
const READ_ONLY = 60

const operation: Operation = {
  domain: { frames: FRAMES, vcpus: 2 },
  prepare: (guest) => {
    // Both vCPUs' selectors are recorded, as far as that is allowed.
    if (!inside(guest.domain).nlevel) for (const vcpu of [0, 1]) guest.setSelectors(TREE, vcpu)
    guest.writeGfns(PENDING_GFNS, TREE.pending)
    guest.writeGfns(MASK_GFNS, TREE.mask)
  },
  call: (guest, args, gpa) => {
    const given = { levels: 3, nr_pages: 2, pending_gfns: PENDING_GFNS, mask_gfns: MASK_GFNS, pad: 0, ...args }
    return guest.op('register_nlevel', given, 0, gpa)
  },
}
const drop = (guest: TreeGuest) =>
  guest.must(guest.op('set_nlevel_selectors', { vcpu: 0, levels: 0, nr_pages: 0, pad: 0, areas: 0 }))
const frame = (at: number, value: bigint) => (guest: TreeGuest) => guest.writeGfns(at, [value])

const BREAKS: Break[] = [
  {
    name: 'EFAULT the struct',
    rank: 0,
    errno: EFAULT,
    keys: ['levels', 'pages', 'pending', 'mask', 'out'],
    gpa: FRAMES * PAGE - 31,
  },
  { name: 'EPERM not allowed', rank: 1, errno: EPERM, keys: ['allowed'], domain: { nlevelAllowed: false } },
  {
    name: 'EBUSY N-level already',
    rank: 2,
    errno: EBUSY,
    keys: ['registered', 'allowed', 'selectors', 'limit'],
    before: (guest) => guest.register(TREE),
  },
  { name: 'EBUSY a reset in progress', rank: 2, errno: EBUSY, keys: ['reset'], inReset: true },
  ...[0, 1, 2, 5, 0xffff_ffff].map(
    (levels): Break => ({
      name: `EINVAL ${levels} levels`,
      rank: 3,
      errno: EINVAL,
      keys: ['levels'],
      args: { levels },
    }),
  ),
  {
    name: "ENOSPC levels above the host's",
    rank: 4,
    errno: ENOSPC,
    keys: ['levels', 'limit'],
    host: { maxLevels: 3 },
    args: { levels: 4 },
  },
  {
    name: "ENOSPC levels above the domain's",
    rank: 4,
    errno: ENOSPC,
    keys: ['levels', 'limit'],
    domain: { maxLevels: 3 },
    args: { levels: 4 },
  },
  {
    name: "ENOSPC pages above the host's",
    rank: 4,
    errno: ENOSPC,
    keys: ['pages', 'limit'],
    host: { maxLeafPages: 2 },
    args: { nr_pages: 3 },
  },
  {
    name: "ENOSPC pages above the domain's",
    rank: 4,
    errno: ENOSPC,
    keys: ['pages', 'limit'],
    domain: { maxLeafPages: 2 },
    args: { nr_pages: 3 },
  },
  { name: 'EINVAL no pages', rank: 5, errno: EINVAL, keys: ['pages'], args: { nr_pages: 0 } },
  { name: 'EINVAL more pages than the tree takes', rank: 5, errno: EINVAL, keys: ['pages'], args: { nr_pages: 9 } },
  { name: 'EINVAL no recorded selectors', rank: 6, errno: EINVAL, keys: ['selectors', 'allowed'], edit: drop },
  {
    name: 'EINVAL selectors for other levels',
    rank: 6,
    errno: EINVAL,
    keys: ['selectors', 'levels', 'limit'],
    args: { levels: 4 },
  },
  {
    name: 'EINVAL selectors for fewer pages',
    rank: 6,
    errno: EINVAL,
    keys: ['selectors', 'pages'],
    args: { nr_pages: 3 },
  },
  {
    name: 'EINVAL selectors for more pages',
    rank: 6,
    errno: EINVAL,
    keys: ['selectors', 'pages'],
    args: { nr_pages: 1 },
  },
  {
    name: 'EFAULT pending_gfns',
    rank: 7,
    errno: EFAULT,
    keys: ['pending'],
    args: { pending_gfns: FRAMES * PAGE - 15 },
  },
  { name: 'EFAULT mask_gfns', rank: 7, errno: EFAULT, keys: ['mask'], args: { mask_gfns: FRAMES * PAGE - 15 } },
  { name: 'EFAULT mask_gfns, far away', rank: 7, errno: EFAULT, keys: ['mask'], args: { mask_gfns: 2 ** 52 } },
  {
    name: 'EINVAL a pending frame beyond RAM',
    rank: 8,
    errno: EINVAL,
    keys: ['pending'],
    edit: frame(PENDING_GFNS + 8, BigInt(FRAMES)),
  },
  {
    name: 'EINVAL a mask frame beyond RAM',
    rank: 8,
    errno: EINVAL,
    keys: ['mask'],
    edit: frame(MASK_GFNS + 8, BigInt(FRAMES)),
  },
  {
    name: 'EINVAL a mask frame that cannot be written',
    rank: 8,
    errno: EINVAL,
    keys: ['mask'],
    before: (guest) => guest.domain.memory.protect(READ_ONLY),
    edit: frame(MASK_GFNS, BigInt(READ_ONLY)),
  },
  // NL-frame-1: compared as 64 bits before any arithmetic.
  {
    name: 'EINVAL a pending frame of 33 bits',
    rank: 8,
    errno: EINVAL,
    keys: ['pending'],
    edit: frame(PENDING_GFNS, 2n ** 32n + 8n),
  },
  {
    name: 'EINVAL a pending frame of 53 bits',
    rank: 8,
    errno: EINVAL,
    keys: ['pending'],
    edit: frame(PENDING_GFNS, 2n ** 52n + 8n),
  },
  {
    name: 'EINVAL a pending frame of 64 bits',
    rank: 8,
    errno: EINVAL,
    keys: ['pending'],
    edit: frame(PENDING_GFNS, 2n ** 64n - 1n),
  },
  {
    name: 'EFAULT nr_channels',
    rank: 9,
    errno: EFAULT,
    keys: ['out'],
    gpa: 58 * PAGE,
    // Readable, so that everything before it is checked, and not writable.
    edit: (guest) => guest.domain.memory.protect(58),
  },
]

describe('EVTCHNOP_register_nlevel', () => {
  it('NL-reg-1: succeeds when nothing is broken', () => {
    expect(attempt(operation, [])).toBe(0)
  })
  it.each(BREAKS.map((each) => [each.name, each] as const))('NL-reg-1, NL-reg-2: %s', (_, each) => {
    expect(attempt(operation, [each])).toBe(each.errno)
  })
  it.each(BREAKS.map((each) => [each.name, each] as const))(
    'NL-reg-1: %s, before whatever comes later in the rule',
    (_, first) => {
      for (const second of later(BREAKS, first))
        expect(attempt(operation, [first, second]), second.name).toBe(first.errno)
    },
  )

  it('NL-reg-1: a pad that is not 0 is EINVAL', () => {
    expect(attempt(operation, [{ name: 'pad', rank: 3, errno: EINVAL, keys: [], args: { pad: 1 } }])).toBe(EINVAL)
  })

  it('NL-reg-2: after any error two levels go on, and the same call succeeds when it is right', () => {
    for (const each of BREAKS.filter(({ args, gpa }) => args && !gpa)) {
      const guest = TreeGuest.on(each.host ?? {}, { ...operation.domain, ...each.domain })
      const port = guest.domain.eventChannelOp('bind_ipi', { vcpu: 1 }).port
      operation.prepare(guest)
      expect(operation.call(guest, each.args!, undefined), each.name).toBe(each.errno)
      expect(guest.op('send', { port })).toBe(0)
      expect([guest.pending(port), guest.path(1, port), guest.flag(1)]).toEqual([1, [1], 1])
      expect(operation.call(guest, {}, undefined)).toBe(0)
      guest.tree = TREE
      expect([guest.pending(port), guest.path(1, port), guest.flag(1)]).toEqual([1, [1, 1], 1])
    }
  })

  it('NL-reg-1: only the calling vCPU needs selectors, and it must be the one that calls', () => {
    const guest = TreeGuest.on({}, operation.domain)
    guest.must(guest.setSelectors(TREE, 1))
    expect(guest.commit(TREE, {}, 0)).toBe(EINVAL)
    expect(guest.commit(TREE, {}, 1)).toBe(0)
    expect(guest.domain.vcpus.map((vcpu) => inside(vcpu).activeDepth)).toEqual([0, 3])
  })

  it('NL-frame-1: every leaf frame is referenced, a frame of two roles twice, until the reset', () => {
    const guest = TreeGuest.on({}, operation.domain)
    const tree = { ...TREE, mask: TREE.pending }
    guest.register(tree)
    for (const gfn of TREE.pending) expect(frameRefs(guest.domain.memory).references(gfn)).toBe(2)
    expect(guest.op('reset', { dom: DOMID_SELF })).toBe(0)
    expect(guest.domain.memory.heldFrames).toBe(0)
  })

  it('NL-reg-6: nr_channels is min(max_evtchns, max_evtchn_port + 1); the geometry is max_evtchns', () => {
    const rows = [
      [64, 3, 2, Infinity, 2 * P],
      [64, 3, 8, Infinity, 262144],
      [64, 3, 2, 1023, 1024],
      [64, 3, 2, 65535, 65536],
      [64, 3, 2, 65536, 65536],
      [64, 4, 3, 0, 1],
      [32, 3, 1, Infinity, 32768],
      [32, 5, 3, 70_000, 70_001],
      [32, 4, 32, 2 ** 32 - 1, 2 ** 20],
    ] as const
    for (const [bits, levels, nrPages, maxEvtchnPort, expected] of rows) {
      const guest = TreeGuest.on({}, { bits, maxEvtchnPort, frames: 128 })
      guest.register(plan(bits, levels, nrPages, 1, FIRST_FREE))
      expect(guest.out).toEqual({ nr_channels: expected })
      expect(inside(guest.domain).maxEvtchns).toBe(channelsOf(bits, levels, nrPages))
    }
  })

  it('NL-reg-1: only nr_channels of the struct is written', () => {
    const guest = TreeGuest.on({}, operation.domain)
    operation.prepare(guest)
    expect(operation.call(guest, {}, undefined)).toBe(0)
    const bytes = new DataView(guest.bytes.slice(ARGUMENT, ARGUMENT + 32).buffer)
    expect([0, 4, 24, 28].map((offset) => bytes.getUint32(offset, true))).toEqual([3, 2, 2 * P, 0])
    expect([8, 16].map((offset) => Number(bytes.getBigUint64(offset, true)))).toEqual([PENDING_GFNS, MASK_GFNS])
  })

  it('NL-reg-3: frames are taken as the guest left them: what it did not zero is pending, what it did not mask is not', () => {
    const guest = TreeGuest.on({}, { vcpus: 2 })
    guest.clean(TREE)
    const [dirty, clean, open] = [6000, 6001, 6002]
    const bytes = (gfn: number) => guest.bytes.subarray(gfn * PAGE, (gfn + 1) * PAGE)
    bytes(TREE.pending[0]!)[dirty >> 3]! |= 1 << (dirty & 7)
    bytes(TREE.mask[0]!)[open >> 3]! &= ~(1 << (open & 7))
    for (const vcpu of [0, 1]) guest.must(guest.setSelectors(TREE, vcpu))
    guest.must(guest.commit(TREE))
    guest.openIpi(open)
    expect([dirty, clean].map((port) => guest.pending(port))).toEqual([1, 0])
    expect([clean, open].map((port) => guest.masked(port))).toEqual([1, 0])
    // The bit that was left swallows the port's first send, as on two levels.
    guest.quiet(0)
    guest.must(guest.op('unmask', { port: clean }))
    guest.must(guest.op('send', { port: dirty }))
    expect(guest.flag(0)).toBe(0)
    guest.must(guest.op('send', { port: clean }))
    expect(guest.flag(0)).toBe(1)
  })

  it('NL-reg-7: arguments that change after they were copied change nothing', () => {
    // Page tables that let another vCPU of the guest write at each look-up: the hypervisor must have copied before.
    let guest: TreeGuest | undefined
    let armed = false
    const translate = (_vcpu: unknown, gva: number) => {
      if (armed && guest && gva >= PENDING_GFNS && gva < PENDING_GFNS + 2 * PAGE) {
        guest.viewAt().setUint32(ARGUMENT, 4, true)
        guest.viewAt().setUint32(ARGUMENT + 4, 512, true)
      }
      return gva
    }
    guest = TreeGuest.on({}, { ...operation.domain, translate })
    operation.prepare(guest)
    armed = true
    expect(operation.call(guest, {}, undefined)).toBe(0)
    expect([inside(guest.domain).levels, inside(guest.domain).maxEvtchns]).toEqual([3, 2 * P])
    expect(guest.viewAt(ARGUMENT, 32).getUint32(24, true)).toBe(2 * P)
  })

  it('NL-reg-2: the raw struct with a copy-out that fails half way leaves two levels', () => {
    // The struct crosses a page, the second of which cannot be written; nr_channels is in it.
    const guest = TreeGuest.on({}, operation.domain)
    operation.prepare(guest)
    const before = stateOf(guest)
    const gpa = 59 * PAGE - 20
    const args = { levels: 3, nr_pages: 2, pending_gfns: PENDING_GFNS, mask_gfns: MASK_GFNS, pad: 0 }
    encode(EVTCHN_STRUCTS.register_nlevel, guest.viewAt(gpa, 32), args)
    guest.domain.memory.protect(59)
    const ram = guest.bytes.slice()
    expect(guest.call(HYPERVISOR.event_channel_op, [EVTCHNOP.register_nlevel, gpa])).toBe(EFAULT)
    expect(stateOf(guest)).toEqual(before)
    expect(guest.bytes.every((byte, i) => byte === ram[i])).toBe(true)
  })
})

describe('FIFO and N levels', () => {
  const fifo = () => {
    const guest = TreeGuest.on({}, operation.domain)
    const rc = guest.op('init_control', { control_gfn: 40, offset: 0, vcpu: 0 })
    return { guest, active: rc === 0 }
  }
  it.skipIf(!fifo().active)(
    'NL-sel-1, NL-reg-1: while FIFO is active both operations are EBUSY, and query answers 0x100',
    () => {
      const { guest } = fifo()
      guest.must(guest.op('query_nlevel', { dom: DOMID_SELF }))
      expect(guest.out.abi).toBe(0x100)
      expect(guest.setSelectors(TREE, 0)).toBe(EBUSY)
      expect(guest.setSelectors(TREE, 0, { levels: 9 })).toBe(EBUSY)
      expect(guest.commit(TREE)).toBe(EBUSY)
      expect(guest.commit(TREE, { levels: 9 })).toBe(EBUSY)
      guest.must(guest.op('reset', { dom: DOMID_SELF }))
      guest.register(TREE)
    },
  )
})
