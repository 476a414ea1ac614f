/** EVTCHNOP_set_nlevel_selectors: every error in the order of NL-sel-1, areas (NL-sel-2), what is recorded (NL-sel-3). */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { frameRefs } from '../../src/machine/memory.js'

import { type Area, bytesAt, channelsOf, PAGE, plan } from './geometry.js'
import { AREAS, ARGUMENT, FIRST_FREE, stateOf, TreeGuest } from './guest.js'
import { attempt, type Break, later, type Operation } from './order.js'

const [EPERM, ENOENT, EFAULT, EBUSY, EINVAL, ENOSPC] = [-1, -2, -14, -16, -22, -28]
const FRAMES = 64
const TREE = plan(64, 3, 2, 2, FIRST_FREE)
const OTHER = plan(64, 3, 1, 2, 32)
const READ_ONLY = 60

const operation: Operation = {
  domain: { frames: FRAMES, vcpus: 2 },
  prepare: (guest) => guest.writeAreas(TREE.selectors[1]!),
  call: (guest, args, gpa) => {
    const given = { vcpu: 1, levels: 3, nr_pages: 2, pad: 0, areas: AREAS, ...args }
    return guest.op('set_nlevel_selectors', given, 0, gpa)
  },
}
const area = (offset: number, value: bigint, size: 4 | 8) => (guest: TreeGuest) => {
  if (size === 8) guest.viewAt().setBigUint64(AREAS + offset, value, true)
  else guest.viewAt().setUint32(AREAS + offset, Number(value), true)
}
const gfn = (value: bigint) => (guest: TreeGuest) => guest.writeGfns(AREAS + 16, [value])

