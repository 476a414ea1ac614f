/** init_control, expand_array and set_priority: every errno and the order of the checks; what leads out of FIFO again. */

import { describe, expect, it } from 'vitest'
import {
  ABI_FIFO,
  type Args,
  DOMID_SELF,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  type EvtchnOpName,
  encode,
  HYPERVISOR,
  PAGE_SIZE,
} from '../../src/abi/index.js'
import { FifoState } from '../../src/domain/fifo.js'
import { inside } from '../../src/domain/handles.js'
import { type Domain, type DomainOptions, Errno, Hypervisor, type HypervisorOptions } from '../../src/index.js'
import { frameRefs } from '../../src/machine/memory.js'

const ARGS = 2
const BLOCK = 3
const PAGE = 4
const LOCKED = 5
const NOWHERE = 0xf000_0000

interface Machine {
  xen: Hypervisor
  dom0: Domain
  domain: Domain
  /** A hypercall as the guest makes it: 0 or -errno. */
  call(op: EvtchnOpName, args: Args, gva?: number, vcpu?: number): number
}

function machine(options: Partial<DomainOptions> = {}, host: HypervisorOptions = {}): Machine {
  const xen = Hypervisor.create(host)
  const dom0 = xen.createDomain({ domid: 0 })
  const domain = xen.createDomain({ domid: 1, vcpus: 2, frames: 256, maxEvtchnPort: Infinity, ...options })
  domain.memory.protect(LOCKED)
  const call = (op: EvtchnOpName, args: Args, gva = ARGS * PAGE_SIZE, vcpu = 0) => {
    encode(EVTCHN_STRUCTS[op], domain.memory.data, args, ARGS * PAGE_SIZE)
    return xen.hypercall(domain.vcpu(vcpu), HYPERVISOR.event_channel_op, [EVTCHNOP[op], gva])
  }
  return { xen, dom0, domain, call }
}

const init = { control_gfn: BLOCK, offset: 0, vcpu: 0 }
const expand = { array_gfn: PAGE }
const { EFAULT, ENOENT, EINVAL, EOPNOTSUPP, EBUSY, ENOSPC, ENOSYS, EACCES } = Errno

describe('init_control', () => {
  it('EC-init-1…8: checks in this order: EFAULT, ENOENT, offset, its block, the frame', () => {
    const { call, domain } = machine()
    expect(call('init_control', { control_gfn: 999, offset: 4025, vcpu: 2 }, NOWHERE)).toBe(-EFAULT)
    expect(call('init_control', { control_gfn: 999, offset: 4025, vcpu: 2 })).toBe(-ENOENT)
    for (const offset of [4032, 4025, 4, 2 ** 32 - 8]) expect(call('init_control', { ...init, offset })).toBe(-EINVAL)
    for (const control_gfn of [256, LOCKED, 2 ** 40])
      expect(call('init_control', { ...init, control_gfn })).toBe(-EINVAL)
    expect([inside(domain).fifo, domain.memory.heldFrames, inside(domain).levels]).toEqual([null, 0, 2])
    expect(call('init_control', { ...init, offset: 4024 })).toBe(0)
    expect(domain.memory.data.getUint8(ARGS * PAGE_SIZE + 16)).toBe(17)
    expect(call('init_control', { ...init, control_gfn: 999 })).toBe(-EINVAL)
    expect(call('init_control', { ...init, vcpu: 1 })).toBe(0)
    expect([frameRefs(domain.memory).references(BLOCK), inside(domain).maxEvtchns, inside(domain).levels]).toEqual([
      2, 131072, 0,
    ])
  })

  it('EC-init-11: neither reads nor clears the block', () => {
    const { call, domain } = machine()
    domain.memory.view().fill(0xa5, BLOCK * PAGE_SIZE, (BLOCK + 1) * PAGE_SIZE)
    call('init_control', init)
    const page = domain.memory.view().slice(BLOCK * PAGE_SIZE, (BLOCK + 1) * PAGE_SIZE)
    expect(page.every((byte) => byte === 0xa5)).toBe(true)
  })

  it('NL-op-1: is EBUSY on an N-level domain, after the offset and before the frame', () => {
    const { call, domain } = machine()
    const info = { levels: 3, nrPages: 1, bits: 64, pendingGfns: [], maskGfns: [] } as const
    inside(domain).nlevel = info
    expect(call('init_control', { ...init, offset: 3 })).toBe(-EINVAL)
    expect(call('init_control', { ...init, control_gfn: 999 })).toBe(-EBUSY)
    expect(call('expand_array', expand)).toBe(-EOPNOTSUPP)
  })
})

