/** Why a call is refused: each call has its own reason, whatever happens beside it. */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, EVTCHNOP, HYPERVISOR, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { Refusal } from '../../src/errno.js'
import { Hypervisor } from '../../src/index.js'
import { ARGUMENT, type Guest, host, NOWHERE, nameOf } from './raw.js'

/** A raw operation: its result, and the reasons that the sink was given. */
function reasons(guest: Guest, op: keyof typeof EVTCHNOP, args: Record<string, number>, at = ARGUMENT) {
  const given: Refusal[] = []
  guest.write(op, args, at)
  const rc = guest.xen.hypercall(guest.domain.vcpu(0), HYPERVISOR.event_channel_op, [EVTCHNOP[op], at], (refusal) =>
    given.push(refusal),
  )
  return [nameOf(rc), ...given.map(({ errno, text }) => `${nameOf(-errno)}: ${text}`)]
}

/** The message of what `call` throws. */
function messageOf(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    return (error as Error).message
  }
  return 'no error'
}

describe('a raw hypercall', () => {
  it('hands the reason of its refusal to the sink that it was given, and nothing if it is not refused', () => {
    const { d1 } = host(64)
    expect(reasons(d1, 'close', { port: 55 })).toEqual(['EINVAL', 'EINVAL: port 55 of d1 is free'])
    expect(reasons(d1, 'bind_ipi', { vcpu: 7 })).toEqual(['ENOENT', 'ENOENT: d1 has vCPUs 0 to 1, not 7'])
    expect(reasons(d1, 'close', { port: 1 }, NOWHERE)).toEqual(['EFAULT', 'EFAULT: struct evtchn_close cannot be read'])
    expect(reasons(d1, 'bind_ipi', { vcpu: 0 })).toEqual(['ok'])
  })

  it('has the same reason as a typed call, and as a call through the platform of the guest’s driver', () => {
    const { xen, d1 } = host(64)
    d1.write('close', { port: 55 })
    let text = ''
    xen.platform(d1.domain).hypercall(0, HYPERVISOR.event_channel_op, [EVTCHNOP.close, ARGUMENT], (refusal) => {
      text = refusal.text
    })
    expect(text).toBe('port 55 of d1 is free')
    expect(messageOf(() => d1.domain.eventChannelOp('close', { port: 55 }))).toBe(
      'EVTCHNOP_close: port 55 of d1 is free (EINVAL)',
    )
  })

  it('of a killed domain is refused as a typed call is (ESRCH)', () => {
    const { xen, d1 } = host(64)
    xen.killDomain(xen.domain(1)!)
    expect(reasons(d1, 'bind_ipi', { vcpu: 0 })).toEqual(['ESRCH', 'ESRCH: d1 is dead'])
    expect(messageOf(() => d1.domain.eventChannelOp('bind_ipi', { vcpu: 0 }))).toBe(
      'EVTCHNOP_bind_ipi: d1 is dead (ESRCH)',
    )
    xen.destroyDomain(xen.domain(1)!)
    expect(reasons(d1, 'bind_ipi', { vcpu: 0 })).toEqual(['ESRCH', 'ESRCH: d1 is gone'])
    expect(messageOf(() => d1.domain.eventChannelOp('bind_ipi', { vcpu: 0 }))).toBe(
      'EVTCHNOP_bind_ipi: d1 is gone (ESRCH)',
    )
  })
})

describe('upcalls whose guests are refused something too', () => {
  /** A host whose d1, at each upcall, makes calls that are refused. */
  function disturbed() {
    let upcalls = 0
    const xen = Hypervisor.create({
      onUpcall: (vcpu) => {
        upcalls++
        if (upcalls < 9) messageOf(() => vcpu.eventChannelOp('close', { port: 999_999 }))
      },
    })
    xen.createDomain({ domid: 0 })
    const d1 = xen.createDomain({ domid: 1 })
    const ipi = d1.eventChannelOp('bind_ipi', { vcpu: 0 }).port
    /** An upcall that is due and waits for the next call to end. */
    const raise = () => {
      inside(d1).setPending(ipi)
      upcalls = 0
    }
    return { xen, d1, ipi, raise, upcalls: () => upcalls }
  }

  it.each([
    [
      'notifyViaXenPort',
      'notifyViaXenPort: port 5000 of d1 does not exist (EINVAL)',
      (xen: Hypervisor) => xen.notifyViaXenPort(xen.domain(1)!, 5000),
    ],
    [
      'freeXenPort',
      'freeXenPort: port 5000 of d1 does not exist (EINVAL)',
      (xen: Hypervisor) => xen.freeXenPort(xen.domain(1)!, 5000),
    ],
    [
      'allocXenPort',
      'allocXenPort: d2 is dying (EINVAL)',
      (xen: Hypervisor) => xen.allocXenPort(xen.domain(2)!, { remoteDomid: 0, notify: () => {} }),
    ],
  ])('do not change what %s says', (_, message, call) => {
    const { xen, raise, upcalls } = disturbed()
    xen.createDomain({ domid: 2 })
    xen.killDomain(xen.domain(2)!)
    expect(messageOf(() => call(xen))).toBe(message)
    raise()
    expect(messageOf(() => call(xen))).toBe(message)
    expect(upcalls()).toBeGreaterThan(0)
  })

  it('do not change what a typed call says, not even of the port that they close', () => {
    const xen = Hypervisor.create({
      onUpcall: (vcpu) => {
        messageOf(() => vcpu.eventChannelOp('close', { port: 1 }))
      },
    })
    const d1 = xen.createDomain({ domid: 1 })
    expect(d1.eventChannelOp('bind_ipi', { vcpu: 0 }).port).toBe(1)
    d1.eventChannelOp('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 })
    inside(d1).setPending(1)
    expect(messageOf(() => d1.eventChannelOp('bind_vcpu', { port: 1, vcpu: 0 }))).toBe(
      'EVTCHNOP_bind_vcpu: port 1 of d1 is an IPI (EINVAL)',
    )
    expect(d1.eventChannelOp('status', { dom: DOMID_SELF, port: 1 }).status).toBe(0)
  })
})

describe('calls of the host', () => {
  it('EC-vclass-5: set_global_virq_handler says what stands in the way', () => {
    const { xen, d0 } = host(64)
    const set = (domid: number, virq: number) => messageOf(() => xen.setGlobalVirqHandler(xen.domain(domid)!, virq))
    expect(set(1, VIRQ.TIMER)).toBe('setGlobalVirqHandler: VIRQ_TIMER is not global (EINVAL)')
    expect(set(1, 99)).toBe('setGlobalVirqHandler: VIRQ 99 is not global (EINVAL)')
    d0.virq(VIRQ.CONSOLE)
    expect(set(1, VIRQ.CONSOLE)).toBe('setGlobalVirqHandler: d0 has VIRQ_CONSOLE bound (EBUSY)')
    xen.killDomain(xen.domain(2)!)
    expect(set(2, VIRQ.TBUF)).toBe('setGlobalVirqHandler: d2 is dying (EINVAL)')
  })

  it('EC-die-6: softReset says that the domain is in the middle of another reset', () => {
    const xen = Hypervisor.create({ preempt: () => true })
    const d1 = xen.createDomain({ domid: 1 })
    inside(d1).shutdownCode = 0
    inside(d1).nextEvtchn = 64
    expect(messageOf(() => xen.softReset(xen.domain(1)!))).toBe('softReset: a reset is in progress at port 64 (EBUSY)')
  })
})
