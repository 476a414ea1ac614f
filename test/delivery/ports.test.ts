/** Domain ids, widths, port objects and limits (spec 1.1 to 1.4, 2.1 to 2.3). */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, ECS, NR_VIRQS, sharedInfo, VIRQ, XEN_LEGACY_MAX_VCPUS } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'

import { type Guest, host, SHARED_INFO } from '../ops/raw.js'

describe('numbers', () => {
  it('EC-lay-2: 32 legacy vCPUs, 24 VIRQs, 4096 or 1024 channels', () => {
    expect([XEN_LEGACY_MAX_VCPUS, NR_VIRQS]).toEqual([32, 24])
    expect(inside(host(64).d1.domain).maxEvtchns).toBe(4096)
    expect(inside(host(32).d1.domain).maxEvtchns).toBe(1024)
  })

  it('EC-lay-1: DOMID_SELF is the caller, its own number too, other reserved ids are nobody', () => {
    const { d1 } = host(64)
    expect(d1.answer('status', { dom: DOMID_SELF, port: 0 })).toBe('ok')
    expect(d1.answer('status', { dom: 1, port: 0 })).toBe('ok')
    for (let dom = 0x7ff1; dom <= 0x7fff; dom++) expect(d1.answer('status', { dom, port: 0 })).toBe('ESRCH')
  })
})

describe.each([64, 32] as const)('where the bits of a %i-bit guest are', (bits) => {
  const WORDS = (bits * bits) / 8
  const layout = sharedInfo(bits)

  it('EC-lay-3, EC-lay-6: the highest port is the last bit of its bitmap, and nothing beyond is touched', () => {
    const { d1 } = host(bits, {}, { maxEvtchnPort: Infinity })
    const last = bits * bits - 1
    for (let port = 1; port <= last; port++) d1.op('bind_ipi', { vcpu: 0 })
    expect(d1.state(last)).toBe(ECS.IPI)
    const before = d1.bytes.slice()
    d1.must('send', { port: last })
    const changed = [...d1.bytes.keys()].filter((at) => at >> 12 === 1 && d1.bytes[at] !== before[at])
    expect(changed).toEqual([
      SHARED_INFO,
      SHARED_INFO + layout.sel + bits / 8 - 1,
      SHARED_INFO + layout.pending + WORDS - 1,
    ])
    expect(changed.map((at) => d1.bytes[at])).toEqual([1, 0x80, 0x80])
    d1.setBit('mask', last)
    expect(d1.bytes[SHARED_INFO + layout.mask + WORDS - 1]).toBe(0x80)
    expect(d1.domain.isMasked(last)).toBe(true)
  })

  it('EC-port-4, EC-port-10: no port at or beyond W·W, whatever the domain’s own limit (ENOSPC)', () => {
    const { d1 } = host(bits, {}, { maxEvtchnPort: Infinity })
    for (let port = 1; port < bits * bits; port++) d1.op('bind_ipi', { vcpu: 0 })
    expect(inside(d1.domain).ports.activeEvtchns).toBe(bits * bits - 1)
    expect(nameOfNext(d1)).toBe('ENOSPC')
  })

  it('EC-lay-4, EC-lay-5: a latch to the other width converts no word and writes the wallclock only', () => {
    const { d1 } = host(bits)
    const port = d1.ipi()
    d1.must('send', { port })
    d1.setBit('mask', 77)
    const before = d1.bytes.slice()
    const other = bits === 64 ? 32 : 64
    inside(d1.domain).latchWidth(other)
    const at = sharedInfo(other)
    const clock = [at.wc_version, at.wc_sec, at.wc_nsec, at.wc_sec_hi].flatMap((o) => [0, 1, 2, 3].map((i) => o + i))
    const changed = [...d1.bytes.keys()].filter((i) => d1.bytes[i] !== before[i]).map((i) => i - SHARED_INFO)
    expect(changed.filter((i) => !clock.includes(i))).toEqual([])
    expect(inside(d1.domain).maxEvtchns).toBe(other * other)
  })

  it('EC-lay-4: after a latch bits are where the new width has them', () => {
    const { d1 } = host(bits)
    const other = bits === 64 ? 32 : 64
    for (let i = 0; i < 40; i++) d1.ipi()
    inside(d1.domain).latchWidth(other)
    d1.must('send', { port: 40 })
    expect([d1.bit('pending', 40), d1.sel()]).toEqual([1, other === 64 ? 1n : 2n])
  })
})

