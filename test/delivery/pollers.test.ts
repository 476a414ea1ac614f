/** Pollers among others: a vCPU that was woken while another is in its upcall, and HVM pollers. */

import { describe, expect, it } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import { host } from '../ops/raw.js'
import { poll } from './polling.js'

describe('a vCPU that was woken while another is in its upcall, before it is told', () => {
  /** Wakes v1 of d1 in an upcall of d0, then does `then` there. Who was told in the end. */
  function between(then: (all: ReturnType<typeof host>) => void) {
    const woken: string[] = []
    let inUpcall = () => {}
    const all = host(64, {
      onUpcall: ({ domid }) => void (domid === 0 && inUpcall()),
      onUnblock: ({ domid, vcpuId }) => void woken.push(`d${domid}v${vcpuId}`),
    })
    const { d0, d1 } = all
    const port = d1.ipi(0)
    poll(d1, { ports: [port], vcpu: 1 })
    inUpcall = () => {
      inUpcall = () => {}
      d1.must('send', { port })
      expect(woken, 'not in the middle of another upcall').toEqual([])
      then(all)
    }
    d0.must('send', { port: d0.ipi(0) })
    return { ...all, woken }
  }

  it('EC-poll-14: is told after it', () => {
    expect(between(() => {}).woken).toEqual(['d1v1'])
  })

  it('EC-poll-14: sleeps on if it polls again: that poll has seen nothing', () => {
    const { woken, d1 } = between((all) => void poll(all.d1, { ports: [all.d1.ipi(0)], vcpu: 1 }))
    expect([woken, d1.domain.vcpu(1).polling]).toEqual([[], true])
  })

  it('EC-die-1: is not told if its domain was destroyed meanwhile', () => {
    expect(between(({ xen }) => xen.destroyDomain(xen.domain(1)!)).woken).toEqual([])
  })

  it('NL-mig-3: is told when its domain goes on, if that was frozen meanwhile', () => {
    const { xen, woken } = between((all) => void all.xen.beginMigration(all.xen.domain(1)!, { mode: 'transparent' }))
    expect(woken).toEqual([])
    xen.migrationOf(xen.domain(1)!)!.abort()
    expect(woken).toEqual(['d1v1'])
  })
})

describe('an HVM poller', () => {
  it('EC-poll-5: 0 at once if its upcall could be injected; not if there is no way to call it', () => {
    const { d1 } = host(64, {}, { type: 'hvm' })
    d1.setFlag(1)
    expect(poll(d1, { ports: [5000] })).toBe('EINVAL')
    inside(d1.domain.vcpu(0)).upcallVector = 0x30
    expect(poll(d1, { ports: [5000] })).toBe('ok')
  })

  it('EC-poll-12, EC-up-3: an event for a vCPU that cannot be called wakes it only by its port', () => {
    const { d1 } = host(64, {}, { type: 'hvm' })
    const [polled, other] = [d1.ipi(1), d1.ipi(1)]
    poll(d1, { ports: [polled], vcpu: 1 })
    d1.must('send', { port: other })
    expect(d1.domain.vcpu(1).polling).toBe(true)
    d1.must('send', { port: polled })
    expect(d1.domain.vcpu(1).polling).toBe(false)
  })
})
