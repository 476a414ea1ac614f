/**
 * What the hypervisor writes to, by comparing whole memories: leaf and selector words that were registered, vcpu_info,
 * the caller's own struct. Nothing else: no other byte of the domain, no byte of another one, none between them.
 */

import { describe, expect, it } from 'vitest'
import { type Bits, DOMID_SELF, PAGE_SIZE, sharedInfo, VCPU_INFO_SIZE, VIRQ } from '../src/abi/index.js'
import { inside } from '../src/domain/handles.js'
import { Hypervisor } from '../src/index.js'
import { bytesAt, channelsOf, fullPages, PAGE, plan } from './nlevel/geometry.js'
import { ARGUMENT, FIRST_FREE, TreeGuest } from './nlevel/guest.js'
import { random } from './random.js'
import { seedOr } from './settings.js'

/** Random bytes in all of a domain's RAM. */
function scribble({ bytes }: TreeGuest, next: (n: number) => number): void {
  for (let at = 0; at < bytes.length; at++) bytes[at] = next(256)
}

type Range = [from: number, to: number]

/** Guest-physical ranges that belong to events: the tree in force, the words in shared_info, vcpu_info. */
function eventRanges(guest: TreeGuest): Range[] {
  const { domain, tree } = guest
  const ranges: Range[] = []
  const bits = tree?.bits ?? domain.bits
  const { sel, pending, mask } = sharedInfo(bits)
  for (const gpa of guest.infoGpa) ranges.push([gpa, gpa + 1], [gpa + sel, gpa + sel + bits / 8])
  if (!tree) {
    const shared = domain.sharedInfoGfn * PAGE
    const size = (bits * bits) / 8
    ranges.push([shared + pending, shared + pending + size], [shared + mask, shared + mask + size])
    return ranges
  }
  const { levels, nrPages } = tree
  for (const gfn of [...tree.pending, ...tree.mask]) ranges.push([gfn * PAGE, (gfn + 1) * PAGE])
  for (const areas of tree.selectors)
    for (const [i, { gfns, offset }] of areas.entries()) {
      let left = bytesAt(bits, levels, i + 2, channelsOf(bits, levels, nrPages))
      for (const gfn of gfns) {
        ranges.push([gfn * PAGE + offset, gfn * PAGE + offset + Math.min(left, PAGE)])
        left -= PAGE
      }
    }
  return ranges
}

const within = (at: number, ranges: readonly Range[]) => ranges.some(([from, to]) => at >= from && at < to)

/** Domains and the bytes between them, watched. */
class Watched {
  readonly regions: { bytes: () => Uint8Array; before: Uint8Array; guest: TreeGuest | null }[] = []

  watch(bytes: () => Uint8Array, guest: TreeGuest | null): void {
    this.regions.push({ bytes, before: bytes().slice(), guest })
  }
  /** Fails if a byte changed that `allowed` does not name for its domain; then goes on from here. */
  check(what: string, allowed: (guest: TreeGuest) => readonly Range[]): void {
    for (const region of this.regions) {
      const now = region.bytes()
      if (Buffer.compare(now, region.before) === 0) continue
      const { guest } = region
      if (!guest) expect.fail(`${what}: a byte between domains changed`)
      const ranges = allowed(guest)
      for (let at = 0; at < now.length; at++)
        if (now[at] !== region.before[at] && !within(at, ranges))
          expect.fail(`${what}: byte ${at} of d${guest.domain.domid} changed from ${region.before[at]} to ${now[at]}`)
      region.before.set(now)
    }
  }
}

const KINDS: { bits: Bits; levels: number; vcpus: number }[] = [
  { bits: 64, levels: 3, vcpus: 2 },
  { bits: 32, levels: 4, vcpus: 3 },
  { bits: 64, levels: 2, vcpus: 2 },
  { bits: 32, levels: 5, vcpus: 1 },
  { bits: 64, levels: 4, vcpus: 2 },
]
const FRAMES = 32
const GAP = 2

