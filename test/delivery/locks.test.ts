/**
 * Who takes the event lock, and how (spec 5.1). On one thread a lock is never contended, and taking one that is held is
 * reported: so a lock that the test holds shows what an operation would wait for.
 */

import { describe, expect, it } from 'vitest'
import { type Args, DOMID_SELF, type EvtchnOpName, HYPERVISOR, SCHEDOP } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'

import { ARGUMENT, FREE_GFN, type Guest, host } from '../ops/raw.js'

const WRITING: [EvtchnOpName, Args][] = [
  ['alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 }],
  ['bind_interdomain', { remote_dom: 2, remote_port: 1 }],
  ['bind_virq', { virq: 0, vcpu: 0 }],
  ['bind_ipi', { vcpu: 0 }],
  ['close', { port: 1 }],
  ['bind_vcpu', { port: 2, vcpu: 1 }],
  ['reset', { dom: DOMID_SELF }],
]

/** d1 has an IPI (1), an unbound port (2) and a connected one (3); d2 its end (1) and a port for d1 (2). */
function world() {
  const all = host(64)
  all.d1.ipi()
  all.d1.unbound(2)
  all.d1.connect(all.d2)
  all.d2.unbound(1)
  return all
}
const held = (guest: Guest, how: 'Read' | 'Write', body: () => void) => {
  const { eventLock } = inside(guest.domain)
  eventLock[`acquire${how}`]()
  try {
    body()
  } finally {
    eventLock[`release${how}`]()
  }
}

describe('the event lock', () => {
  it.each(WRITING)('EC-lock-1: %s takes it for writing', (op, args) => {
    const { d1 } = world()
    held(d1, 'Read', () => expect(() => d1.op(op, args)).toThrow('event_lock'))
    expect(inside(d1.domain).eventLock.held).toBe(false)
  })

  it('EC-lock-1: status takes it for reading, beside other readers', () => {
    const { d1 } = world()
    held(d1, 'Read', () => expect(d1.op('status', { dom: DOMID_SELF, port: 1 })).toBe(0))
    held(d1, 'Write', () => expect(() => d1.op('status', { dom: DOMID_SELF, port: 1 })).toThrow('event_lock'))
  })

  it('EC-lock-1: the dump and an EOI take it for reading', () => {
    const { xen, d0, d1 } = world()
    held(d1, 'Read', () => expect([...xen.dump({ domid: 1 })]).toHaveLength(7))
    held(d1, 'Write', () => expect(() => [...xen.dump({ domid: 1 })]).toThrow('event_lock'))
    d0.must('bind_pirq', { pirq: 0, flags: 0 })
    d0.view.setUint32(ARGUMENT, 0, true)
    held(d0, 'Read', () => expect(d0.call(HYPERVISOR.physdev_op, [12, ARGUMENT])).toBe(0))
    held(d0, 'Write', () => expect(() => d0.call(HYPERVISOR.physdev_op, [12, ARGUMENT])).toThrow('event_lock'))
  })

  it('EC-lock-2, EC-lock-6: send, unmask and poll take none, neither the sender’s nor the receiver’s', () => {
    const { d1, d2 } = world()
    held(d1, 'Write', () =>
      held(d2, 'Write', () => {
        expect(d1.op('send', { port: 3 })).toBe(0)
        expect(d1.op('send', { port: 1 })).toBe(0)
        expect(d1.op('unmask', { port: 1 })).toBe(0)
        expect(d1.call(HYPERVISOR.sched_op, [SCHEDOP.poll, FREE_GFN * 4096], 1)).toBe(0)
      }),
    )
    expect(d2.bit('pending', 1)).toBe(1)
  })

  it('EC-lock-1, EC-close-7: connecting, and closing what is connected, take both domains’ locks', () => {
    const { d1, d2 } = world()
    held(d2, 'Write', () => {
      expect(() => d1.op('bind_interdomain', { remote_dom: 2, remote_port: 2 })).toThrow('event_lock')
      expect(() => d1.op('close', { port: 3 })).toThrow('event_lock')
      expect(d1.op('close', { port: 1 })).toBe(0)
    })
    expect([inside(d1.domain).eventLock.held, inside(d2.domain).eventLock.held]).toEqual([false, false])
  })

  it('EC-lock-7, EC-bug-11: the notification function of a Xen-attached port runs with no lock held, and may call', () => {
    const seen: unknown[] = []
    const { xen, d1, d2 } = world()
    const notify = () => {
      seen.push(inside(d1.domain).eventLock.held, inside(d2.domain).eventLock.held)
      d1.must('close', { port: 1 })
      xen.freeXenPort(xen.domain(2)!, attached)
    }
    const attached = xen.allocXenPort(xen.domain(2)!, { remoteDomid: 1, notify })
    const port = d1.must('bind_interdomain', { remote_dom: 2, remote_port: attached }).local_port
    d1.must('send', { port })
    expect(seen).toEqual([false, false])
    expect(d1.status(port)).toMatchObject({ status: 1, unbound_dom: 2 })
  })

  it('EC-lock-1: it is free again after every refused call', () => {
    const { d1, d2 } = world()
    d1.fill()
    for (const [op, args] of [...WRITING, ['status', { dom: 2, port: 1 }] as const, ['reset', { dom: 2 }] as const]) {
      d1.op(op, args)
      expect([inside(d1.domain).eventLock.held, inside(d2.domain).eventLock.held], op).toEqual([false, false])
    }
  })
})
