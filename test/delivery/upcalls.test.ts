/** From the upcall flag to the guest's handler (spec 3.2): PV, HVM, edges, levels, and never in the middle of a call. */

import { describe, expect, it } from 'vitest'
import { type Bits, HYPERVISOR, SCHEDOP, SHUTDOWN, sharedInfo, VCPU_INFO_SIZE, VCPUOP } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { DomainOptions, Hypervisor } from '../../src/index.js'
import {
  ARGUMENT,
  END,
  FREE_GFN,
  type Guest,
  host,
  Guest as NewGuest,
  NOWHERE,
  nameOf,
  READ_ONLY,
  SHARED_INFO,
} from '../ops/raw.js'

const { hvm_op, sched_op, vcpu_op } = HYPERVISOR
const SET_VECTOR = 23
const SET_PARAM = 0
const GET_PARAM = 1

/** A host that writes down whom it enters; `handler` is what the guest does there. */
function entering(
  bits: Bits,
  each: Partial<DomainOptions> = {},
  handler: (vcpu: number, guest: Guest) => void = clear,
) {
  const entered: number[] = []
  const woken: number[] = []
  const reported: unknown[] = []
  const all = host(
    bits,
    {
      onUpcall: ({ domid, vcpuId }) => {
        if (domid !== 1) return
        entered.push(vcpuId)
        handler(vcpuId, all.d1)
      },
      onUnblock: ({ domid, vcpuId }) => void (domid === 1 && woken.push(vcpuId)),
      onError: (error) => reported.push(error),
    },
    each,
  )
  return { ...all, entered, woken, reported }
}

/** A handler that takes all events of its vCPU, the shortest way. */
function clear(vcpu: number, guest: Guest): void {
  guest.setFlag(0, vcpu)
  const sel = SHARED_INFO + vcpu * VCPU_INFO_SIZE + sharedInfo(guest.bits).sel
  guest.bytes.fill(0, sel, sel + guest.bits / 8)
  const { ports } = inside(guest.domain)
  for (let port = 1; port < ports.validEvtchns; port++)
    if (ports.notifyVcpu(port) === vcpu) guest.setBit('pending', port, 0)
}
const ignore = () => {}
/** d1 suspends itself, on its vCPU 1. */
function suspend(xen: Hypervisor): void {
  const domain = xen.domain(1)!
  domain.memory.data.setUint32(ARGUMENT, SHUTDOWN.suspend, true)
  xen.hypercall(domain.vcpu(1), sched_op, [SCHEDOP.shutdown, ARGUMENT])
}

const setVector = (guest: Guest, vcpu: number, vector: number, at = ARGUMENT) => {
  if (at < END - 8) {
    guest.view.setUint32(at, vcpu, true)
    guest.view.setUint8(at + 4, vector)
  }
  return guest.callAnswer(hvm_op, [SET_VECTOR, at])
}
const setCallback = (guest: Guest, value: bigint) => {
  guest.view.setUint16(ARGUMENT, 0x7ff0, true)
  guest.view.setUint32(ARGUMENT + 4, 0, true)
  guest.view.setBigUint64(ARGUMENT + 8, value, true)
  return guest.callAnswer(hvm_op, [SET_PARAM, ARGUMENT])
}
const GSI = 9n
const INTX = (1n << 56n) | (3n << 11n) | 2n
const VECTOR = (2n << 56n) | 0xf3n

