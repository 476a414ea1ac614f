/** Physical interrupts (spec 6.2): delivery, sharing, the EOI map, EOI and the status query. */

import { describe, expect, it } from 'vitest'
import { type Bits, HYPERVISOR, PAGE_SIZE } from '../../src/abi/index.js'
import { PHYSDEVOP } from '../../src/abi/physdev.js'
import { XENFEAT, XENVER } from '../../src/abi/version.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'
import { Errno, Hypervisor } from '../../src/index.js'
import { frameRefs } from '../../src/machine/memory.js'

import { ARGUMENT, END, FREE_GFN, Guest, host, NOWHERE, READ_ONLY } from '../ops/raw.js'

const MAP = FREE_GFN + 4
const bind = (guest: Guest, pirq: number, flags = 0) => {
  inside(guest.domain).pirqs.permitted.add(pirq)
  return guest.must('bind_pirq', { pirq, flags }).port
}
/** A physdev_op with a number in its argument; after an error everything must be as before. */
function physdev(guest: Guest, cmd: number, value: number | bigint, at = ARGUMENT): string {
  if (at + 8 <= END) {
    if (cmd === PHYSDEVOP.eoi || cmd === PHYSDEVOP.irq_status_query) guest.view.setUint32(at, Number(value), true)
    else guest.view.setBigUint64(at, BigInt(value), true)
  }
  return guest.callAnswer(HYPERVISOR.physdev_op, [cmd, at])
}
const eoi = (guest: Guest, irq: number, at = ARGUMENT) => physdev(guest, PHYSDEVOP.eoi, irq, at)
const mapBit = (guest: Guest, irq: number) => (guest.bytes[MAP * PAGE_SIZE + (irq >> 3)]! >> (irq & 7)) & 1

