/** EVTCHNOP_query_nlevel (NL-query-1): its errors in their order, and what it answers for every kind of limit. */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, HYPERVISOR } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type DomainOptions, Hypervisor, type HypervisorOptions } from '../../src/index.js'
import { PAGE, plan } from './geometry.js'
import { ARGUMENT, FIRST_FREE, stateOf, TreeGuest } from './guest.js'

const [EPERM, ESRCH, EFAULT, EINVAL, ENOSYS] = [-1, -3, -14, -22, -38]

describe('EVTCHNOP_query_nlevel', () => {
  it('NL-query-1: checks the struct, then the domain, then the right to ask', () => {
    const xen = Hypervisor.create()
    const guest = new TreeGuest(xen, { domid: 1 })
    const other = new TreeGuest(xen, { domid: 2 })
    const control = new TreeGuest(xen, { domid: 0 })
    const end = guest.domain.memory.bytes
    expect(guest.op('query_nlevel', { dom: DOMID_SELF }, 0, end - 15)).toBe(EFAULT)
    expect(guest.op('query_nlevel', { dom: 3 })).toBe(ESRCH)
    // The other reserved numbers name no domain (EC-lay-1).
    for (const dom of [0x7ff1, 0x7ff2, 0x7ff4, 0x7fff, 0xffff]) expect(guest.op('query_nlevel', { dom })).toBe(ESRCH)
    expect(guest.op('query_nlevel', { dom: 2 })).toBe(EPERM)
    expect(guest.op('query_nlevel', { dom: 0 })).toBe(EPERM)
    for (const dom of [1, DOMID_SELF]) expect(guest.op('query_nlevel', { dom })).toBe(0)
    for (const dom of [0, 1, 2]) expect(control.op('query_nlevel', { dom })).toBe(0)
    expect(other.op('query_nlevel', { dom: 2 })).toBe(0)
  })

  it('NL-query-1: a stub device model has no privilege over its target here', () => {
    const xen = Hypervisor.create()
    const stub = new TreeGuest(xen, { domid: 1 })
    new TreeGuest(xen, { domid: 2 })
    xen.setTarget(xen.domain(1)!, xen.domain(2)!)
    expect([0, EPERM]).toContain(stub.op('query_nlevel', { dom: 2 }))
  })

  it('NL-query-1: bytes 2 and 3 of the struct are ignored', () => {
    const guest = TreeGuest.on({})
    guest.bytes.set([0xf0, 0x7f, 0xde, 0xad], ARGUMENT)
    expect(guest.call(HYPERVISOR.event_channel_op, [64, ARGUMENT])).toBe(0)
    const view = guest.viewAt(ARGUMENT, 16)
    expect([4, 8, 12].map((offset) => view.getUint32(offset, true))).toEqual([4, 512, 2])
  })

  it('EC-op-3: an answer that cannot be written is EFAULT', () => {
    const guest = TreeGuest.on({})
    guest.domain.memory.protect(FIRST_FREE)
    expect(guest.op('query_nlevel', { dom: DOMID_SELF }, 0, FIRST_FREE * PAGE)).toBe(EFAULT)
  })

  it('NL-mig-2: a host that never heard of N levels answers ENOSYS to all of them, without looking at the argument', () => {
    const guest = TreeGuest.on({ nlevel: false })
    for (const cmd of [64, 65, 66, 67])
      for (const gpa of [ARGUMENT, 2 ** 40]) expect(guest.call(HYPERVISOR.event_channel_op, [cmd, gpa])).toBe(ENOSYS)
    for (const cmd of [15, 63, 68, -1, 2 ** 31])
      expect(guest.call(HYPERVISOR.event_channel_op, [cmd, ARGUMENT])).toBe(ENOSYS)
  })

  const rows: [string, HypervisorOptions, Partial<DomainOptions>, levels: number, pages: number][] = [
    ['64 bits by default', {}, {}, 4, 512],
    ['32 bits by default', {}, { bits: 32 }, 5, 512],
    ['32 bits on a host with 1,024 pages', { maxLeafPages: 1024 }, { bits: 32 }, 5, 1024],
    ['64 bits on the same: a full tree takes no more', { maxLeafPages: 1024 }, {}, 4, 512],
    ['a host of three levels: 64 bits take 8 pages', { maxLevels: 3 }, {}, 3, 8],
    ['a host of three levels: 32 bits take one page', { maxLevels: 3 }, { bits: 32 }, 3, 1],
    ['a host of four levels: 32 bits take 32 pages', { maxLevels: 4 }, { bits: 32 }, 4, 32],
    ['a limit for one width only', { maxLevels: { 64: 3 } }, { bits: 32 }, 5, 512],
    ['a host of two levels', { maxLevels: 2 }, {}, 2, 0],
    ['a domain of three levels', {}, { maxLevels: 3 }, 3, 8],
    ['a domain of five pages', {}, { maxLeafPages: 5 }, 4, 5],
    ['the lower of two limits on levels', { maxLevels: 3 }, { bits: 32, maxLevels: 4 }, 3, 1],
    ['the lower of two limits on pages', { maxLeafPages: 7 }, { maxLeafPages: 5 }, 4, 5],
    ['a domain that may not', {}, { nlevelAllowed: false }, 2, 0],
    ['a domain without a page', {}, { maxLeafPages: 0 }, 2, 0],
  ]
  it.each(rows)('NL-query-1: %s', (_, host, domain, max_levels, max_pages) => {
    const guest = TreeGuest.on(host, domain)
    expect(guest.op('query_nlevel', { dom: DOMID_SELF })).toBe(0)
    expect(guest.out).toEqual({ max_levels, max_pages, abi: 2 })
  })

  it('NL-query-1: the answer is what can be registered: so much is granted, and no more', () => {
    for (const [, host, domain, levels, pages] of rows.filter(([, , , levels, pages]) => levels > 2 && pages < 40)) {
      const guest = TreeGuest.on(host, { ...domain, frames: 256 })
      guest.register(plan(guest.domain.bits, levels, pages, 1, FIRST_FREE))
      expect(inside(guest.domain).levels).toBe(levels)
      const more = TreeGuest.on(host, { ...domain, frames: 256 })
      expect(more.setSelectors(plan(more.domain.bits, levels, pages + 1, 1, FIRST_FREE), 0)).toBeLessThan(0)
    }
  })

  it('NL-query-1: abi is the number of levels in force, and asking changes nothing', () => {
    for (const levels of [3, 4]) {
      const guest = TreeGuest.on({})
      guest.register(plan(64, levels, 1, 1, FIRST_FREE))
      const state = stateOf(guest)
      const ram = guest.bytes.slice()
      for (let i = 0; i < 3; i++) expect(guest.op('query_nlevel', { dom: DOMID_SELF })).toBe(0)
      expect(guest.out).toEqual({ max_levels: 4, max_pages: 512, abi: levels })
      expect(stateOf(guest)).toEqual(state)
      ram.set(guest.bytes.subarray(ARGUMENT, ARGUMENT + 16), ARGUMENT)
      expect(guest.bytes.every((byte, i) => byte === ram[i])).toBe(true)
    }
  })

  it('NL-tree-3: a registered domain is answered for the width it registered with, whatever is latched', () => {
    const guest = TreeGuest.on({})
    guest.register(plan(64, 3, 1, 1, FIRST_FREE))
    inside(guest.domain).latchWidth(32)
    expect(guest.op('query_nlevel', { dom: DOMID_SELF })).toBe(0)
    expect(guest.out).toEqual({ max_levels: 4, max_pages: 512, abi: 3 })
  })
})

