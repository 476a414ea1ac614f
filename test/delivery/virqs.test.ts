/** Virtual interrupts (spec 6.1): classes, handler domains, delivery, and the record behind VIRQ_DOM_EXC. */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, SCHEDOP, SHUTDOWN, VCPUOP, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'

import { ARGUMENT, codeOf, FREE_GFN, type Guest, host, Guest as NewGuest } from '../ops/raw.js'

const PER_VCPU = [0, 1, 7, 13]
const PER_DOMAIN = [11]
const GLOBAL = Array.from({ length: 24 }, (_, virq) => virq).filter((v) => ![...PER_VCPU, ...PER_DOMAIN].includes(v))

const shutdown = (guest: Guest, reason: number) => {
  guest.view.setUint32(ARGUMENT, reason, true)
  guest.call(HYPERVISOR.sched_op, [SCHEDOP.shutdown, ARGUMENT])
}

describe('classes', () => {
  it.each(PER_VCPU)('EC-vclass-1: VIRQ %i is per vCPU: a port on each, none of which moves', (virq) => {
    const { d1 } = host(64)
    const ports = [d1.virq(virq, 0), d1.virq(virq, 1)]
    expect(ports.map((port) => d1.status(port).vcpu)).toEqual([0, 1])
    for (const port of ports) expect(d1.answer('bind_vcpu', { port, vcpu: 0 })).toBe('EINVAL')
  })

  it('EC-vclass-1: VIRQ_ARGO is per domain: every domain may have it, recorded on vCPU 0, and may move it', () => {
    const { d1, d2 } = host(64)
    for (const guest of [d1, d2]) {
      const port = guest.virq(VIRQ.ARGO)
      guest.must('bind_vcpu', { port, vcpu: 1 })
      expect([0, 1].map((vcpu) => inside(guest.domain.vcpu(vcpu)).virqPort(VIRQ.ARGO))).toEqual([port, 0])
    }
  })

  it.each(GLOBAL)('EC-vclass-1, EC-vclass-4: VIRQ %i is global: the hardware domain’s, who may move it', (virq) => {
    const { d0, d1 } = host(64)
    const port = d0.virq(virq)
    d0.must('bind_vcpu', { port, vcpu: 1 })
    expect(inside(d0.domain.vcpu(0)).virqPort(virq)).toBe(port)
    expect(d1.answer('bind_virq', { virq, vcpu: 0 })).toBe('EBUSY')
  })
})

describe('delivery', () => {
  it('EC-vclass-2: a VIRQ per vCPU comes to the vCPU it was sent to; unbound it is dropped', () => {
    const { xen, d1 } = host(64)
    const port = d1.virq(VIRQ.TIMER, 1)
    xen.sendVirq(xen.domain(1)!.vcpu(0), VIRQ.TIMER)
    xen.sendVirq(xen.domain(1)!.vcpu(1), VIRQ.DEBUG)
    expect([d1.flag(0), d1.flag(1)]).toEqual([0, 0])
    xen.sendVirq(xen.domain(1)!.vcpu(1), VIRQ.TIMER)
    expect([d1.flag(0), d1.flag(1), d1.bit('pending', port)]).toEqual([0, 1, 1])
  })

  it('EC-vclass-3: a VIRQ of the domain comes to the vCPU of its port; without a port it is dropped', () => {
    const { xen, d1 } = host(64)
    const gone = xen.createDomain({ domid: 9 })
    xen.destroyDomain(gone)
    expect(codeOf(() => xen.sendDomainVirq(gone, VIRQ.ARGO))).toBe('ESRCH')
    xen.sendDomainVirq(xen.domain(1)!, VIRQ.ARGO)
    const port = d1.virq(VIRQ.ARGO)
    d1.must('bind_vcpu', { port, vcpu: 1 })
    xen.sendDomainVirq(xen.domain(1)!, VIRQ.ARGO)
    expect([d1.flag(0), d1.flag(1), d1.bit('pending', port)]).toEqual([0, 1, 1])
  })

  it('EC-vclass-4: a global VIRQ comes to its handler domain: the one that was set, else the hardware domain', () => {
    const { xen, d0, d1 } = host(64)
    d0.virq(VIRQ.CONSOLE)
    xen.setGlobalVirqHandler(xen.domain(1)!, VIRQ.DEBUGGER)
    d1.virq(VIRQ.DEBUGGER)
    xen.sendGlobalVirq(VIRQ.CONSOLE)
    expect([d0.flag(), d1.flag()]).toEqual([1, 0])
    d0.quiet()
    xen.sendGlobalVirq(VIRQ.DEBUGGER)
    expect([d0.flag(), d1.flag()]).toEqual([0, 1])
  })

  it('EC-vclass-4: without any handler domain nobody gets it', () => {
    const { xen, d1 } = host(64)
    xen.destroyDomain(xen.domain(0)!)
    xen.sendGlobalVirq(VIRQ.CONSOLE)
    expect(d1.flag()).toBe(0)
    expect(d1.answer('bind_virq', { virq: VIRQ.CONSOLE, vcpu: 0 })).toBe('EBUSY')
  })

  it('EC-vclass-4: a masked VIRQ is pending without an upcall, and wakes pollers', () => {
    const { xen, d1 } = host(64)
    const port = d1.virq(VIRQ.TIMER)
    d1.setBit('mask', port)
    d1.call(HYPERVISOR.sched_op, [SCHEDOP.poll, FREE_GFN * 4096], 1)
    xen.sendVirq(xen.domain(1)!.vcpu(0), VIRQ.TIMER)
    expect([d1.bit('pending', port), d1.flag(), d1.domain.vcpu(1).polling]).toEqual([1, 0, false])
  })

  it('EC-vclass-7: enabled is bound; what is not per vCPU is so on vCPU 0, whomever one asks about', () => {
    const { xen, d0 } = host(64)
    const { virqs } = worldOf(xen)
    const enabled = (virq: number) => [0, 1, 2].map((vcpu) => virqs.enabled(inside(d0.domain), vcpu, virq))
    expect(enabled(VIRQ.TIMER)).toEqual([false, false, false])
    d0.virq(VIRQ.TIMER, 1)
    const argo = d0.virq(VIRQ.ARGO)
    d0.must('bind_vcpu', { port: argo, vcpu: 1 })
    d0.virq(VIRQ.CONSOLE)
    expect(enabled(VIRQ.TIMER)).toEqual([false, true, false])
    expect(enabled(VIRQ.ARGO)).toEqual([true, true, false])
    expect(enabled(VIRQ.CONSOLE)).toEqual([true, true, false])
  })
})

