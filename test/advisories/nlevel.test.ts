/** What the advisories and bugs of Xen's two ABIs teach about an N-level domain, where the same mistake could be made. */

import { afterEach, describe, expect, it } from 'vitest'
import { DOMID_SELF, HYPERVISOR, SCHEDOP } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { enough, memoryFor } from '../machine/scarce.js'
import { PAGE, plan } from '../nlevel/geometry.js'
import { ARGUMENT, FIRST_FREE, stateOf, TreeGuest } from '../nlevel/guest.js'

afterEach(enough)

const FORMS = [
  [64, 3, 1],
  [64, 4, 1],
  [32, 3, 1],
  [32, 5, 1],
] as const
const [EINVAL, ENOMEM] = [-22, -12]

describe.each(FORMS)('%i bits, %i levels', (bits, levels, pages) => {
  /** A domain on the tree; `preempt` is asked at every 64th port of a reset. */
  function machine(preempt: () => boolean = () => false) {
    const guest = TreeGuest.on({ preempt }, { bits, vcpus: 2, frames: 64 })
    guest.register(plan(bits, levels, pages, 2, FIRST_FREE))
    for (const vcpu of [0, 1]) guest.quiet(vcpu)
    return guest
  }
  const twoLevel = bits * bits

  it('EC-XSA-188, NL-reg-2: a registration for which there is no memory (ENOMEM) leaves nothing', () => {
    const guest = TreeGuest.on({}, { bits, vcpus: 2, frames: 64 })
    const tree = plan(bits, levels, pages, 2, FIRST_FREE)
    guest.clean(tree)
    const without = (body: () => number) => {
      const before = stateOf(guest)
      memoryFor(0)
      const rc = body()
      enough()
      expect(stateOf(guest)).toEqual(before)
      return rc
    }
    expect(without(() => guest.setSelectors(tree, 0))).toBe(ENOMEM)
    guest.must(guest.setSelectors(tree, 0))
    expect(without(() => guest.commit(tree))).toBe(ENOMEM)
    guest.must(guest.commit(tree))
    expect(inside(guest.domain).levels).toBe(levels)
  })

  it('EC-bug-1: what was pending when its port was closed does not fire on the port that comes after it', () => {
    const guest = machine()
    guest.setBitAt(guest.leaf('mask', 70), 1)
    guest.openIpi(70)
    guest.must(guest.op('send', { port: 70 }))
    expect(guest.pending(70)).toBe(1)
    guest.must(guest.op('close', { port: 70 }))
    guest.openIpi(70)
    guest.must(guest.op('unmask', { port: 70 }))
    expect([guest.pending(70), guest.flag(0)]).toEqual([0, 0])
  })

  it('EC-bug-14: the last port has the last bit of its page, its own bit at every level, and no byte beyond', () => {
    const guest = machine()
    const last = 32767
    guest.openIpi(last)
    guest.setBitAt(guest.leaf('mask', last), 0)
    const before = guest.bytes.slice()
    guest.must(guest.op('send', { port: last }))
    expect(guest.path(0, last)).toEqual(Array(levels - 1).fill(1))
    expect(guest.bytes[guest.leaf('pending', last)[0] + PAGE - 1]).toBe(0x80)
    const changed = [...before.keys()].filter(
      (at) => before[at] !== guest.bytes[at] && (at < ARGUMENT || at >= ARGUMENT + 64),
    )
    expect(changed).toHaveLength(levels + 1)
  })

  it('EC-XSA-221: poll, status and unmask of a port without object are refused, however far the tree goes', () => {
    const guest = machine()
    const view = guest.viewAt(ARGUMENT, 128)
    for (const port of [64, 1000, twoLevel, 32767, 0x7fff_ffff, 0xffff_ffff]) {
      for (let at = 0; at < 32; at += 4) view.setUint32(at, 0, true)
      view.setUint32(0, ARGUMENT + 64, true)
      view.setUint32(bits === 64 ? 8 : 4, 1, true)
      view.setUint32(64, port, true)
      expect(guest.call(HYPERVISOR.sched_op, [SCHEDOP.poll, ARGUMENT])).toBe(EINVAL)
      expect(guest.op('status', { dom: DOMID_SELF, port })).toBe(EINVAL)
      expect(guest.op('unmask', { port })).toBe(EINVAL)
    }
  })

  it('EC-XSA-338, EC-XSA-342: after a reset a port beyond two levels is valid still, and touches no byte', () => {
    const guest = machine()
    const port = twoLevel + 100
    guest.openIpi(port)
    expect(inside(guest.domain).maxEvtchns).toBe(32768)
    guest.must(guest.op('reset', { dom: DOMID_SELF }))
    expect([inside(guest.domain).maxEvtchns, inside(guest.domain).ports.isValid(port)]).toEqual([twoLevel, true])
    const before = guest.bytes.slice(ARGUMENT + PAGE)
    expect(guest.op('status', { dom: DOMID_SELF, port })).toBe(0)
    expect(guest.out.status).toBe(0)
    expect([guest.op('unmask', { port }), guest.op('send', { port })]).toEqual([0, EINVAL])
    expect(Buffer.compare(guest.bytes.slice(ARGUMENT + PAGE), before)).toBe(0)
    // The limit is that of two levels again: the port after the last is refused (ENOSPC).
    while (guest.op('bind_ipi', { vcpu: 0 }) === 0);
    expect(inside(guest.domain).ports.activeEvtchns).toBe(twoLevel - 1)
  })

  it('EC-XSA-344: a reset of many ports can be interrupted at every 64th, and two levels come at its end only', () => {
    const asked: number[][] = []
    const guest: TreeGuest = machine(() => {
      asked.push([inside(guest.domain).levels, inside(guest.domain).ports.activeEvtchns])
      return true
    })
    guest.openIpi(300)
    guest.must(guest.op('reset', { dom: DOMID_SELF }))
    expect(asked).toEqual([64, 128, 192, 256].map((port) => [levels, 300 - port]))
    expect([
      inside(guest.domain).levels,
      inside(guest.domain).ports.activeEvtchns,
      inside(guest.domain).nextEvtchn,
    ]).toEqual([2, 0, 0])
  })
})