describe('EVTCHNOP_query_nlevel2', () => {
  it('NL-query-2: the checks of query_nlevel, then the pad', () => {
    const xen = Hypervisor.create()
    const guest = new TreeGuest(xen, { domid: 1 })
    new TreeGuest(xen, { domid: 2 })
    const end = guest.domain.memory.bytes
    expect(guest.op('query_nlevel2', { dom: DOMID_SELF }, 0, end - 23)).toBe(EFAULT)
    expect(guest.op('query_nlevel2', { dom: 3, pad: 1 })).toBe(ESRCH)
    expect(guest.op('query_nlevel2', { dom: 2, pad: 1 })).toBe(EPERM)
    expect(guest.op('query_nlevel2', { dom: DOMID_SELF, pad: 1 })).toBe(EINVAL)
    expect(guest.op('query_nlevel2', { dom: DOMID_SELF, pad: 0 })).toBe(0)
  })

  it('NL-query-2: the first 16 bytes are those of query_nlevel, which touches no byte behind them', () => {
    const guest = TreeGuest.on({}, { maxEvtchnPort: 499 })
    guest.bytes.fill(0xee, ARGUMENT, ARGUMENT + 32)
    expect(guest.op('query_nlevel', { dom: DOMID_SELF })).toBe(0)
    const first = guest.bytes.slice(ARGUMENT, ARGUMENT + 16)
    expect(guest.bytes.subarray(ARGUMENT + 16, ARGUMENT + 32).every((byte) => byte === 0xee)).toBe(true)
    expect(guest.op('query_nlevel2', { dom: DOMID_SELF, pad: 0 })).toBe(0)
    expect(guest.bytes.slice(ARGUMENT, ARGUMENT + 16)).toEqual(first)
    expect(guest.viewAt(ARGUMENT, 24).getUint32(16, true)).toBe(500)
    expect(guest.bytes.subarray(ARGUMENT + 24, ARGUMENT + 32).every((byte) => byte === 0xee)).toBe(true)
  })

  const rows: [string, HypervisorOptions, Partial<DomainOptions>, channels: number][] = [
    ['a full tree', {}, {}, 16777216],
    ['a full tree of 32 bits on 512 pages', {}, { bits: 32 }, 16777216],
    ['five levels in full', { maxLeafPages: 1024 }, { bits: 32 }, 33554432],
    ['one page', { maxLeafPages: 1 }, {}, 32768],
    ['the limit of a domU', {}, { maxEvtchnPort: 1023 }, 1024],
    ['no port but 0', {}, { maxEvtchnPort: 0 }, 1],
    ['not allowed: two levels', {}, { nlevelAllowed: false }, 4096],
    ['not allowed, with a limit', {}, { nlevelAllowed: false, maxEvtchnPort: 99 }, 100],
    ['a host of two levels, 32 bits', { maxLevels: 2 }, { bits: 32 }, 1024],
  ]
  it.each(rows)('NL-query-2, NL-reg-6: nr_channels: %s', (_, host, domain, nr_channels) => {
    const guest = TreeGuest.on(host, domain)
    expect(guest.op('query_nlevel2', { dom: DOMID_SELF, pad: 0 })).toBe(0)
    expect(guest.out.nr_channels).toBe(nr_channels)
  })

  it('NL-query-2: nr_channels is what registering returns, and of FIFO what it has', () => {
    for (const maxEvtchnPort of [Infinity, 5000, 40000]) {
      const guest = TreeGuest.on({ maxLevels: 3, maxLeafPages: 1 }, { maxEvtchnPort })
      guest.must(guest.op('query_nlevel2', { dom: DOMID_SELF, pad: 0 }))
      const { nr_channels } = guest.out
      guest.register(plan(64, 3, 1, 1, FIRST_FREE))
      expect(guest.out.nr_channels).toBe(nr_channels)
      const fifo = TreeGuest.on({}, { maxEvtchnPort })
      fifo.must(fifo.op('init_control', { control_gfn: FIRST_FREE, offset: 0, vcpu: 0 }))
      fifo.must(fifo.op('query_nlevel2', { dom: DOMID_SELF, pad: 0 }))
      expect(fifo.out).toMatchObject({ abi: 0x100, nr_channels: Math.min(131072, maxEvtchnPort + 1) })
    }
  })
})