describe.each([64, 32] as const)('a PV guest, %i-bit', (bits) => {
  it('EC-up-1: a notification happens on the edge of bit 0 only', () => {
    const { d1, entered } = entering(bits, {}, ignore)
    const ports = [d1.ipi(), d1.ipi()]
    d1.setMask(1)
    for (const port of ports) d1.must('send', { port })
    expect([d1.flag(), entered]).toEqual([1, []])
    d1.quiet()
    d1.setFlag(2)
    d1.must('send', { port: ports[0]! })
    expect(d1.flag()).toBe(3)
  })

  it('EC-up-1: the trace sees each edge once, masked or not', () => {
    const edges: number[] = []
    const { d1 } = host(bits, { trace: { upcall: (vcpu) => void edges.push(vcpu.vcpuId) } })
    const [zero, one] = [d1.ipi(0), d1.ipi(1)]
    d1.setMask(1, 0)
    for (const port of [zero, one, one, zero]) d1.must('send', { port })
    expect(edges).toEqual([0, 1])
  })

  it('EC-up-2: the edge unblocks the vCPU', () => {
    const { d1, woken, entered } = entering(bits)
    const port = d1.ipi(1)
    d1.call(sched_op, [SCHEDOP.block, 0], 1)
    expect(d1.domain.vcpu(1).blocked).toBe(true)
    d1.must('send', { port })
    expect([d1.domain.vcpu(1).blocked, woken, entered]).toEqual([false, [1], [1]])
  })

  it.each([1, 2, 0x80, 0xff])('EC-up-6: an upcall mask of %i holds upcalls back, whichever bit it is', (mask) => {
    const { d1, xen, entered } = entering(bits)
    const port = d1.ipi()
    d1.setMask(mask)
    d1.must('send', { port })
    expect([d1.flag(), entered]).toEqual([1, []])
    d1.setMask(0)
    xen.deliverUpcalls(d1.domain.vcpu(0))
    expect(entered).toEqual([0])
  })

  it('EC-up-6: the mask is 1 in the handler and what it was afterwards', () => {
    const masks: number[] = []
    const { d1 } = entering(bits, {}, (vcpu, guest) => {
      masks.push(guest.mask(vcpu))
      clear(vcpu, guest)
    })
    d1.must('send', { port: d1.ipi() })
    expect([masks, d1.mask()]).toEqual([[1], 0])
  })

  it('EC-up-6: the mask is what it was also after a handler that throws', () => {
    const crashed = new Error('the guest crashed')
    const { d1, reported } = entering(bits, {}, () => {
      throw crashed
    })
    const port = d1.ipi()
    d1.must('send', { port })
    expect(new Set(reported)).toEqual(new Set([crashed]))
    expect(d1.mask()).toBe(0)
  })

  it('EC-up-6: it is a level: a return to guest code with the flag set and the mask clear is enough', () => {
    const { d1, entered } = entering(bits)
    d1.setFlag(1)
    d1.call(sched_op, [SCHEDOP.yield, 0])
    expect(entered).toEqual([0])
    d1.setFlag(0x40)
    d1.call(sched_op, [SCHEDOP.yield, 0])
    expect(entered).toEqual([0, 0])
  })

  it('EC-up-6: an upcall of another vCPU does not wait for that vCPU’s own call', () => {
    const { d1, entered } = entering(bits)
    d1.must('send', { port: d1.ipi(1) })
    expect(entered).toEqual([1])
  })

  it('EC-up-6: no upcall nests in a handler; what its calls raise comes after it', () => {
    const log: string[] = []
    let again = true
    const { d1 } = entering(bits, {}, (vcpu, guest) => {
      log.push(`v${vcpu} in`)
      clear(vcpu, guest)
      if (again) {
        again = false
        guest.must('send', { port: 2 })
        guest.must('send', { port: 1 })
      }
      log.push(`v${vcpu} out`)
    })
    const [zero, one] = [d1.ipi(0), d1.ipi(1)]
    expect([zero, one]).toEqual([1, 2])
    d1.must('send', { port: zero })
    expect(log.filter((line) => line === 'v0 in')).toHaveLength(2)
    expect(log.filter((line) => line === 'v1 in')).toHaveLength(1)
    log.forEach((line, i) => void (i % 2 && expect(line).toBe(log[i - 1]!.replace('in', 'out'))))
  })

  it('EC-up-2: nobody is entered in the middle of a call: the handler sees the call’s whole effect, and no lock held', () => {
    const seen: unknown[] = []
    const { d0, d1, d2, xen } = entering(bits, {}, (vcpu, guest) => {
      seen.push([d2.state(1), guest.state(1), inside(guest.domain).eventLock.held, inside(d2.domain).eventLock.held])
      seen.push(guest.answer('bind_ipi', { vcpu: 0 }), d2.answer('bind_ipi', { vcpu: 0 }))
      clear(vcpu, guest)
    })
    d1.must('bind_interdomain', { remote_dom: 2, remote_port: d2.unbound(1) })
    expect(seen).toEqual([[3, 3, false, false], 'ok', 'ok'])
    expect([inside(xen.domain(0)!).eventLock.held, d0.flag()]).toEqual([false, 0])
  })

  it('EC-up-2: nor is an unblocked vCPU let go on in the middle of a call: it may call at once', () => {
    const seen: unknown[] = []
    const all = host(bits, {
      onUnblock: (vcpu) => {
        seen.push([vcpu.domid, all.d1.state(1), all.d2.state(1), inside(all.d1.domain).eventLock.held])
        seen.push(nameOf(all.d1.op('bind_ipi', { vcpu: 0 }, { vcpu: 1, at: ARGUMENT + 512 })))
      },
    })
    const { d1, d2 } = all
    const remote_port = d2.unbound(1)
    d1.call(sched_op, [SCHEDOP.poll, FREE_GFN * 4096], 1)
    expect(d1.answer('bind_interdomain', { remote_dom: 2, remote_port })).toBe('ok')
    expect(seen).toEqual([[1, 3, 3, false], 'ok'])
  })

  it('EC-up-2: an unblocked vCPU goes on before its upcall comes', () => {
    const log: string[] = []
    const all = host(bits, {
      onUpcall: (vcpu) => {
        if (vcpu.domid !== 1) return
        log.push(`upcall ${vcpu.vcpuId}`)
        all.d1.quiet()
      },
      onUnblock: (vcpu) => void log.push(`on ${vcpu.vcpuId}`),
    })
    const port = all.d1.ipi(1)
    all.d1.call(sched_op, [SCHEDOP.block, 0], 1)
    all.d1.must('send', { port })
    expect(log).toEqual(['on 1', 'upcall 1'])
  })

  it('EC-up-7: SCHEDOP_block clears the mask first and does not sleep if an upcall is due', () => {
    const { d1, entered } = entering(bits)
    const port = d1.ipi()
    d1.setMask(1)
    d1.must('send', { port })
    expect(d1.call(sched_op, [SCHEDOP.block, 0])).toBe(0)
    expect([d1.domain.vcpu(0).blocked, entered, d1.mask()]).toEqual([false, [0], 0])
    expect(d1.call(sched_op, [SCHEDOP.block, 0])).toBe(0)
    expect([d1.domain.vcpu(0).blocked, d1.mask()]).toEqual([true, 0])
  })

  it('EC-up-10: the vector is for HVM guests (EINVAL), which is found before a bad argument', () => {
    const { d1 } = host(bits)
    expect(setVector(d1, 9, 3, NOWHERE)).toBe('EINVAL')
    expect(setVector(d1, 0, 0x30)).toBe('EINVAL')
  })

  it('EC-up-6: what came for a vCPU that is offline is delivered when it comes up', () => {
    const { d1, entered } = entering(bits)
    const port = d1.ipi(1)
    expect(d1.call(vcpu_op, [VCPUOP.down, 1, 0])).toBe(0)
    d1.must('send', { port })
    expect([d1.flag(1), entered]).toEqual([1, []])
    expect(d1.call(vcpu_op, [VCPUOP.is_up, 1, 0])).toBe(0)
    expect(d1.call(vcpu_op, [VCPUOP.up, 1, 0])).toBe(0)
    expect(d1.call(vcpu_op, [VCPUOP.is_up, 1, 0])).toBe(1)
    expect(entered).toEqual([1])
  })

  it('EC-up-6, EC-reset-4: a domain that its controller paused returns to no guest code until it goes on', () => {
    const { d1, xen, d2, entered } = entering(bits)
    const [port] = d2.connect(d1)
    xen.pauseDomain(xen.domain(1)!)
    d2.must('send', { port })
    expect([d1.flag(), entered]).toEqual([1, []])
    xen.unpauseDomain(xen.domain(1)!)
    expect(entered).toEqual([0])
  })

  it.each([
    [
      'paused',
      (xen: Hypervisor) => xen.pauseDomain(xen.domain(1)!),
      (xen: Hypervisor) => xen.unpauseDomain(xen.domain(1)!),
    ],
    ['shut down', (xen: Hypervisor) => suspend(xen), (xen: Hypervisor) => xen.resumeDomain(xen.domain(1)!)],
  ])('EC-up-2, EC-poll-14: a vCPU that is woken while its domain is %s goes on when that does', (_, stop, goOn) => {
    const { d1, xen, d2, entered, woken } = entering(bits)
    const [port] = d2.connect(d1)
    d1.call(sched_op, [SCHEDOP.block, 0])
    stop(xen)
    d2.must('send', { port })
    expect([d1.domain.vcpu(0).blocked, woken, entered]).toEqual([false, [], []])
    goOn(xen)
    expect([woken, entered]).toEqual([[0], [0]])
  })

  it('EC-up-2: a vCPU that is woken while it is offline goes on when it comes up, and once', () => {
    const { d1, xen, d2, woken } = entering(bits)
    const [port, theirs] = d2.connect(d1)
    d1.must('bind_vcpu', { port: theirs, vcpu: 1 })
    d1.call(sched_op, [SCHEDOP.block, 0], 1)
    d1.call(vcpu_op, [VCPUOP.down, 1, 0])
    d2.must('send', { port })
    expect([d1.domain.vcpu(1).blocked, woken]).toEqual([false, []])
    d1.call(vcpu_op, [VCPUOP.is_up, 0, 0])
    expect(woken).toEqual([])
    d1.call(vcpu_op, [VCPUOP.up, 1, 0])
    expect(woken).toEqual([1])
    xen.pauseDomain(xen.domain(1)!)
    xen.unpauseDomain(xen.domain(1)!)
    expect(woken).toEqual([1])
  })

  it('EC-die-1: nor does a dying one, between two steps of its teardown', () => {
    const entered: number[] = []
    const all = host(bits, { preempt: () => true, onUpcall: ({ domid }) => void (domid === 1 && entered.push(domid)) })
    const { xen, d1, d2 } = all
    const [port] = d2.connect(d1)
    for (let i = 0; i < 80; i++) d1.ipi()
    expect(xen.killStep(xen.domain(1)!)).toBe(false)
    d2.must('send', { port })
    expect([d1.flag(), entered]).toEqual([1, []])
  })
})