describe.each([64, 32] as const)('a PIRQ, %i-bit', (bits: Bits) => {
  it('EC-irq-1: comes to the vCPU of its port', () => {
    const { xen, d1 } = host(bits)
    const port = bind(d1, 5)
    d1.must('bind_vcpu', { port, vcpu: 1 })
    xen.sendPirq(xen.domain(1)!, 5)
    expect([d1.bit('pending', port), d1.flag(0), d1.flag(1)]).toEqual([1, 0, 1])
  })

  it('EC-irq-1: is dropped if it is bound nowhere', () => {
    const { xen, d1 } = host(bits)
    bind(d1, 5)
    xen.sendPirq(xen.domain(1)!, 6)
    d1.must('close', { port: 1 })
    xen.sendPirq(xen.domain(1)!, 5)
    xen.raiseIrq(5)
    expect([d1.flag(), d1.bit('pending', 1)]).toEqual([0, 0])
  })

  it('EC-irq-2: a line that is shared comes to all who share it', () => {
    const { xen, d1, d2 } = host(bits)
    const ports = [bind(d1, 5, 1), bind(d2, 5, 1)]
    xen.raiseIrq(5)
    expect([d1.bit('pending', ports[0]!), d2.bit('pending', ports[1]!)]).toEqual([1, 1])
  })

  it('EC-irq-2: seven guests at most share a line (EBUSY)', () => {
    const { xen } = host(bits)
    const memory = new WebAssembly.Memory({ initial: 8, maximum: 8 })
    const guests = Array.from({ length: 8 }, (_, i) => {
      const guest = new Guest(xen, { domid: 10 + i, bits, memory, base: i * END, nrPirqs: 32 })
      inside(guest.domain).pirqs.permitted.add(5)
      return guest
    })
    const answers = guests.map((guest) => guest.answer('bind_pirq', { pirq: 5, flags: 1 }))
    expect(answers).toEqual([...Array(7).fill('ok'), 'EBUSY'])
    guests[3]!.must('close', { port: 1 })
    expect(guests[7]!.answer('bind_pirq', { pirq: 5, flags: 1 })).toBe('ok')
  })

  it('EC-irq-3: the EOI map: EFAULT, a bad page (EINVAL), a second time (EBUSY), in this order', () => {
    const { d1 } = host(bits)
    const { pirq_eoi_gmfn_v1, pirq_eoi_gmfn_v2 } = PHYSDEVOP
    for (const cmd of [pirq_eoi_gmfn_v1, pirq_eoi_gmfn_v2]) {
      expect(physdev(d1, cmd, MAP, NOWHERE)).toBe('EFAULT')
      expect(physdev(d1, cmd, 16)).toBe('EINVAL')
      expect(physdev(d1, cmd, READ_ONLY / PAGE_SIZE)).toBe('EINVAL')
    }
    expect(physdev(d1, pirq_eoi_gmfn_v2, MAP)).toBe('ok')
    expect(frameRefs(d1.domain.memory).references(MAP)).toBe(1)
    expect(physdev(d1, pirq_eoi_gmfn_v1, 16)).toBe('EINVAL')
    expect(physdev(d1, pirq_eoi_gmfn_v1, MAP)).toBe('EBUSY')
    expect(physdev(d1, pirq_eoi_gmfn_v2, MAP + 1)).toBe('EBUSY')
  })

  it('EC-irq-3: a bind sets the bit of its PIRQ, a close clears it', () => {
    const { d1 } = host(bits)
    physdev(d1, PHYSDEVOP.pirq_eoi_gmfn_v2, MAP)
    const ports = [3, 31].map((irq) => bind(d1, irq))
    expect([3, 4, 31].map((irq) => mapBit(d1, irq))).toEqual([1, 0, 1])
    d1.must('close', { port: ports[1]! })
    expect([3, 4, 31].map((irq) => mapBit(d1, irq))).toEqual([1, 0, 0])
  })

  it.each([
    [PHYSDEVOP.pirq_eoi_gmfn_v1, 0, 1],
    [PHYSDEVOP.pirq_eoi_gmfn_v2, 1, 0],
  ])('EC-irq-3, EC-irq-4: with map command %i an EOI leaves the mask bit %i', (cmd, mask, flag) => {
    const { xen, d1 } = host(bits)
    physdev(d1, cmd, MAP)
    const port = bind(d1, 3)
    d1.setBit('mask', port)
    xen.sendPirq(xen.domain(1)!, 3)
    expect(eoi(d1, 3)).toBe('ok')
    expect([d1.bit('mask', port), d1.flag()]).toEqual([mask, flag])
  })

  it('EC-irq-4: EFAULT, a number beyond the domain’s (EINVAL), a PIRQ that never was (EINVAL)', () => {
    const { d1 } = host(bits)
    expect(eoi(d1, 3, NOWHERE)).toBe('EFAULT')
    expect(eoi(d1, 3, END - 3)).toBe('EFAULT')
    for (const irq of [32, 0x8000_0000, 0xffff_ffff, 3]) expect(eoi(d1, irq)).toBe('EINVAL')
    const port = bind(d1, 3)
    expect(eoi(d1, 3)).toBe('ok')
    d1.must('close', { port })
    expect(eoi(d1, 3)).toBe('ok')
  })

  it('EC-irq-4: a PV guest’s level that is still high comes again after its EOI', () => {
    const { xen, d1 } = host(bits)
    const port = bind(d1, 3)
    const again = () => {
      d1.quiet()
      expect(eoi(d1, 3)).toBe('ok')
      return d1.bit('pending', port)
    }
    xen.raiseIrq(3, 'level')
    expect(d1.bit('pending', port)).toBe(1)
    expect(again()).toBe(1)
    xen.lowerIrq(3)
    expect(again()).toBe(0)
  })

  it.each([
    [15, 0],
    [16, 1],
    [20, 1],
  ])(
    'EC-irq-4: an HVM guest’s GSI %i that is still high comes again after its EOI %i times: ISA lines are edges',
    (gsi, times) => {
      const { xen, d1 } = host(bits, {}, { type: 'hvm' })
      const port = bind(d1, gsi)
      worldOf(xen).irqs.assert(gsi, true)
      xen.sendPirq(xen.domain(1)!, gsi)
      d1.quiet()
      expect(eoi(d1, gsi)).toBe('ok')
      expect(d1.bit('pending', port)).toBe(times)
    },
  )

  it('EC-irq-5: the status query says that an EOI is needed, and whether more than one guest is on the line', () => {
    const { d1, d2 } = host(bits)
    const query = (irq: number, at = ARGUMENT) => physdev(d1, PHYSDEVOP.irq_status_query, irq, at)
    const flags = (irq: number) => [query(irq), d1.view.getUint32(ARGUMENT + 4, true)]
    bind(d1, 3)
    bind(d1, 4, 1)
    expect([3, 4, 5].map(flags)).toEqual(Array(3).fill(['ok', 1]))
    const second = bind(d2, 4, 1)
    expect(flags(4)).toEqual(['ok', 3])
    d2.must('close', { port: second })
    expect(flags(4)).toEqual(['ok', 1])
    expect([query(32), query(0xffff_ffff)]).toEqual(['EINVAL', 'EINVAL'])
    expect([query(3, NOWHERE), query(3, READ_ONLY)]).toEqual(['EFAULT', 'EFAULT'])
  })

  it('EC-die-1, EC-irq-3: a domain that died holds no frame for its map, and its lines are free', () => {
    const { xen, d1, d2 } = host(bits)
    physdev(d1, PHYSDEVOP.pirq_eoi_gmfn_v1, MAP)
    bind(d1, 3)
    xen.killDomain(xen.domain(1)!)
    expect(d1.domain.memory.heldFrames).toBe(0)
    expect(worldOf(xen).irqs.guests(3)).toEqual([])
    expect(bind(d2, 3)).toBe(1)
  })
})

it('XENFEAT_hvm_pirqs is not announced to a HVM guest, and PHYSDEVOP_map_pirq, which it would promise, is ENOSYS', () => {
  const xen = Hypervisor.create()
  const domain = xen.createDomain({ domid: 1, type: 'hvm' })
  const view = new DataView(domain.memory.memory.buffer)
  view.setUint32(0x3000, 0, true)
  expect(xen.hypercall(domain.vcpu(0), HYPERVISOR.xen_version, [XENVER.get_features, 0x3000])).toBe(0)
  expect(view.getUint32(0x3004, true) & (1 << XENFEAT.hvm_pirqs)).toBe(0)
  const PHYSDEVOP_map_pirq = 13
  expect(xen.hypercall(domain.vcpu(0), HYPERVISOR.physdev_op, [PHYSDEVOP_map_pirq, 0x3000])).toBe(-Errno.ENOSYS)
})