describe('expand_array', () => {
  it('EC-expand-1…4: checks in this order: EFAULT, not FIFO, full, the frame', () => {
    const { call, domain } = machine()
    expect(call('expand_array', { array_gfn: 999 }, NOWHERE)).toBe(-EFAULT)
    expect(call('expand_array', { array_gfn: 999 })).toBe(-EOPNOTSUPP)
    call('init_control', init)
    for (const array_gfn of [256, LOCKED, 2 ** 52]) expect(call('expand_array', { array_gfn })).toBe(-EINVAL)
    for (let i = 0; i < 128; i++) expect(call('expand_array', { array_gfn: 8 + i })).toBe(0)
    expect(call('expand_array', { array_gfn: 999 })).toBe(-ENOSPC)
    expect(inside(domain).fifo!.wordAt(131071)).toBe(domain.memory.frame(8 + 127) + 4092)
    expect(inside(domain).fifo!.wordAt(131072)).toBe(-1)
  })

  it('EC-expand-6: takes the same frame twice', () => {
    const { call, domain } = machine()
    call('init_control', init)
    expect([call('expand_array', expand), call('expand_array', expand)]).toEqual([0, 0])
    expect(frameRefs(domain.memory).references(PAGE)).toBe(2)
    expect(inside(domain).fifo!.wordAt(1)).toBe(inside(domain).fifo!.wordAt(1025))
  })
})

describe('set_priority', () => {
  it('EC-prio-1…4: checks in this order: port, ABI, usable, priority', () => {
    const { call, domain, xen } = machine()
    const port = domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 }).port
    expect(call('set_priority', { port: 64, priority: 16 })).toBe(-EINVAL)
    expect(call('set_priority', { port: 9, priority: 16 })).toBe(-ENOSYS)
    call('init_control', init)
    const attached = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 0, notify: () => {} })
    for (const unusable of [0, 9, attached])
      expect(call('set_priority', { port: unusable, priority: 16 })).toBe(-EACCES)
    expect(call('set_priority', { port, priority: 16 })).toBe(-EINVAL)
    for (const priority of [0, 15]) expect(call('set_priority', { port, priority })).toBe(0)
    expect(inside(domain).ports.priority(port)).toBe(15)
  })
})

describe('a host without FIFO', () => {
  it('EC-op-6: answers as a Xen built without it', () => {
    const { call, domain } = machine({}, { fifo: false })
    const { port } = domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 })
    expect(call('init_control', init)).toBe(-EOPNOTSUPP)
    expect(call('expand_array', expand)).toBe(-EOPNOTSUPP)
    expect(call('set_priority', { port: port, priority: 1 })).toBe(-ENOSYS)
    expect(inside(domain).levels).toBe(2)
  })
})