describe.each([
  { where: 'in memories of their own', shared: false, windows: false },
  { where: 'in shared memories of their own', shared: true, windows: false },
  { where: 'in windows of one memory', shared: false, windows: true },
  { where: 'in windows of one shared memory', shared: true, windows: true },
])('domains $where', ({ shared, windows }) => {
  it("NL-bad-1, NL-tree-3: random operations change event words and the caller's struct, and no other byte", () => {
    const next = random(seedOr(shared ? 7 : 11))
    const stride = (FRAMES + GAP) * PAGE_SIZE
    const pages = Math.ceil((KINDS.length * stride + GAP * PAGE_SIZE) / 65536)
    const memory = windows ? new WebAssembly.Memory({ initial: pages, maximum: pages, shared }) : null
    const all = memory && new Uint8Array(memory.buffer)
    for (let i = 0; all && i < all.length; i++) all[i] = next(256)
    const xen = Hypervisor.create()
    const watched = new Watched()
    const guests = KINDS.map(({ bits, levels, vcpus }, i) => {
      const place = memory ? { memory, base: GAP * PAGE_SIZE + i * stride } : { shared }
      const guest = new TreeGuest(xen, { domid: i + 1, bits, vcpus, frames: FRAMES, maxEvtchnPort: Infinity, ...place })
      scribble(guest, next)
      guest.bytes.fill(0, PAGE, PAGE + vcpus * VCPU_INFO_SIZE)
      if (levels > 2) guest.register(plan(bits, levels, 1, vcpus, FIRST_FREE), vcpus > 2 ? [0, 2] : undefined)
      guest.openIpi(60, vcpus - 1)
      return guest
    })
    for (const [i, guest] of guests.entries()) {
      watched.watch(() => guest.bytes, guest)
      if (memory) {
        const from = (i ? GAP * PAGE_SIZE + i * stride : GAP * PAGE_SIZE) - GAP * PAGE_SIZE
        watched.watch(() => new Uint8Array(memory.buffer, from, GAP * PAGE_SIZE), null)
      }
    }
    if (memory)
      watched.watch(
        () => new Uint8Array(memory.buffer, GAP * PAGE_SIZE + KINDS.length * stride - GAP * PAGE_SIZE),
        null,
      )

    const ops = {
      alloc_unbound: () => ({ dom: DOMID_SELF, remote_dom: next(7) }),
      bind_interdomain: () => ({ remote_dom: next(7), remote_port: next(90) }),
      bind_ipi: () => ({ vcpu: next(4) }),
      bind_virq: () => ({ virq: [VIRQ.TIMER, VIRQ.DEBUG, VIRQ.ARGO, 99][next(4)]!, vcpu: next(3) }),
      close: () => ({ port: next(90) }),
      send: () => ({ port: next(90) }),
      status: () => ({ dom: DOMID_SELF, port: next(90) }),
      bind_vcpu: () => ({ port: next(90), vcpu: next(4) }),
      unmask: () => ({ port: next(90) }),
      set_priority: () => ({ port: next(90), priority: next(20) }),
      expand_array: () => ({ array_gfn: next(40) }),
      query_nlevel: () => ({ dom: DOMID_SELF }),
    }
    const names = Object.keys(ops) as (keyof typeof ops)[]
    let changes = 0
    for (let i = 0; i < 1500; i++) {
      const guest = guests[next(guests.length)]!
      const busy =
        i % 2 ? names[next(names.length)]! : (['send', 'unmask', 'send', 'bind_interdomain'] as const)[next(4)]!
      const args = ops[busy]()
      // Ports that are open are mostly masked by random bytes: unmask some, as the guest may.
      if (next(3) === 0) guest.setBitAt(guest.leaf(next(2) ? 'mask' : 'pending', next(90)), 0)
      watched.check('the guest itself', eventRanges)
      const rc = guest.op(busy, args, next(guest.domain.vcpus.length))
      if (rc >= 0) changes++
      const what = `${i}: d${guest.domain.domid} ${busy} ${JSON.stringify(args)} = ${rc}`
      watched.check(what, (each) => [
        ...eventRanges(each),
        ...(each === guest ? [[ARGUMENT, ARGUMENT + 32] as Range] : []),
      ])
      if (i % 50 === 0) {
        const target = guests[next(guests.length)]!
        xen.sendVirq(target.domain.vcpu(next(target.domain.vcpus.length)), VIRQ.TIMER)
        watched.check('a VIRQ', (each) => (each === target ? eventRanges(each) : []))
      }
      if (i % 97 === 0)
        for (const v of [0, 1])
          if (v < guest.domain.vcpus.length && inside(guest.domain.vcpu(v)).activeDepth) guest.quiet(v)
    }
    expect(changes).toBeGreaterThan(700)
    // The end: level 1 becomes 0, pending bits of closed ports are cleared.
    for (const guest of guests) {
      const ranges = eventRanges(guest)
      if (guest.domain.domid % 2) {
        xen.destroyDomain(guest.domain)
        watched.check('death', (each) => (each === guest ? ranges : []))
      } else {
        expect(guest.op('reset', { dom: DOMID_SELF })).toBe(0)
        watched.check('a reset', (each) => (each === guest ? [...ranges, [ARGUMENT, ARGUMENT + 32]] : []))
      }
    }
  })
})

