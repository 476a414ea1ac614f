/** Death, soft reset and what others see of them (spec part 7). */

import { describe, expect, it } from 'vitest'
import { type Bits, ECS, HYPERVISOR, SCHEDOP, SHUTDOWN, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type HypervisorOptions, SOFTIRQ } from '../../src/index.js'
import { ARGUMENT, codeOf, Guest, host, nameOf } from '../ops/raw.js'

/** A host of which d1 has 100 open ports, and on which preemption is due when `due` says so. */
function crowded(bits: Bits, options: HypervisorOptions = {}) {
  const state = { due: true, asked: 0 }
  const all = host(bits, {
    ...options,
    preempt: () => {
      state.asked++
      return state.due
    },
  })
  const [peer, port] = all.d2.connect(all.d1)
  const attached = all.xen.allocXenPort(all.xen.domain(1)!, { remoteDomid: 2, notify: () => {} })
  all.d1.fill()
  return { ...all, state, peer, port, attached }
}
const shutdown = (guest: Guest, reason: number = SHUTDOWN.soft_reset) => {
  guest.view.setUint32(ARGUMENT, reason, true)
  guest.call(HYPERVISOR.sched_op, [SCHEDOP.shutdown, ARGUMENT])
}

describe.each([64, 32] as const)('killing a domain, %i-bit', (bits) => {
  it('EC-die-1, EC-die-4: closes all ports, drops all roles, holds no frame; dead in the end, and again is nothing', () => {
    const { xen, d1, state } = crowded(bits)
    state.due = false
    expect(d1.domain.dying).toBe('alive')
    xen.killDomain(xen.domain(1)!)
    expect([d1.domain.dying, inside(d1.domain).ports.activeEvtchns, inside(d1.domain).ports.xenEvtchns]).toEqual([
      'dead',
      0,
      0,
    ])
    expect(d1.domain.memory.heldFrames).toBe(0)
    expect(xen.domain(1)).toBe(d1.domain)
    xen.killDomain(xen.domain(1)!)
    expect(xen.killStep(xen.domain(1)!)).toBe(true)
  })

  it('EC-die-2: from the first step on no new port can appear (EINVAL)', () => {
    const { xen, d0, d1 } = crowded(bits)
    expect(xen.killStep(xen.domain(1)!)).toBe(false)
    expect(d1.domain.dying).toBe('dying')
    expect(d0.answer('alloc_unbound', { dom: 1, remote_dom: 0 })).toBe('EINVAL')
    expect(d1.inside('bind_ipi', { vcpu: 0 })).toBe('EINVAL')
    expect(codeOf(() => xen.allocXenPort(xen.domain(1)!, { remoteDomid: 0, notify: () => {} }))).toBe('EINVAL')
  })

  it('EC-die-3, EC-XSA-344: from the top down, a step ends at a multiple of 64, and later ones go on below', () => {
    const { xen, d1, attached, port, state } = crowded(bits)
    expect(xen.killStep(xen.domain(1)!)).toBe(false)
    const { ports } = inside(d1.domain)
    expect([ports.validEvtchns, ports.isValid(64), ports.isValid(63)]).toEqual([64, false, true])
    expect([ports.state(100), ports.state(64), ports.state(63)]).toEqual([ECS.FREE, ECS.FREE, ECS.IPI])
    expect([ports.state(attached), ports.state(port)]).toEqual([ECS.UNBOUND, ECS.INTERDOMAIN])
    expect(state.asked).toBe(1)
    expect(xen.killStep(xen.domain(1)!)).toBe(true)
    expect([ports.activeEvtchns, d1.domain.dying]).toEqual([0, 'dead'])
  })

  it('EC-die-3, EC-die-4: invalid it is for the dying domain only: peers of ports still open go on', () => {
    const { xen, d1, d2, peer, port } = crowded(bits)
    xen.killStep(xen.domain(1)!)
    d1.setBit('pending', port, 0)
    expect(d2.answer('send', { port: peer })).toBe('ok')
    expect(d1.bit('pending', port)).toBe(1)
    expect(d2.answer('close', { port: peer })).toBe('ok')
    expect(inside(d1.domain).ports.state(port)).toBe(ECS.UNBOUND)
    expect(xen.killStep(xen.domain(1)!)).toBe(true)
  })

  it('EC-die-1: killDomain goes on after each preemption, and softirqs run in between', () => {
    const { xen, d1 } = crowded(bits)
    let ran = 0
    xen.softirqs.open(SOFTIRQ.RCU, () => void ran++)
    xen.softirqs.raise(SOFTIRQ.RCU)
    xen.killDomain(xen.domain(1)!)
    expect([d1.domain.dying, ran]).toEqual(['dead', 1])
  })

  it('EC-die-4: a global VIRQ goes back to the hardware domain, a line to others', () => {
    const { xen, d0, d1 } = host(bits)
    xen.setGlobalVirqHandler(xen.domain(1)!, VIRQ.CONSOLE)
    d1.virq(VIRQ.CONSOLE)
    inside(d1.domain).pirqs.permitted.add(4)
    d1.must('bind_pirq', { pirq: 4, flags: 0 })
    xen.killDomain(xen.domain(1)!)
    expect(d0.answer('bind_virq', { virq: VIRQ.CONSOLE, vcpu: 0 })).toBe('ok')
    expect(d0.answer('bind_pirq', { pirq: 4, flags: 0 })).toBe('ok')
  })

  it('EC-die-5: a peer finds its end unbound for the dead id: no event, no error, and sends are 0', () => {
    const { xen, d2, peer, state } = crowded(bits)
    state.due = false
    d2.quiet()
    xen.killDomain(xen.domain(1)!)
    expect(d2.status(peer)).toMatchObject({ status: 1, unbound_dom: 1 })
    expect([d2.bit('pending', peer), d2.flag(0), d2.flag(1)]).toEqual([0, 0, 0])
    expect(d2.answer('send', { port: peer })).toBe('ok')
    xen.destroyDomain(xen.domain(1)!)
    expect(d2.status(peer)).toMatchObject({ status: 1, unbound_dom: 1 })
    expect(d2.answer('send', { port: peer })).toBe('ok')
  })

  it('EC-die-5: a new domain with the same id may take the stale port over', () => {
    const { xen, d2, peer, state } = crowded(bits)
    state.due = false
    xen.destroyDomain(xen.domain(1)!)
    const next = new Guest(xen, { domid: 1, bits })
    expect(inside(next.domain).ports.activeEvtchns).toBe(0)
    expect(next.answer('bind_interdomain', { remote_dom: 2, remote_port: peer })).toBe('ok')
    expect(d2.status(peer)).toMatchObject({ status: 2, interdomain_dom: 1 })
  })

  it('EC-die-5: both ends in the dying domain are closed like any other', () => {
    const { xen, d1 } = host(bits)
    const remote_port = d1.unbound(1)
    d1.must('bind_interdomain', { remote_dom: 1, remote_port })
    xen.killDomain(xen.domain(1)!)
    expect(inside(d1.domain).ports.activeEvtchns).toBe(0)
  })

  it('EC-die-5: nobody can connect to a port of a dead domain (EINVAL), nor of one that is gone (ESRCH)', () => {
    const { xen, d1, d2 } = host(bits)
    const port = d2.unbound(1)
    xen.killDomain(xen.domain(2)!)
    expect(d1.answer('bind_interdomain', { remote_dom: 2, remote_port: port })).toBe('EINVAL')
    xen.destroyDomain(xen.domain(2)!)
    expect(d1.answer('bind_interdomain', { remote_dom: 2, remote_port: port })).toBe('ESRCH')
  })

  it('EC-die-1: while it is dying and when it is dead, its hypercalls are refused and nothing changes', () => {
    const { xen, d1 } = crowded(bits)
    for (const step of [1, 2]) {
      xen.killStep(xen.domain(1)!)
      expect(nameOf(d1.call(HYPERVISOR.sched_op, [SCHEDOP.yield, 0])), `step ${step}`).toBe('ESRCH')
    }
  })

  it('EC-die-1: calls for a domain that does not exist say so (ESRCH)', () => {
    const { xen } = host(bits)
    const gone = xen.createDomain({ domid: 9 })
    xen.destroyDomain(gone)
    for (const call of [
      'killStep',
      'killDomain',
      'destroyDomain',
      'softReset',
      'pauseDomain',
      'unpauseDomain',
    ] as const)
      expect(
        codeOf(() => xen[call](gone)),
        call,
      ).toBe('ESRCH')
    expect(codeOf(() => xen.unpauseDomain(xen.domain(1)!))).toBe('EINVAL')
  })
})

