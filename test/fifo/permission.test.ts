/** FIFO as a permission of each domain: one that may not have it sees a host without it. */

import { describe, expect, it } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import { type DomainOptions, GuestKernel, Hypervisor } from '../../src/index.js'

function machine(options: Partial<DomainOptions> = {}) {
  const xen = Hypervisor.create()
  const make = (domid: number, more: Partial<DomainOptions> = {}) =>
    xen.createDomain({ domid, frames: 64, maxEvtchnPort: Number.POSITIVE_INFINITY, ...more })
  return { xen, without: make(1, { fifoAllowed: false, ...options }), beside: make(2) }
}

describe('a domain that may not have FIFO', () => {
  it('EC-op-6: gets EOPNOTSUPP, where its neighbour on the same host gets FIFO', () => {
    const { without, beside } = machine()
    const block = { control_gfn: 5, offset: 0, vcpu: 0 }
    expect(() => without.eventChannelOp('init_control', block)).toThrow(/d1 may not have FIFO.*EOPNOTSUPP|EOPNOTSUPP/)
    expect(() => without.eventChannelOp('expand_array', { array_gfn: 6 })).toThrow(/EOPNOTSUPP/)
    expect(inside(without).fifo).toBeNull()
    expect(beside.eventChannelOp('init_control', block).link_bits).toBe(17)
    expect(inside(without).portOps.levels).toBe(2)
  })

  it('NL-form-1: has a driver that falls back, by its own choice and by a list', () => {
    const { xen, without } = machine({ nlevelAllowed: false })
    const tried = (kernel: GuestKernel) => kernel.attempts.map(({ levels, answer }) => `${levels} ${answer}`).join(', ')
    const boot = (levels: 'fifo' | 'best' | (3 | 'fifo')[]) =>
      tried(GuestKernel.boot(xen.platform(without), { levels, reset: true }))
    expect(boot('fifo')).toBe('fifo EOPNOTSUPP, 2 ok')
    expect(boot([3, 'fifo'])).toBe('3 EPERM, fifo EOPNOTSUPP, 2 ok')
    expect(boot('best')).toContain('fifo EOPNOTSUPP, 2 ok')
  })

  it('NL-mig-6: cannot bring FIFO along, and keeps the permission of the source that it replaces', () => {
    const { xen, beside } = machine()
    const kernel = GuestKernel.boot(xen.platform(beside), { levels: 'fifo', exact: true })
    expect(kernel.levels).toBe('fifo')
    const move = xen.beginMigration(beside, { mode: 'transparent' })
    expect(() => xen.restoreDomain(move.state, { domid: 3, fifoAllowed: false })).toThrow(/may not have FIFO/)
    expect(xen.domain(3)).toBeUndefined()
    move.abort()
    const { xen: other, without } = machine()
    const again = other.beginMigration(without, { mode: 'transparent' })
    const restored = other.restoreDomain(again.state, { replaces: again })
    expect(inside(restored).nlevelLimits.fifoAllowed).toBe(false)
  })
})