describe.each([64, 32] as const)('an HVM guest, %i-bit', (bits) => {
  const hvm = (handler?: (vcpu: number, guest: Guest) => void) => entering(bits, { type: 'hvm' }, handler)

  it('EC-up-3: without vector and callback nobody is called, and a blocked vCPU sleeps on', () => {
    const { d1, entered, woken } = hvm()
    const [zero, one] = [d1.ipi(0), d1.ipi(1)]
    d1.call(sched_op, [SCHEDOP.block, 0], 1)
    for (const port of [zero, one]) d1.must('send', { port })
    expect([d1.flag(0), d1.flag(1), entered, woken]).toEqual([1, 1, [], []])
    expect(d1.domain.vcpu(1).blocked).toBe(true)
  })

  it('EC-up-3: a vCPU’s own vector comes first: that vCPU is called, any vCPU', () => {
    const { d1, entered } = hvm()
    expect(setVector(d1, 1, 0x30)).toBe('ok')
    const [zero, one] = [d1.ipi(0), d1.ipi(1)]
    d1.must('send', { port: zero })
    expect(entered).toEqual([])
    d1.must('send', { port: one })
    expect(entered).toEqual([1])
  })

  it('EC-up-3: the vector is an edge: no second call while the flag stays 1', () => {
    const { d1, entered } = hvm(ignore)
    setVector(d1, 0, 0x30)
    d1.must('send', { port: d1.ipi(0) })
    expect(entered).toEqual([0])
    d1.call(sched_op, [SCHEDOP.yield, 0])
    d1.must('send', { port: d1.ipi(0) })
    expect(entered).toEqual([0])
    d1.quiet()
    d1.must('send', { port: 1 })
    expect(entered).toEqual([0, 0])
  })

  it('EC-up-3, EC-up-4: the callback vector calls every vCPU', () => {
    const { d1, entered } = hvm()
    expect(setCallback(d1, VECTOR)).toBe('ok')
    d1.must('send', { port: d1.ipi(1) })
    d1.must('send', { port: d1.ipi(0) })
    expect(entered).toEqual([1, 0])
  })

  it('EC-up-4: it is injected at each entry while the flag is not 0', () => {
    const { d1, entered } = hvm(ignore)
    setCallback(d1, VECTOR)
    d1.must('send', { port: d1.ipi(0) })
    const calls = entered.length
    d1.call(sched_op, [SCHEDOP.yield, 0])
    expect(entered.length).toBe(calls + 1)
    d1.setFlag(0)
    d1.call(sched_op, [SCHEDOP.yield, 0])
    expect(entered.length).toBe(calls + 1)
  })

  it.each([
    ['a GSI', GSI],
    ['INTx', INTX],
  ])('EC-up-3, EC-up-5: with %s vCPU 0 is called while its flag is set, any other is not', (_, value) => {
    const { d1, entered } = hvm()
    expect(setCallback(d1, value)).toBe('ok')
    d1.must('send', { port: d1.ipi(1) })
    expect(entered).toEqual([])
    d1.must('send', { port: d1.ipi(0) })
    expect(entered).toEqual([0])
  })

  it('EC-up-5: the level falls when the guest has cleared the flag', () => {
    const { d1, xen, entered } = hvm()
    setCallback(d1, GSI)
    const port = d1.ipi()
    d1.must('send', { port })
    d1.setFlag(0)
    xen.deliverUpcalls(d1.domain.vcpu(0))
    expect(entered).toEqual([0])
  })

  it('EC-up-8, EC-odd-14: evtchn_upcall_mask is neither looked at nor written', () => {
    const masks: number[] = []
    const { d1, entered } = hvm((vcpu, guest) => {
      masks.push(guest.mask(vcpu))
      clear(vcpu, guest)
    })
    setCallback(d1, VECTOR)
    d1.setMask(0xff)
    d1.must('send', { port: d1.ipi() })
    d1.setMask(0)
    d1.must('send', { port: 1 })
    expect([entered, masks, d1.mask()]).toEqual([[0, 0], [0xff, 0], 0])
  })

  it('EC-up-8: SCHEDOP_block leaves the mask alone', () => {
    const { d1 } = hvm()
    d1.setMask(1)
    d1.call(sched_op, [SCHEDOP.block, 0])
    expect([d1.mask(), d1.domain.vcpu(0).blocked]).toEqual([1, true])
  })

  it.each([
    ['0', 0n],
    ['a GSI of number 0', 0x100n],
    ['a GSI beyond the last', 0xffn],
    ['type 3', 3n << 56n],
    ['type 255', 0xffn << 56n],
  ])('EC-up-9: a callback of %s is none', (_, value) => {
    const { d1, entered } = hvm()
    expect(setCallback(d1, value)).toBe('ok')
    d1.must('send', { port: d1.ipi() })
    expect(entered).toEqual([])
  })

  it('EC-up-9: setting the callback re-evaluates every vCPU that is online', () => {
    const { d1, entered } = hvm()
    for (const vcpu of [0, 1]) d1.must('send', { port: d1.ipi(vcpu) })
    expect(setCallback(d1, VECTOR)).toBe('ok')
    expect([...entered].sort()).toEqual([0, 1])
  })

  it('EC-up-9: a vCPU that sleeps with its flag set is woken by the callback', () => {
    const { d1, woken, entered } = hvm()
    d1.must('send', { port: d1.ipi(1) })
    d1.call(sched_op, [SCHEDOP.block, 0], 1)
    expect(d1.domain.vcpu(1).blocked).toBe(true)
    setCallback(d1, VECTOR)
    expect([woken, entered]).toEqual([[1], [1]])
  })

  it('EC-up-9: the parameter reads back, for its guest and a control domain, no other (EPERM, ESRCH)', () => {
    const { d0, d1, d2 } = hvm()
    setCallback(d1, INTX)
    const get = (guest: Guest, domid: number, at = ARGUMENT) => {
      guest.view.setUint16(at, domid, true)
      guest.view.setUint32(at + 4, 0, true)
      return guest.callAnswer(hvm_op, [GET_PARAM, at])
    }
    for (const [guest, domid] of [
      [d1, 0x7ff0],
      [d1, 1],
      [d0, 1],
    ] as const) {
      expect(get(guest, domid)).toBe('ok')
      expect(guest.view.getBigUint64(ARGUMENT + 8, true)).toBe(INTX)
    }
    expect(get(d2, 1)).toBe('EPERM')
    expect(get(d2, 9)).toBe('ESRCH')
    expect(get(d1, 1, READ_ONLY)).toBe('EFAULT')
    expect(d1.callAnswer(hvm_op, [GET_PARAM, NOWHERE])).toBe('EFAULT')
    expect(d1.callAnswer(hvm_op, [SET_PARAM, NOWHERE])).toBe('EFAULT')
  })

  it('EC-up-9: is a number that exists, of a domain that exists and is HVM (EINVAL, ESRCH, EINVAL), before EPERM', () => {
    const { d1, d2, xen } = hvm()
    new NewGuest(xen, { domid: 3, type: 'pv' })
    const get = (domid: number, index: number) => {
      d2.view.setUint16(ARGUMENT, domid, true)
      d2.view.setUint32(ARGUMENT + 4, index, true)
      return d2.callAnswer(hvm_op, [GET_PARAM, ARGUMENT])
    }
    expect([get(9, 39), get(9, 38), get(3, 0), get(1, 38), get(2, 38)]).toEqual([
      'EINVAL',
      'ESRCH',
      'EINVAL',
      'EPERM',
      'EINVAL',
    ])
    // The stub device model of a guest acts for it.
    xen.setTarget(xen.domain(2)!, xen.domain(1)!)
    expect([get(1, 0), inside(d1.domain).callbackVia]).toEqual(['ok', 0n])
    xen.setTarget(xen.domain(2)!, undefined)
    expect(get(1, 0)).toBe('EPERM')
  })

  it('EC-up-10: EFAULT, then a vector below 0x10 (EINVAL), then a missing vCPU (ENOENT)', () => {
    const { d1 } = hvm()
    expect(setVector(d1, 0, 0x30, NOWHERE)).toBe('EFAULT')
    expect(setVector(d1, 9, 0x0f)).toBe('EINVAL')
    expect(setVector(d1, 0, 0)).toBe('EINVAL')
    expect(setVector(d1, 2, 0x10)).toBe('ENOENT')
    expect(setVector(d1, 1, 0x10)).toBe('ok')
    expect(setVector(d1, 1, 0xff)).toBe('ok')
    expect(inside(d1.domain.vcpu(1)).upcallVector).toBe(0xff)
  })

  it('EC-up-10: a vector is re-evaluated at once: a flag that was set before calls now', () => {
    const { d1, entered } = hvm()
    d1.must('send', { port: d1.ipi(1) })
    expect(entered).toEqual([])
    setVector(d1, 1, 0x30)
    expect(entered).toEqual([1])
  })
})

describe('the callback of another domain', () => {
  it('EC-up-9: is set by a control domain, not by a stranger (EPERM), and PV guests have none (EINVAL)', () => {
    const { d0, d1, d2, xen } = host(64, {}, { type: 'hvm' })
    const set = (guest: Guest, domid: number, index = 0) => {
      guest.view.setUint16(ARGUMENT, domid, true)
      guest.view.setUint32(ARGUMENT + 4, index, true)
      guest.view.setBigUint64(ARGUMENT + 8, VECTOR, true)
      return guest.callAnswer(hvm_op, [SET_PARAM, ARGUMENT])
    }
    expect([set(d0, 1), set(d2, 1), set(d1, 1, 9)]).toEqual(['ok', 'EPERM', 'EINVAL'])
    expect(inside(d1.domain).callbackVia).toBe(VECTOR)
    xen.createDomain({ domid: 9, frames: 2 })
    expect(set(d0, 9)).toBe('EINVAL')
  })
})