describe('beside the other forms', () => {
  it('query_nlevel says FIFO, and N levels are EBUSY', () => {
    const { call, domain } = machine()
    call('init_control', init)
    expect(domain.eventChannelOp('query_nlevel', { dom: DOMID_SELF })).toMatchObject({ abi: ABI_FIFO, max_levels: 4 })
    expect(call('set_nlevel_selectors', { vcpu: 0, levels: 9, nr_pages: 1, pad: 0, areas: 0 })).toBe(-EBUSY)
    expect(call('register_nlevel', { levels: 9, nr_pages: 1, pending_gfns: 0, mask_gfns: 0, pad: 0 })).toBe(-EBUSY)
  })

  it('a latch to the other width leaves FIFO alone', () => {
    const { call, domain } = machine()
    call('init_control', init)
    inside(domain).latchWidth(32)
    expect([inside(domain).maxEvtchns, inside(domain).portOps.abi]).toEqual([131072, ABI_FIFO])
    domain.eventChannelOp('reset', { dom: DOMID_SELF })
    expect(inside(domain).maxEvtchns).toBe(1024)
  })

  it('events reach a vCPU without vcpu_info as READY alone, and all is scanned once it registers one', () => {
    const { call, domain } = machine({ vcpus: 40 })
    call('init_control', { ...init, vcpu: 39 })
    call('expand_array', expand)
    const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 39 })
    domain.eventChannelOp('send', { port: port })
    expect(domain.memory.data.getUint32(BLOCK * PAGE_SIZE, true)).toBe(1 << 7)
  })

  it.each([
    ['its own reset', ({ domain }: Machine) => domain.eventChannelOp('reset', { dom: DOMID_SELF })],
    [
      'a reset by dom0',
      ({ xen, dom0 }: Machine) => {
        xen.pauseDomain(xen.domain(1)!)
        dom0.eventChannelOp('reset', { dom: 1 })
      },
    ],
    [
      'soft reset',
      ({ xen, domain }: Machine) => {
        inside(domain).shutdownCode = 5
        xen.softReset(xen.domain(1)!)
      },
    ],
    ['death', ({ xen }: Machine) => xen.killDomain(xen.domain(1)!)],
  ])(
    'EC-reset-9, EC-fifo-24, EC-odd-16: %s leads back to two levels and lets go of every frame; guest words stay',
    (_, leave) => {
      const all = machine()
      const { call, domain } = all
      call('init_control', init)
      call('init_control', { ...init, offset: 128, vcpu: 1 })
      call('expand_array', expand)
      const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 0 })
      domain.eventChannelOp('send', { port: port })
      leave(all)
      expect([inside(domain).fifo, inside(domain).levels, domain.memory.heldFrames]).toEqual([null, 2, 0])
      const { data } = domain.memory
      expect(data.getUint32(PAGE * PAGE_SIZE + 4, true) >>> 29).toBe(1)
      expect(data.getUint32(BLOCK * PAGE_SIZE + 8 + 28, true)).toBe(port)
    },
  )

  it('a reset that finds new ports is EAGAIN and leaves FIFO on', () => {
    const { call, domain, xen } = machine(
      {},
      { preempt: () => domain.eventChannelOp('bind_ipi', { vcpu: 0 }).port < 0 },
    )
    call('init_control', init)
    for (let i = 0; i < 100; i++) domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    expect(call('reset', { dom: DOMID_SELF })).toBe(-Errno.EAGAIN)
    expect(inside(domain).fifo).not.toBeNull()
    expect(xen.domain(1)).toBe(domain)
  })

  it('a saved domain starts with two levels; what Xen keeps private can be had as plain data', () => {
    const { call, domain, xen } = machine()
    call('init_control', { ...init, offset: 8 })
    call('expand_array', expand)
    const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    domain.eventChannelOp('send', { port: port })
    const plain = JSON.parse(JSON.stringify(inside(domain).fifo))
    expect(plain.pages).toEqual([PAGE])
    expect(plain.queues[0]).toMatchObject({ block: { gfn: BLOCK, offset: 8 } })
    expect(plain.queues[0].tails[7]).toBe(port)
    expect(plain.queues[1].block).toBeNull()
    const again = FifoState.from(plain, domain.memory, inside(domain).hostCore.memory)
    expect(JSON.parse(JSON.stringify(again))).toEqual(plain)
    expect(again.wordAt(5)).toBe(inside(domain).fifo!.wordAt(5))
    const state = xen.saveDomain(xen.domain(1)!)
    xen.destroyDomain(xen.domain(1)!)
    expect(inside(xen.restoreDomain(state)).fifo).toBeNull()
  })
})