const BREAKS: Break[] = [
  {
    name: 'EFAULT the struct',
    rank: 0,
    errno: EFAULT,
    keys: ['args', 'vcpu', 'levels', 'pages', 'areas'],
    gpa: FRAMES * PAGE - 23,
  },
  {
    name: 'EFAULT the struct, far away',
    rank: 0,
    errno: EFAULT,
    keys: ['args', 'vcpu', 'levels', 'pages', 'areas'],
    gpa: 2 ** 45,
  },
  { name: 'ENOENT the vCPU', rank: 1, errno: ENOENT, keys: ['vcpu'], args: { vcpu: 2 } },
  { name: 'ENOENT a vCPU of 32 bits', rank: 1, errno: ENOENT, keys: ['vcpu'], args: { vcpu: 0xffff_ffff } },
  {
    name: 'EPERM not allowed',
    rank: 2,
    errno: EPERM,
    keys: ['allowed', 'registered'],
    domain: { nlevelAllowed: false },
  },
  { name: 'EBUSY a reset in progress', rank: 3, errno: EBUSY, keys: ['reset'], inReset: true },
  { name: 'EINVAL 1 level', rank: 4, errno: EINVAL, keys: ['levels'], args: { levels: 1 } },
  { name: 'EINVAL 2 levels', rank: 4, errno: EINVAL, keys: ['levels'], args: { levels: 2 } },
  { name: 'EINVAL 5 levels of 64 bits', rank: 4, errno: EINVAL, keys: ['levels'], args: { levels: 5 } },
  { name: 'EINVAL very many levels', rank: 4, errno: EINVAL, keys: ['levels'], args: { levels: 0xffff_ffff } },
  {
    name: "ENOSPC levels above the domain's",
    rank: 5,
    errno: ENOSPC,
    keys: ['levels', 'limit'],
    domain: { maxLevels: 3 },
    args: { levels: 4 },
  },
  {
    name: "ENOSPC levels above the host's",
    rank: 5,
    errno: ENOSPC,
    keys: ['levels', 'limit'],
    host: { maxLevels: 3 },
    args: { levels: 4 },
  },
  {
    name: "ENOSPC pages above the domain's",
    rank: 5,
    errno: ENOSPC,
    keys: ['pages'],
    domain: { maxLeafPages: 2 },
    args: { nr_pages: 3 },
  },
  {
    name: "ENOSPC pages above the host's",
    rank: 5,
    errno: ENOSPC,
    keys: ['pages'],
    host: { maxLeafPages: 2 },
    args: { nr_pages: 3 },
  },
  { name: 'ENOSPC more pages than any', rank: 5, errno: ENOSPC, keys: ['pages'], args: { nr_pages: 0xffff_ffff } },
  { name: 'EINVAL no pages', rank: 6, errno: EINVAL, keys: ['pages'], args: { nr_pages: 0 } },
  { name: 'EINVAL more pages than the tree takes', rank: 6, errno: EINVAL, keys: ['pages'], args: { nr_pages: 9 } },
  {
    name: 'EINVAL another size than the registered',
    rank: 7,
    errno: EINVAL,
    keys: ['registered'],
    before: (guest) => guest.register(OTHER, [0]),
  },
  {
    name: 'EBUSY has its selectors',
    rank: 7,
    errno: EBUSY,
    keys: ['registered'],
    before: (guest) => guest.register(TREE, [0, 1]),
  },
  { name: 'EFAULT the areas', rank: 8, errno: EFAULT, keys: ['areas'], args: { areas: FRAMES * PAGE - 15 } },
  { name: 'EFAULT the areas, far away', rank: 8, errno: EFAULT, keys: ['areas'], args: { areas: 2 ** 52 } },
  {
    name: 'EFAULT an array',
    rank: 8,
    errno: EFAULT,
    keys: ['areas', 'gfns'],
    edit: area(0, BigInt(FRAMES * PAGE - 7), 8),
  },
  {
    name: 'EFAULT an array at the top',
    rank: 8,
    errno: EFAULT,
    keys: ['areas', 'gfns'],
    edit: area(0, 2n ** 64n - 8n, 8),
  },
  { name: 'EINVAL two frames where one is needed', rank: 9, errno: EINVAL, keys: ['count'], edit: area(8, 2n, 4) },
  { name: 'EINVAL no frame', rank: 9, errno: EINVAL, keys: ['count', 'gfns'], edit: area(8, 0n, 4) },
  { name: 'EINVAL very many frames', rank: 9, errno: EINVAL, keys: ['count'], edit: area(8, 0xffff_ffffn, 4) },
  {
    name: 'EINVAL an offset that is no multiple of 8',
    rank: 9,
    errno: EINVAL,
    keys: ['offset'],
    edit: area(12, 4n, 4),
  },
  {
    name: 'EINVAL an area beyond its page',
    rank: 9,
    errno: EINVAL,
    keys: ['offset'],
    edit: area(12, BigInt(PAGE - 120), 4),
  },
  { name: 'EINVAL an offset of 32 bits', rank: 9, errno: EINVAL, keys: ['offset'], edit: area(12, 0xffff_fff8n, 4) },
  { name: 'EINVAL a frame beyond RAM', rank: 10, errno: EINVAL, keys: ['gfns'], edit: gfn(BigInt(FRAMES)) },
  {
    name: 'EINVAL a frame that cannot be written',
    rank: 10,
    errno: EINVAL,
    keys: ['gfns'],
    before: (guest) => guest.domain.memory.protect(READ_ONLY),
    edit: gfn(BigInt(READ_ONLY)),
  },
  // NL-frame-1: compared as 64 bits before any arithmetic, which would make a good frame of each of these.
  ...[2n ** 32n, 2n ** 52n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n].map(
    (value): Break => ({
      name: `EINVAL frame ${value}`,
      rank: 10,
      errno: EINVAL,
      keys: ['gfns'],
      edit: gfn(value + (value < 2n ** 60n ? BigInt(FIRST_FREE) : 0n)),
    }),
  ),
]

