/** EVTCHNOP_send (spec 2.11): every errno in the order of the checks, then what it does in each state. */

import { describe, expect, it } from 'vitest'
import { VIRQ } from '../../src/abi/index.js'
import type { XsmPolicy } from '../../src/index.js'
import { END, host, NOWHERE } from './raw.js'

/** Refuses every send, and notes whom the policy was asked about. */
function refusing(asked: (number | undefined)[]): XsmPolicy {
  return {
    name: 'refusing',
    evtchnUnbound: () => 0,
    evtchnInterdomain: () => 0,
    evtchnSend: (_, remote) => {
      asked.push(remote?.domid)
      return -13
    },
    evtchnStatus: () => 0,
    evtchnReset: () => 0,
  }
}

describe.each([64, 32] as const)('send, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('send', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('send', {}, { at: END - 3 })).toBe('EFAULT')
    d1.ipi()
    expect(d1.answer('send', { port: 1 }, { at: END - 4 })).toBe('ok')
  })

  it.each([64, 4096, 0x8000_0000, 0xffff_ffff])('EC-send-1: port %i is not valid (EINVAL)', (port) => {
    expect(host(bits).d1.answer('send', { port })).toBe('EINVAL')
  })

  it('EC-send-2: a Xen-attached end refuses the guest’s send (EINVAL), unbound or connected', () => {
    const { xen, d1, d2 } = host(bits)
    const port = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {} })
    expect(d1.answer('send', { port })).toBe('EINVAL')
    d2.must('bind_interdomain', { remote_dom: 1, remote_port: port })
    expect(d1.answer('send', { port })).toBe('EINVAL')
  })

  it('EC-send-1, -2 before EC-send-3 before EC-send-4: the policy is asked in between (EINVAL, EINVAL, EACCES)', () => {
    const asked: (number | undefined)[] = []
    const { xen, d1 } = host(bits, { xsm: refusing(asked) })
    const attached = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {} })
    expect(d1.answer('send', { port: 5000 })).toBe('EINVAL')
    expect(d1.answer('send', { port: attached })).toBe('EINVAL')
    expect(asked).toEqual([])
    expect(d1.answer('send', { port: 9 })).toBe('EACCES')
    expect(d1.answer('send', { port: 0 })).toBe('EACCES')
    expect(d1.answer('send', { port: d1.virq(VIRQ.TIMER) })).toBe('EACCES')
  })

  it('EC-send-3: the policy refuses a connected port, and no event arrives (EACCES)', () => {
    const asked: (number | undefined)[] = []
    const { d1, d2 } = host(bits, { xsm: refusing(asked) })
    const [port, theirs] = d1.connect(d2)
    expect(d1.answer('send', { port })).toBe('EACCES')
    expect(asked).toEqual([2])
    expect(d2.bit('pending', theirs)).toBe(0)
  })

  it('EC-send-4: a free port, port 0, a PIRQ and VIRQs of every class cannot be sent on (EINVAL)', () => {
    const { d0 } = host(bits)
    const pirq = d0.must('bind_pirq', { pirq: 4, flags: 0 }).port
    const virqs = [VIRQ.TIMER, VIRQ.ARGO, VIRQ.CONSOLE].map((virq) => d0.virq(virq))
    for (const port of [0, 9, 63, pirq, ...virqs]) expect(d0.answer('send', { port }), `port ${port}`).toBe('EINVAL')
  })

  it('EC-send-5: the remote port becomes pending for the remote end’s vCPU', () => {
    const { d1, d2 } = host(bits)
    const [ours, theirs] = d1.connect(d2)
    d2.must('bind_vcpu', { port: theirs, vcpu: 1 })
    d1.must('bind_vcpu', { port: ours, vcpu: 1 })
    d1.must('send', { port: ours })
    expect([d2.bit('pending', theirs), d2.sel(1), d2.flag(1)]).toEqual([1, 1n, 1])
    expect([d2.sel(0), d2.flag(0), d1.bit('pending', ours), d1.flag(0), d1.flag(1)]).toEqual([0n, 0, 0, 0, 0])
  })

  it('EC-send-5: any vCPU of the domain may send', () => {
    const { d1, d2 } = host(bits)
    const [ours, theirs] = d1.connect(d2)
    expect(d1.op('send', { port: ours }, { vcpu: 1 })).toBe(0)
    expect(d2.bit('pending', theirs)).toBe(1)
  })

  it('EC-send-6: a remote end that is attached to Xen gets a call with its vCPU and port, and no bit', () => {
    const calls: number[][] = []
    const { xen, d1, d2 } = host(bits)
    const notify = (vcpu: { domid: number; vcpuId: number }, port: number) =>
      void calls.push([vcpu.domid, vcpu.vcpuId, port])
    const attached = xen.allocXenPort(xen.domain(2)!, { vcpuId: 1, remoteDomid: 1, notify })
    const port = d1.must('bind_interdomain', { remote_dom: 2, remote_port: attached }).local_port
    d1.must('send', { port })
    expect(calls).toEqual([[2, 1, attached]])
    expect([d2.bit('pending', attached), d2.flag(0), d2.flag(1), d2.sel(1)]).toEqual([0, 0, 0, 0n])
  })

  it('EC-send-7: an IPI sets the caller’s own port pending for its vCPU', () => {
    const { d1 } = host(bits)
    const port = d1.ipi(1)
    d1.must('send', { port })
    expect([d1.bit('pending', port), d1.flag(0), d1.flag(1), d1.sel(0), d1.sel(1)]).toEqual([1, 0, 1, 0n, 1n])
  })

  it('EC-send-8, EC-odd-4: on an unbound port the event is dropped and the answer is 0', () => {
    const { d1 } = host(bits)
    const port = d1.unbound(2)
    expect(d1.answer('send', { port })).toBe('ok')
    expect([d1.bit('pending', port), d1.flag()]).toEqual([0, 0])
  })
})