describe('the handler of a global VIRQ', () => {
  const set = (xen: ReturnType<typeof host>['xen'], domid: number, virq: number) =>
    codeOf(() => xen.setGlobalVirqHandler(xen.domain(domid)!, virq))

  it.each([24, 255, 0xffff_ffff, -1, ...PER_VCPU, ...PER_DOMAIN])(
    'EC-vclass-5: VIRQ %i is none of the host’s (EINVAL)',
    (virq) => {
      expect(set(host(64).xen, 1, virq)).toBe('EINVAL')
    },
  )

  it('EC-vclass-5: already that domain (0), which comes before dying and before bound', () => {
    const { xen, d1 } = host(64)
    expect(set(xen, 1, VIRQ.CONSOLE)).toBe('ok')
    d1.virq(VIRQ.CONSOLE)
    expect(set(xen, 1, VIRQ.CONSOLE)).toBe('ok')
    xen.killDomain(xen.domain(0)!)
    expect(set(xen, 0, VIRQ.TBUF)).toBe('ok')
  })

  it('EC-vclass-5, EC-bug-13: a dying domain (EINVAL), which comes before bound; no domain at all (ESRCH)', () => {
    const { xen, d0 } = host(64)
    d0.virq(VIRQ.CONSOLE)
    xen.killDomain(xen.domain(2)!)
    expect(set(xen, 2, VIRQ.CONSOLE)).toBe('EINVAL')
    expect(set(xen, 2, VIRQ.TBUF)).toBe('EINVAL')
    const gone = xen.createDomain({ domid: 9 })
    xen.destroyDomain(gone)
    expect(codeOf(() => xen.setGlobalVirqHandler(gone, VIRQ.TBUF))).toBe('ESRCH')
  })

  it('EC-vclass-5, EC-bug-13: the present handler has it bound (EBUSY), be it the hardware domain by default', () => {
    const { xen, d0, d1 } = host(64)
    const port = d0.virq(VIRQ.CONSOLE)
    expect(set(xen, 1, VIRQ.CONSOLE)).toBe('EBUSY')
    d0.must('close', { port })
    expect(set(xen, 1, VIRQ.CONSOLE)).toBe('ok')
    d1.virq(VIRQ.CONSOLE)
    expect(set(xen, 2, VIRQ.CONSOLE)).toBe('EBUSY')
    expect(set(xen, 0, VIRQ.CONSOLE)).toBe('EBUSY')
  })

  it('EC-odd-19: the hardware domain by default, made the handler: 0, and nothing is recorded', () => {
    const { xen } = host(64)
    expect(set(xen, 0, VIRQ.CONSOLE)).toBe('ok')
    xen.destroyDomain(xen.domain(0)!)
    expect(worldOf(xen).virqs.handler(VIRQ.CONSOLE)).toBeUndefined()
    const next = new NewGuest(xen, { domid: 0 })
    expect(worldOf(xen).virqs.handler(VIRQ.CONSOLE)).toBe(inside(next.domain))
  })

  it('EC-vclass-5: a domain that dies loses its roles to the hardware domain', () => {
    const { xen, d0, d1 } = host(64)
    set(xen, 1, VIRQ.CONSOLE)
    d1.virq(VIRQ.CONSOLE)
    xen.killDomain(xen.domain(1)!)
    expect(worldOf(xen).virqs.handler(VIRQ.CONSOLE)).toBe(inside(d0.domain))
    expect(d0.answer('bind_virq', { virq: VIRQ.CONSOLE, vcpu: 0 })).toBe('ok')
  })
})