/** The answer to one more port. */
const nameOfNext = (guest: Guest) => guest.answer('bind_ipi', { vcpu: 0 })

describe('a port object', () => {
  it('EC-port-1, EC-port-3: what the hypervisor knows of a port is not in guest memory', () => {
    const { d0, d1, d2 } = host(64)
    const [ours, theirs] = d1.connect(d2)
    const virq = d1.virq(VIRQ.TIMER, 1)
    const { ports } = inside(d1.domain)
    for (const guest of [d0, d1, d2]) guest.bytes.fill(0xff)
    expect([ports.state(ours), ports.remoteDomid(ours), ports.remotePort(ours)]).toEqual([ECS.INTERDOMAIN, 2, theirs])
    expect([ports.state(virq), ports.irq(virq), ports.notifyVcpu(virq)]).toEqual([ECS.VIRQ, VIRQ.TIMER, 1])
    for (const guest of [d0, d1, d2]) guest.bytes.fill(0)
    expect([ports.state(ours), ports.remoteDomid(ours), ports.consumer(ours)]).toEqual([ECS.INTERDOMAIN, 2, 0])
  })

  it('EC-port-2: a port is usable if the guest owns it and it is bound; else it is masked and never pending', () => {
    const { xen, d1 } = host(64)
    const attached = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {} })
    const ipi = d1.ipi()
    expect([0, attached, ipi, 9].map((port) => inside(d1.domain).ports.isUsable(port))).toEqual([
      false,
      false,
      true,
      false,
    ])
    for (const port of [0, attached, 9]) {
      d1.setBit('pending', port)
      expect([d1.domain.isPending(port), d1.domain.isMasked(port)]).toEqual([false, true])
      inside(d1.domain).clearPending(port)
      expect(d1.bit('pending', port)).toBe(1)
      d1.setBit('pending', port, 0)
      inside(d1.domain).setPending(port)
      expect([d1.bit('pending', port), d1.flag()]).toEqual([0, 0])
    }
  })

  it('EC-port-9: port 0 is reserved for ever, counted nowhere, printed nowhere', () => {
    const { xen, d1 } = host(64)
    d1.must('reset', { dom: 1 })
    expect([d1.state(0), inside(d1.domain).ports.activeEvtchns]).toEqual([ECS.RESERVED, 0])
    expect([...xen.dump({ domid: 1 })]).toHaveLength(4)
    xen.killDomain(xen.domain(1)!)
    expect(d1.state(0)).toBe(ECS.RESERVED)
  })

  it('EC-port-20: active counts what is not free, xen what is attached among it', () => {
    const { xen, d1, d2 } = host(64)
    const counts = () => [inside(d1.domain).ports.activeEvtchns, inside(d1.domain).ports.xenEvtchns]
    const attached = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {} })
    d1.ipi()
    expect(counts()).toEqual([2, 1])
    d2.must('bind_interdomain', { remote_dom: 1, remote_port: attached })
    expect(counts()).toEqual([2, 1])
    xen.freeXenPort(xen.domain(1)!, attached)
    expect(counts()).toEqual([1, 0])
    d1.must('close', { port: 2 })
    expect(counts()).toEqual([0, 0])
  })

  it('EC-port-21: unbound, interdomain and PIRQ begin on vCPU 0, VIRQ, IPI and Xen-attached where they are told', () => {
    const { xen, d0, d2 } = host(64)
    const [ours, theirs] = d0.connect(d2)
    expect([d0.status(ours).vcpu, d2.status(theirs).vcpu, d0.status(d0.unbound(2)).vcpu]).toEqual([0, 0, 0])
    expect(d0.status(d0.must('bind_pirq', { pirq: 4, flags: 0 }).port).vcpu).toBe(0)
    expect([d0.status(d0.virq(VIRQ.TIMER, 1)).vcpu, d0.status(d0.ipi(1)).vcpu]).toEqual([1, 1])
    const attached = xen.allocXenPort(xen.domain(2)!, { vcpuId: 1, remoteDomid: 0, notify: () => {} })
    expect(d2.status(attached).vcpu).toBe(1)
  })
})