describe('EVTCHNOP_set_nlevel_selectors', () => {
  it('NL-sel-1: succeeds when nothing is broken', () => {
    expect(attempt(operation, [])).toBe(0)
  })
  it.each(BREAKS.map((each) => [each.name, each] as const))('NL-sel-1: %s', (_, each) => {
    expect(attempt(operation, [each])).toBe(each.errno)
  })
  it.each(BREAKS.map((each) => [each.name, each] as const))(
    'NL-sel-1: %s, before whatever comes later in the rule',
    (_, first) => {
      for (const second of later(BREAKS, first))
        expect(attempt(operation, [first, second]), second.name).toBe(first.errno)
    },
  )

  it('NL-sel-1: a pad that is not 0 is EINVAL', () => {
    expect(attempt(operation, [{ name: 'pad', rank: 4, errno: EINVAL, keys: [], args: { pad: 1 } }])).toBe(EINVAL)
  })

  it('NL-sel-1: any vCPU may name the selectors of any other', () => {
    const guest = TreeGuest.on({}, { vcpus: 3, frames: FRAMES })
    const tree = plan(64, 3, 1, 3, FIRST_FREE)
    guest.writeAreas(tree.selectors[2]!)
    const args = { vcpu: 2, levels: 3, nr_pages: 1, pad: 0, areas: AREAS }
    expect(guest.op('set_nlevel_selectors', args, 1)).toBe(0)
    expect(frameRefs(guest.domain.memory).references(tree.selectors[2]![0]!.gfns[0]!)).toBe(1)
  })

  it('section 2: a 32-bit guest has no addresses above 2³²-1, even where its page tables would go on', () => {
    const tree = plan(32, 3, 1, 1, FIRST_FREE)
    const translate = (_vcpu: unknown, gva: number) => gva % 2 ** 32
    const high = 2 ** 32
    for (const bits of [32, 64] as const) {
      const expected = bits === 32 ? EFAULT : 0
      const guest = TreeGuest.on({}, { bits, frames: FRAMES, translate })
      const own = bits === 32 ? tree : plan(64, 3, 1, 1, FIRST_FREE)
      expect(guest.setSelectors(own, 0, { areas: high + AREAS })).toBe(expected)
      guest.writeAreas(own.selectors[0]!)
      guest.viewAt().setBigUint64(AREAS, BigInt(high + AREAS + 16), true)
      expect(guest.op('set_nlevel_selectors', { vcpu: 0, levels: 3, nr_pages: 1, pad: 0, areas: AREAS })).toBe(expected)
      expect(guest.setSelectors(own, 0)).toBe(0)
      expect(guest.commit(own, { pending_gfns: high + 3 * PAGE })).toBe(expected)
      if (bits === 32) expect(guest.commit(own, { mask_gfns: high + 5 * PAGE })).toBe(EFAULT)
    }
  })
})

