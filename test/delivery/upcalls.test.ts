/** From the upcall flag to the guest's handler (spec 3.2): PV, HVM, edges, levels, and never in the middle of a call. */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, SCHEDOP, VCPUOP } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { Hypervisor } from '../../src/index.js'
import { ARGUMENT, FREE_GFN, host, NOWHERE, nameOf } from '../ops/raw.js'
import { clear, entering, ignore, setVector, suspend } from './entering.js'

const { sched_op, vcpu_op } = HYPERVISOR

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
