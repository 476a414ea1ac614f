/** Who may do what (spec 8.1): the default policy, SILO, and one of the embedder's own. */

import { describe, expect, it } from 'vitest'
import { type Args, DOMID_SELF, type EvtchnOpName } from '../../src/abi/index.js'
import { siloPolicy, type XsmPolicy } from '../../src/index.js'
import { codeOf, type Guest, host } from '../ops/raw.js'

const alloc = (guest: Guest, dom: number, remote_dom: number) => guest.answer('alloc_unbound', { dom, remote_dom })
const bind = (guest: Guest, remote_dom: number, remote_port: number) =>
  guest.answer('bind_interdomain', { remote_dom, remote_port })

describe('the default policy', () => {
  it('EC-xsm-1: the domain itself, its stub device model and control domains may allocate, look and reset', () => {
    const { xen, d0, d1, d2 } = host(64)
    xen.pauseDomain(xen.domain(1)!)
    const calls: [EvtchnOpName, Args][] = [
      ['alloc_unbound', { dom: 1, remote_dom: 0 }],
      ['status', { dom: 1, port: 1 }],
      ['reset', { dom: 1 }],
    ]
    const answers = (guest: Guest) => calls.map(([op, args]) => guest.answer(op, args))
    expect([answers(d1), answers(d0)]).toEqual([Array(3).fill('ok'), Array(3).fill('ok')])
    expect(answers(d2)).toEqual(['EPERM', 'EPERM', 'EPERM'])
    xen.setTarget(xen.domain(2)!, xen.domain(1)!)
    expect(answers(d2)).toEqual(['ok', 'ok', 'ok'])
    xen.setTarget(xen.domain(2)!, undefined)
    expect(answers(d2)).toEqual(['EPERM', 'EPERM', 'EPERM'])
  })

  it('EC-xsm-1: it is the target that is meant, not the other way round, and not a target’s target', () => {
    const { xen, d1, d2 } = host(64)
    xen.setTarget(xen.domain(2)!, xen.domain(1)!)
    expect(alloc(d1, 2, 0)).toBe('EPERM')
    xen.setTarget(xen.domain(1)!, xen.domain(0)!)
    expect(alloc(d2, 0, 0)).toBe('EPERM')
  })

  it('EC-xsm-1: a target that is gone gives no rights to whoever has its number next', () => {
    const { xen, d2 } = host(64)
    xen.setTarget(xen.domain(2)!, xen.domain(1)!)
    xen.destroyDomain(xen.domain(1)!)
    xen.createDomain({ domid: 1, frames: 2 })
    expect(alloc(d2, 1, 0)).toBe('EPERM')
  })

  it('EC-xsm-1: Xen-attached ports are allocated under the same rule, for the domain that caused it', () => {
    const { xen } = host(64)
    const port = (caller: number) =>
      codeOf(() => xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {}, caller: xen.domain(caller)! }))
    expect([port(0), port(1), port(2)]).toEqual(['ok', 'ok', 'EPERM'])
  })

  it('EC-xsm-1: domain 0 is a control domain unless its maker says otherwise, and others only if he says so', () => {
    const { xen, d1 } = host(64, {}, { privileged: true })
    expect(alloc(d1, 2, 0)).toBe('ok')
    xen.destroyDomain(xen.domain(0)!)
    expect(xen.createDomain({ domid: 0, frames: 2, privileged: false }).privileged).toBe(false)
    expect(xen.createDomain({ domid: 5, frames: 2 }).privileged).toBe(false)
  })

  it('EC-xsm-2: whom a port awaits decides who may connect, and nothing else', () => {
    const { d0, d1, d2 } = host(64)
    const port = d2.unbound(1)
    expect(bind(d0, 2, port)).toBe('EINVAL')
    expect(bind(d1, 2, port)).toBe('ok')
  })

  it('EC-xsm-3: all else acts on the caller’s own ports, whatever number another domain has', () => {
    const { d1, d2 } = host(64)
    const port = d2.ipi(1)
    for (const op of ['send', 'close'] as const) expect(d1.answer(op, { port })).toBe('EINVAL')
    expect(d1.answer('bind_vcpu', { port, vcpu: 0 })).toBe('EINVAL')
    expect(d1.answer('unmask', { port })).toBe('ok')
    expect([d2.status(port).status, d2.flag(1)]).toEqual([5, 0])
  })

  it('EC-xsm-4: an interrupt is bound by who has access to it', () => {
    const { d0, d1 } = host(64)
    expect(d1.answer('bind_pirq', { pirq: 3, flags: 0 })).toBe('EPERM')
    expect(d0.answer('bind_pirq', { pirq: 3, flags: 0 })).toBe('ok')
  })
})