describe('limits', () => {
  it.each([0, 1, 63, 64, 65, 1023])(
    'EC-port-5, EC-port-16, EC-odd-9: a limit of %i is the highest number itself',
    (maxEvtchnPort) => {
      const { d1 } = host(64, {}, { maxEvtchnPort })
      for (let port = 1; port <= maxEvtchnPort; port++) expect(d1.ipi()).toBe(port)
      expect(nameOfNext(d1)).toBe('ENOSPC')
    },
  )

  it('EC-port-5: without a limit given, domain 0 has none and others have 1023', () => {
    const { xen } = host(64)
    xen.destroyDomain(xen.domain(0)!)
    expect(inside(xen.createDomain({ domid: 0, frames: 2 })).maxEvtchnPort).toBe(2 ** 31 - 1)
    expect(inside(xen.createDomain({ domid: 7, frames: 2 })).maxEvtchnPort).toBe(1023)
    expect(inside(xen.createDomain({ domid: 8, frames: 2, maxEvtchnPort: 2 ** 32 - 1 })).maxEvtchnPort).toBe(
      2 ** 31 - 1,
    )
    expect(inside(xen.createDomain({ domid: 9, frames: 2, maxEvtchnPort: Infinity })).maxEvtchnPort).toBe(2 ** 31 - 1)
  })

  it('EC-port-6, EC-port-7, EC-port-8: 64 valid ports at first, 64 more with each bucket, never fewer while it lives', () => {
    const { d1 } = host(64)
    const { ports } = inside(d1.domain)
    const valid: number[] = []
    for (let port = 1; port <= 100; port++) {
      d1.ipi()
      valid.push(ports.validEvtchns)
    }
    expect([...new Set(valid)]).toEqual([64, 128])
    expect(valid.indexOf(128)).toBe(63)
    d1.must('reset', { dom: 1 })
    expect(ports.validEvtchns).toBe(128)
    expect([ports.isValid(127), ports.isValid(128)]).toEqual([true, false])
  })

  it('EC-port-13, EC-port-18: an operation that fails after taking a port leaves the count and the number', () => {
    const { d1 } = host(64)
    expect(d1.answer('bind_interdomain', { remote_dom: 2, remote_port: 9 })).toBe('EINVAL')
    expect([inside(d1.domain).ports.activeEvtchns, inside(d1.domain).ports.lowestFree(1)]).toEqual([0, 1])
  })

  it('EC-port-14: a dying domain gets no port by anybody’s call (EINVAL)', () => {
    const { xen, d0, d1 } = host(64)
    xen.killDomain(xen.domain(1)!)
    expect(d0.answer('alloc_unbound', { dom: 1, remote_dom: 0 })).toBe('EINVAL')
    expect(d1.inside('bind_ipi', { vcpu: 0 })).toBe('EINVAL')
    expect(d1.inside('bind_virq', { vcpu: 0, virq: 0 })).toBe('EINVAL')
  })

  it('EC-port-15, EC-port-17: holes are filled from below, across buckets', () => {
    const { d1 } = host(64)
    for (let port = 1; port <= 100; port++) d1.ipi()
    for (const port of [100, 64, 63, 1]) d1.must('close', { port })
    expect([1, 2, 3, 4].map(() => d1.ipi())).toEqual([1, 63, 64, 100])
  })
})