describe('recorded selectors', () => {
  it('NL-sel-3: before the commit nothing but a reference is taken, and RAM is as it was', () => {
    const guest = TreeGuest.on({}, { frames: FRAMES })
    const tree = plan(64, 4, 1, 1, FIRST_FREE)
    guest.bytes.fill(0x5a, FIRST_FREE * PAGE)
    const port = guest.domain.eventChannelOp('bind_ipi', { vcpu: 0 }).port
    guest.writeAreas(tree.selectors[0]!)
    const ram = guest.bytes.slice()
    expect(guest.setSelectors(tree, 0)).toBe(0)
    ram.set(guest.bytes.subarray(ARGUMENT, ARGUMENT + 32), ARGUMENT)
    expect(guest.bytes.every((byte, i) => byte === ram[i])).toBe(true)
    expect([inside(guest.domain).levels, guest.flag(0)]).toEqual([2, 0])
    expect(tree.selectors[0]!.map(({ gfns }) => frameRefs(guest.domain.memory).references(gfns[0]!))).toEqual([1, 1])
    // Two levels go on.
    expect(guest.op('send', { port })).toBe(0)
    expect([guest.pending(port), guest.path(0, port), guest.flag(0)]).toEqual([1, [1], 1])
  })

  it('NL-sel-3: a further call replaces them, levels = 0 drops them', () => {
    const guest = TreeGuest.on({}, { frames: FRAMES })
    const first = plan(64, 4, 1, 1, FIRST_FREE)
    const second = plan(64, 3, 2, 1, 32)
    const held = () =>
      [first, second].map((tree) =>
        tree.selectors[0]!.map(({ gfns }) => frameRefs(guest.domain.memory).references(gfns[0]!)),
      )
    guest.must(guest.setSelectors(first, 0))
    expect(held()).toEqual([[1, 1], [0]])
    guest.must(guest.setSelectors(first, 0))
    expect(held()).toEqual([[1, 1], [0]])
    guest.must(guest.setSelectors(second, 0))
    expect(held()).toEqual([[0, 0], [1]])
    // A refusal keeps what is recorded.
    expect(guest.setSelectors(first, 0, { areas: 2 ** 50 })).toBe(EFAULT)
    expect(held()).toEqual([[0, 0], [1]])
    const drop = { vcpu: 0, levels: 0, nr_pages: 0, pad: 0, areas: 0 }
    for (let i = 0; i < 2; i++) {
      expect(guest.op('set_nlevel_selectors', drop)).toBe(0)
      expect(held()).toEqual([[0, 0], [0]])
    }
    expect(guest.commit(second)).toBe(EINVAL)
    expect(guest.domain.memory.heldFrames).toBe(0)
  })

  it('NL-sel-1: levels = 0 drops nothing once the domain is N-level', () => {
    const guest = TreeGuest.on({}, { frames: FRAMES })
    guest.register(plan(64, 3, 1, 1, FIRST_FREE))
    const before = stateOf(guest)
    expect(guest.op('set_nlevel_selectors', { vcpu: 0, levels: 0, nr_pages: 0, pad: 0, areas: 0 })).toBe(EINVAL)
    expect(stateOf(guest)).toEqual(before)
  })

  it('NL-frame-1: vCPUs may share frames, roles may too, and each holds a reference of its own', () => {
    const guest = TreeGuest.on({}, { frames: FRAMES, vcpus: 3 })
    const same: Area = { gfns: [FIRST_FREE], offset: 0 }
    const tree = {
      ...plan(64, 3, 1, 3, FIRST_FREE),
      pending: [FIRST_FREE],
      mask: [FIRST_FREE],
      selectors: [[same], [same], [same]],
    }
    guest.register(tree)
    expect(frameRefs(guest.domain.memory).references(FIRST_FREE)).toBe(5)
    expect(guest.op('reset', { dom: DOMID_SELF })).toBe(0)
    expect(guest.domain.memory.heldFrames).toBe(0)
  })

  it('NL-tree-3: areas that were measured at the other width are not committed to', () => {
    for (const [from, to] of [
      [64, 32],
      [32, 64],
    ] as const) {
      const guest = TreeGuest.on({}, { bits: from, frames: FRAMES })
      const tree = plan(from, 3, 1, 1, FIRST_FREE)
      guest.must(guest.setSelectors(tree, 0))
      inside(guest.domain).latchWidth(to)
      const { gfns, offset } = tree.selectors[0]![0]!
      const next = guest.bytes.slice((gfns[0]! + 1) * PAGE, (gfns[0]! + 2) * PAGE)
      expect(guest.commit(tree)).toBe(EINVAL)
      expect(inside(guest.domain).levels).toBe(2)
      expect(guest.bytes.slice((gfns[0]! + 1) * PAGE, (gfns[0]! + 2) * PAGE)).toEqual(next)
      expect(bytesAt(to, 3, 2, channelsOf(to, 3, 1)) + offset > PAGE).toBe(to === 32)
    }
  })
})