describe('10,000 domains', () => {
  it('NL-bad-1: in windows of four memories, each signals its neighbour: one leaf bit, its selector bits and a flag in each, and no other byte', () => {
    const COUNT = 10_000
    const xen = Hypervisor.create()
    const tree = (bits: Bits) => plan(bits, 3, 1, 1, FIRST_FREE)
    const deep = (i: number) => i % 50 === 7
    const frames = (i: number) => (deep(i) ? 12 : 2)
    const memories = [0, 1, 2, 3].map((m) => {
      let total = 0
      for (let i = m; i < COUNT; i += 4) total += frames(i)
      const pages = Math.ceil(total / 16)
      return { memory: new WebAssembly.Memory({ initial: pages, maximum: pages, shared: m % 2 === 1 }), base: 0 }
    })
    const guests = Array.from({ length: COUNT }, (_, i) => {
      const place = memories[i % 4]!
      const bits: Bits = i % 3 ? 64 : 32
      const guest = new TreeGuest(xen, { domid: i, bits, frames: frames(i), memory: place.memory, base: place.base })
      place.base += frames(i) * PAGE_SIZE
      if (deep(i)) {
        guest.register(tree(bits))
        guest.quiet(0)
      }
      return guest
    })
    // Each has a port for the one before it, and one for the one after.
    const toNext: number[] = []
    const fromLast: number[] = []
    for (let i = 0; i < COUNT; i++) {
      const other = (i + 1) % COUNT
      const offered = guests[i]!.domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: other }).port
      toNext[i] = offered
      fromLast[other] = guests[other]!.domain.eventChannelOp('bind_interdomain', {
        remote_dom: i,
        remote_port: offered,
      }).local_port
    }
    for (const [i, guest] of guests.entries()) {
      guest.setBitAt(guest.leaf('pending', fromLast[i]!), 0)
      guest.setBitAt(guest.leaf('mask', fromLast[i]!), 0)
      guest.quiet(0)
    }
    const images = memories.map(({ memory }) => new Uint8Array(memory.buffer))
    const expected = images.map((image) => image.slice())
    // Whoever comes first: 3,331 and 10,000 have no common factor.
    for (let n = 0; n < COUNT; n++) {
      const i = (n * 3331) % COUNT
      guests[i]!.domain.eventChannelOp('send', { port: toNext[i]! })
    }
    for (const [i, guest] of guests.entries()) {
      const image = expected[i % 4]!
      const set = ([gpa, bit]: readonly [number, number]) => {
        image[guest.domain.memory.base + gpa + (bit >> 3)]! |= 1 << (bit & 7)
      }
      set(guest.leaf('pending', fromLast[i]!))
      for (let k = 1; k < (guest.tree?.levels ?? 2); k++) set(guest.selector(0, k, fromLast[i]!))
      set([guest.infoGpa[0]!, 0])
    }
    for (const [m, image] of images.entries()) expect(Buffer.compare(image, expected[m]!)).toBe(0)

    // Every third one dies. Its neighbours' channels are unbound, their memories as they were; others still signal.
    for (let i = 0; i < COUNT; i += 3) xen.destroyDomain(xen.domain(i)!)
    for (const [i, guest] of guests.entries()) {
      const image = expected[i % 4]!
      if (i % 3 === 0) {
        const [gpa, bit] = guest.leaf('pending', fromLast[i]!)
        image[guest.domain.memory.base + gpa + (bit >> 3)]! &= ~(1 << (bit & 7))
        if (guest.tree)
          for (let k = 0; k < guest.domain.bits / 8; k++) image[guest.domain.memory.base + guest.level1(0) + k] = 0
        continue
      }
      const { status } = guest.domain.eventChannelOp('status', { dom: DOMID_SELF, port: toNext[i]! })
      expect(status).toBe(((i + 1) % COUNT) % 3 === 0 ? 1 : 2)
      guest.domain.eventChannelOp('send', { port: toNext[i]! })
    }
    for (const [m, image] of images.entries()) expect(Buffer.compare(image, expected[m]!)).toBe(0)
  })

  it('a domain whose window lies above 2 GiB is like any other', () => {
    const pages = 32768 + 16
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
    for (const [i, levels] of [2, 3, 4].entries()) {
      const xen = Hypervisor.create()
      const base = 2 ** 31 + i * 64 * PAGE - (i === 1 ? 32 * PAGE : 0)
      const guest = new TreeGuest(xen, { domid: 1, vcpus: 34, frames: 64, memory, base, maxEvtchnPort: Infinity })
      if (levels > 2) guest.register({ ...plan(64, levels, 2, 1, FIRST_FREE) })
      guest.openIpi(4095)
      guest.setBitAt(guest.leaf('mask', 4095), 0)
      guest.quiet(0)
      expect(guest.op('send', { port: 4095 })).toBe(0)
      expect([guest.pending(4095), guest.path(0, 4095), guest.flag(0)]).toEqual([1, Array(levels - 1).fill(1), 1])
      guest.must(guest.op('reset', { dom: DOMID_SELF }))
      expect(guest.domain.memory.heldFrames).toBe(0)
    }
  })
})