describe.each([64, 32] as const)('soft reset, %i-bit', (bits) => {
  it('EC-die-6: of a domain that is not shut down (EINVAL)', () => {
    const { xen, d1 } = host(bits)
    d1.ipi()
    expect(codeOf(() => xen.softReset(xen.domain(1)!))).toBe('EINVAL')
    expect(inside(d1.domain).ports.activeEvtchns).toBe(1)
  })

  it('EC-die-6: closes the guest’s ports with a continuation of its own, keeps Xen’s, and the domain runs on', () => {
    const { xen, d1, d2, peer, state, attached } = crowded(bits)
    shutdown(d1)
    let between = 0
    xen.softirqs.open(SOFTIRQ.TASKLET, () => {
      between = inside(d1.domain).nextEvtchn
      state.due = false
    })
    xen.softirqs.raise(SOFTIRQ.TASKLET)
    xen.softReset(xen.domain(1)!)
    expect(between).toBe(64)
    expect([inside(d1.domain).ports.activeEvtchns, d1.state(attached), inside(d1.domain).nextEvtchn]).toEqual([
      1,
      ECS.UNBOUND,
      0,
    ])
    expect(d2.status(peer)).toMatchObject({ status: 1, unbound_dom: 1 })
    expect([inside(d1.domain).shutdownCode, d1.domain.dying]).toEqual([-1, 'alive'])
    d1.ipi()
  })

  it('EC-die-6: someone opened a port meanwhile (EAGAIN): the domain stays shut down', () => {
    const { xen, d0, d1, state } = crowded(bits)
    shutdown(d1)
    xen.softirqs.open(SOFTIRQ.TASKLET, () => {
      state.due = false
      d0.must('alloc_unbound', { dom: 1, remote_dom: 0 })
    })
    xen.softirqs.raise(SOFTIRQ.TASKLET)
    expect(codeOf(() => xen.softReset(xen.domain(1)!))).toBe('EAGAIN')
    expect(inside(d1.domain).shutdownCode).toBe(SHUTDOWN.soft_reset)
    expect(codeOf(() => xen.softReset(xen.domain(1)!))).toBe('ok')
  })

  it('EC-die-9, EC-reset-5: while a reset of the domain is in progress (EBUSY)', () => {
    const { xen, d1, state } = crowded(bits)
    let answer = ''
    xen.softirqs.open(SOFTIRQ.TASKLET, () => {
      state.due = false
      shutdown(d1)
      answer = codeOf(() => xen.softReset(xen.domain(1)!))
      xen.resumeDomain(xen.domain(1)!)
    })
    xen.softirqs.raise(SOFTIRQ.TASKLET)
    expect(d1.op('reset', { dom: 1 })).toBe(0)
    expect(answer).toBe('EBUSY')
  })
})