describe('SILO', () => {
  const silo = () => host(64, { xsm: siloPolicy })

  it('EC-xsm-5: guests reach control domains and themselves', () => {
    const { d0, d1 } = silo()
    expect(alloc(d1, DOMID_SELF, 0)).toBe('ok')
    expect(bind(d0, 1, 1)).toBe('ok')
    expect(alloc(d0, DOMID_SELF, 1)).toBe('ok')
    expect(bind(d1, 0, 2)).toBe('ok')
    expect(alloc(d1, DOMID_SELF, DOMID_SELF)).toBe('ok')
    expect(bind(d1, DOMID_SELF, 3)).toBe('ok')
  })

  it('EC-xsm-5: guests do not reach each other, neither allocating (EPERM) nor connecting (EPERM)', () => {
    const { d0, d1, d2 } = silo()
    expect(alloc(d1, DOMID_SELF, 2)).toBe('EPERM')
    const { port } = d0.must('alloc_unbound', { dom: 1, remote_dom: 2 })
    expect(bind(d2, 1, port)).toBe('EPERM')
  })

  it('EC-xsm-5: an unknown remote is told apart (ESRCH), and found before the caller’s rights', () => {
    const { d0, d1 } = silo()
    expect(alloc(d1, DOMID_SELF, 9)).toBe('ESRCH')
    expect(alloc(d0, DOMID_SELF, 9)).toBe('ESRCH')
    expect(alloc(d1, 2, 9)).toBe('ESRCH')
    expect(alloc(d1, 2, 0)).toBe('EPERM')
  })

  it('EC-xsm-5, EC-xsm-1: the default policy’s rules hold as well: a stranger may not look or reset (EPERM)', () => {
    const { d1 } = silo()
    expect(d1.answer('status', { dom: 2, port: 0 })).toBe('EPERM')
    expect(d1.answer('reset', { dom: 2 })).toBe('EPERM')
    expect(alloc(d1, 0, 0)).toBe('EPERM')
  })
})

describe('a policy of the embedder’s own', () => {
  it('EC-xsm-6: is asked with the domains as they are, and its errno is the guest’s', () => {
    const asked: string[] = []
    const note =
      (what: string, errno: number) => (a: { domid: number }, b?: { domid: number }, c?: { domid: number }) => {
        asked.push(
          [what, ...[a, b, c].slice(0, what === 'unbound' ? 3 : 2).map((each) => each?.domid ?? 'nobody')].join(' '),
        )
        return -errno
      }
    const policy = (errno: number): XsmPolicy => ({
      name: 'own',
      evtchnUnbound: note('unbound', errno),
      evtchnInterdomain: note('interdomain', errno),
      evtchnSend: note('send', errno),
      evtchnStatus: note('status', errno),
      evtchnReset: note('reset', errno),
    })
    const xsm = { ...policy(0) }
    const { d0, d1, d2 } = host(64, { xsm })
    const [ours] = d1.connect(d2)
    const ipi = d1.ipi()
    Object.assign(xsm, policy(13))
    asked.length = 0
    expect(alloc(d0, 1, 9)).toBe('EACCES')
    expect(bind(d2, 1, d1.ipi())).toBe('EINVAL')
    expect(d1.answer('send', { port: ours })).toBe('EACCES')
    expect(d1.answer('send', { port: ipi })).toBe('EACCES')
    expect(d1.answer('status', { dom: 2, port: 0 })).toBe('EACCES')
    expect(d0.answer('reset', { dom: 1 })).toBe('EACCES')
    expect(asked).toEqual(['unbound 0 1 nobody', 'send 1 2', 'send 1 nobody', 'status 1 2', 'reset 0 1'])
  })

  it('EC-xsm-6: sees who is a control domain and whom a stub device model serves', () => {
    const seen: unknown[] = []
    const allow = () => 0
    const xsm: XsmPolicy = {
      name: 'looking',
      evtchnUnbound: allow,
      evtchnInterdomain: allow,
      evtchnSend: allow,
      evtchnStatus: (caller, target) => seen.push([caller.privileged, caller.target?.domid, target.privileged]) * 0,
      evtchnReset: allow,
    }
    const { xen, d2 } = host(64, { xsm })
    xen.setTarget(xen.domain(2)!, xen.domain(1)!)
    d2.must('status', { dom: 0, port: 0 })
    expect(seen).toEqual([[false, 1, true]])
  })

  it('EC-xsm-6: a typed call says which policy refused', () => {
    const { d1 } = host(64, { xsm: siloPolicy })
    expect(() => d1.domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 })).toThrow(
      'EVTCHNOP_alloc_unbound: policy silo: d1 may not allocate in d1 for d2 (EPERM)',
    )
  })
})