describe('a domain that is latched to the other width', () => {
  const forms = [
    [64, 3],
    [64, 4],
    [32, 3],
    [32, 4],
    [32, 5],
  ] as const

  it.each(forms)(
    'NL-tree-3, EC-lay-5: registered with %i bits and %i levels, changes no byte outside the registered areas and the wallclock',
    (bits, levels) => {
      const other: Bits = bits === 64 ? 32 : 64
      const next = random(seedOr(bits * levels))
      let now = 1n
      const clock = { nowNs: () => 0, wallclockNs: () => (now += 123_456_789_012_345_678n) }
      const xen = Hypervisor.create({ clock })
      const guest = new TreeGuest(xen, { domid: 1, bits, vcpus: 3, frames: 48, maxEvtchnPort: Infinity })
      for (let at = 0; at < guest.bytes.length; at++) guest.bytes[at] = next(256)
      const nrPages = Math.min(2, fullPages(bits, levels))
      const tree = plan(bits, levels, nrPages, 3, FIRST_FREE)
      guest.register(tree, [0, 1])
      guest.openIpi(80)
      const watched = new Watched()
      watched.watch(() => guest.bytes, guest)
      const { wc_version, wc_sec, wc_nsec, wc_sec_hi } = sharedInfo(other)
      const wallclock = [wc_version, wc_sec, wc_nsec, wc_sec_hi].map((at): Range => [PAGE + at, PAGE + at + 4])
      inside(guest.domain).latchWidth(other)
      expect(guest.domain.bits).toBe(other)
      watched.check('latchWidth', () => wallclock)

      const ranges: Range[] = [...eventRanges(guest), [ARGUMENT, ARGUMENT + 32]]
      const rcs: number[] = []
      for (let i = 0; i < 600; i++) {
        const port = next(90)
        guest.setBitAt(guest.leaf('mask', port), next(2))
        const name = (['send', 'unmask', 'close', 'bind_vcpu', 'bind_ipi'] as const)[next(5)]!
        rcs.push(guest.op(name, { port, vcpu: next(3) }))
        watched.check(`${name} ${port}`, () => ranges)
        if (i % 50 === 0) for (const v of [0, 1]) guest.quiet(v)
        if (i === 300) {
          // A vCPU that comes late: the sizes are those of the registered width.
          guest.must(guest.setSelectors(tree, 2))
          watched.check('selectors', () => [...ranges, [7 * PAGE, 8 * PAGE]])
        }
      }
      expect(rcs.filter((rc) => rc === 0).length).toBeGreaterThan(200)
      // An event at the highest port of the first word of each width is where the registered width has it.
      guest.must(guest.op('reset', { dom: DOMID_SELF }))
      guest.tree = null
      const size = bits / 8
      for (const v of [0, 1, 2])
        expect(guest.bytes.subarray(guest.infoGpa[v]! + size, guest.infoGpa[v]! + 2 * size).some(Boolean)).toBe(false)
      // After the reset the domain is two-level at the latched width.
      expect([inside(guest.domain).levels, inside(guest.domain).maxEvtchns]).toEqual([2, other * other])
      for (const v of [0, 1]) guest.quiet(v)
      guest.openIpi(40, 1)
      guest.setBitAt(guest.leaf('pending', 40), 0)
      guest.setBitAt(guest.leaf('mask', 40), 0)
      guest.must(guest.op('send', { port: 40 }))
      expect([guest.pending(40), guest.path(1, 40), guest.flag(1)]).toEqual([1, [1], 1])
    },
  )

  it('EC-lay-5: with two levels the words are not converted, and from then on the other layout is in use', () => {
    for (const bits of [32, 64] as const) {
      const other: Bits = bits === 64 ? 32 : 64
      const guest = TreeGuest.on({}, { bits, frames: 16 })
      guest.openIpi(40)
      guest.must(guest.op('send', { port: 40 }))
      const watched = new Watched()
      watched.watch(() => guest.bytes, guest)
      inside(guest.domain).latchWidth(other)
      const { wc_version, wc_sec_hi } = sharedInfo(other)
      watched.check('latchWidth', () => [[PAGE + wc_version, PAGE + wc_sec_hi + 4]])
      expect(inside(guest.domain).maxEvtchns).toBe(other * other)
      guest.quiet(0)
      guest.setBitAt(guest.leaf('pending', 40), 0)
      guest.must(guest.op('send', { port: 40 }))
      expect([guest.pending(40), guest.path(0, 40)]).toEqual([1, [1]])
    }
  })
})