describe('suspend and resume', () => {
  it('EC-die-8: within one domain channels stay', () => {
    const { xen, d1, d2 } = host(64)
    const [ours, theirs] = d1.connect(d2)
    shutdown(d1, SHUTDOWN.suspend)
    xen.resumeDomain(xen.domain(1)!)
    d1.must('send', { port: ours })
    expect(d2.bit('pending', theirs)).toBe(1)
  })

  it('EC-die-8: what came while it was shut down is delivered when it goes on', () => {
    const entered: number[] = []
    const { xen, d1, d2 } = host(64, { onUpcall: ({ domid }) => void entered.push(domid) })
    const [, theirs] = d1.connect(d2)
    shutdown(d1, SHUTDOWN.suspend)
    entered.length = 0
    d2.must('send', { port: theirs })
    expect([d1.flag(), entered]).toEqual([1, []])
    d1.setFlag(1)
    xen.resumeDomain(xen.domain(1)!)
    expect(entered).toEqual([1])
  })

  it('EC-die-8, EC-guest-6: a restored domain has no channels, no selectors, nothing pending, and all masked', () => {
    const { xen, d1, d2 } = host(64)
    const [, theirs] = d1.connect(d2)
    d2.must('send', { port: theirs })
    const state = xen.saveDomain(xen.domain(1)!)
    xen.destroyDomain(xen.domain(1)!)
    const domain = xen.restoreDomain(state)
    expect([inside(domain).ports.activeEvtchns, inside(domain).levels]).toEqual([0, 2])
    const bytes = domain.memory.view().subarray(4096)
    expect([...bytes.subarray(2048, 2560)].every((byte) => byte === 0)).toBe(true)
    expect([...bytes.subarray(2560, 3072)].every((byte) => byte === 0xff)).toBe(true)
    for (let vcpu = 0; vcpu < 32; vcpu++)
      expect([...bytes.subarray(vcpu * 64 + 8, vcpu * 64 + 16)].every((byte) => byte === 0)).toBe(true)
  })
})

describe('long walks', () => {
  it('EC-die-9: a reset is resumable, harmless at the port where it goes on, and refuses a second caller', () => {
    const { xen, d1, state } = crowded(64)
    const seen: unknown[] = []
    xen.softirqs.open(SOFTIRQ.TASKLET, () => {
      state.due = false
      seen.push(
        inside(d1.domain).nextEvtchn,
        d1.state(64),
        nameOf(d1.op('reset', { dom: 1 })),
        inside(d1.domain).eventLock.held,
      )
    })
    xen.softirqs.raise(SOFTIRQ.TASKLET)
    expect(d1.op('reset', { dom: 1 })).toBe(0)
    expect(seen).toEqual([64, ECS.FREE, 'EBUSY', false])
  })
})