describe('VIRQ_DOM_EXC', () => {
  it('EC-vclass-6: comes when a domain shut down, when it died, and when it is gone', () => {
    const { xen, d0, d1 } = host(64)
    d0.virq(VIRQ.DOM_EXC)
    const came = () => {
      const flag = d0.flag()
      d0.quiet()
      const changed: number[] = []
      for (
        let domid = worldOf(xen).virqs.takeChanged(inside(d0.domain));
        domid >= 0;
        domid = worldOf(xen).virqs.takeChanged(inside(d0.domain))
      )
        changed.push(domid)
      return [flag, changed]
    }
    expect(came()).toEqual([0, [0, 1, 2]])
    shutdown(d1, SHUTDOWN.poweroff)
    expect(came()).toEqual([1, [1]])
    xen.killDomain(xen.domain(1)!)
    expect(came()).toEqual([1, [1]])
    xen.destroyDomain(xen.domain(1)!)
    expect(came()).toEqual([1, [1]])
    expect(came()).toEqual([0, []])
  })

  it('EC-vclass-6: a new domain is recorded, and nobody is told', () => {
    const { xen, d0 } = host(64)
    d0.virq(VIRQ.DOM_EXC)
    while (worldOf(xen).virqs.takeChanged(inside(d0.domain)) >= 0);
    new NewGuest(xen, { domid: 3 })
    expect([worldOf(xen).virqs.takeChanged(inside(d0.domain)), d0.flag()]).toEqual([3, 0])
  })

  it('EC-vclass-6, EC-xsm-7: a suspend is told on the suspend channel instead, if there is one', () => {
    const { xen, d0, d1 } = host(64)
    d0.virq(VIRQ.DOM_EXC)
    shutdown(d1, SHUTDOWN.suspend)
    expect(d0.flag()).toBe(1)
    d0.quiet()
    xen.resumeDomain(xen.domain(1)!)
    const [ours, theirs] = d1.connect(d0)
    inside(d1.domain).suspendEvtchn = ours
    shutdown(d1, SHUTDOWN.suspend)
    expect([d0.bit('pending', theirs), d0.bit('pending', 1)]).toEqual([1, 0])
    d0.quiet()
    xen.resumeDomain(xen.domain(1)!)
    shutdown(d1, SHUTDOWN.reboot)
    expect([d0.bit('pending', theirs), d0.bit('pending', 1)]).toEqual([0, 1])
  })

  it('EC-vclass-6: a domain shuts down once: the first reason counts, and nobody hears of another until it is resumed', () => {
    const { xen, d0, d1 } = host(64)
    d0.virq(VIRQ.DOM_EXC)
    shutdown(d1, SHUTDOWN.reboot)
    d0.quiet()
    shutdown(d1, SHUTDOWN.crash)
    expect([inside(d1.domain).shutdownCode, d0.flag()]).toEqual([SHUTDOWN.reboot, 0])
    xen.resumeDomain(xen.domain(1)!)
    shutdown(d1, SHUTDOWN.crash)
    expect([inside(d1.domain).shutdownCode, d0.flag()]).toEqual([SHUTDOWN.crash, 1])
  })

  it('EC-vclass-6: a domain whose last vCPU goes down is off', () => {
    const { d0, d1 } = host(64)
    d0.virq(VIRQ.DOM_EXC)
    const down = (vcpu: number) => d1.call(HYPERVISOR.vcpu_op, [VCPUOP.down, vcpu, 0])
    const isUp = (vcpu: number) => d1.call(HYPERVISOR.vcpu_op, [VCPUOP.is_up, vcpu, 0])
    expect([down(0), down(0), isUp(0), inside(d1.domain).shutdownCode, d0.flag()]).toEqual([0, 0, 0, -1, 0])
    expect([down(1), isUp(1), inside(d1.domain).shutdownCode, d0.flag()]).toEqual([0, 1, SHUTDOWN.poweroff, 1])
  })

  it.each([9, 5000, 0xffff_ffff])(
    'EC-xsm-7: suspend channel %i was stored unchecked, and its send fails harmlessly',
    (port) => {
      const { d0, d1 } = host(64)
      d0.virq(VIRQ.DOM_EXC)
      inside(d1.domain).suspendEvtchn = port
      shutdown(d1, SHUTDOWN.suspend)
      expect([d0.flag(), inside(d1.domain).shutdownCode]).toEqual([0, SHUTDOWN.suspend])
    },
  )

  it('EC-vclass-6: nobody but the domain that has it bound can take what changed', () => {
    const { xen, d0, d1 } = host(64)
    expect(worldOf(xen).virqs.takeChanged(inside(d0.domain))).toBe(-1)
    d0.virq(VIRQ.DOM_EXC)
    expect(worldOf(xen).virqs.takeChanged(inside(d1.domain))).toBe(-1)
    expect(worldOf(xen).virqs.takeChanged(inside(d0.domain))).toBe(0)
  })
})
