/** Page tables belong to a vCPU: every copy of a hypercall goes by those of the vCPU that makes it. */

import { describe, expect, it } from 'vitest'
import { EVTCHNOP, HVMOP, HYPERVISOR, PHYSDEVOP, SCHEDOP, VCPUOP, XENVER } from '../../src/abi/index.js'
import { Hypervisor, type Vcpu } from '../../src/index.js'

const PAGE = 4096
/** A page of virtual addresses that each vCPU has elsewhere: vCPU n at frame 8 + n. */
const WINDOW = 0x40_0000
const physical = (vcpuId: number, gva: number) => (8 + vcpuId) * PAGE + (gva - WINDOW)

function machine(type: 'pv' | 'hvm' = 'hvm') {
  const walks: { vcpu: Vcpu; gva: number; write: boolean }[] = []
  const xen = Hypervisor.create({ onUpcall: () => {} })
  const domain = xen.createDomain({
    domid: 1,
    bits: 64,
    type,
    vcpus: 2,
    frames: 64,
    translate: (vcpu, gva, write) => {
      walks.push({ vcpu, gva, write })
      return gva >= WINDOW && gva < WINDOW + PAGE ? physical(vcpu.vcpuId, gva) : -1
    },
  })
  const { data } = domain.memory
  const call = (vcpuId: number, nr: number, args: number[]) => xen.hypercall(domain.vcpu(vcpuId), nr, args)
  return { xen, domain, walks, data, call }
}

describe('translate', () => {
  it('gets the handle of the calling vCPU, the address, and whether it is written to', () => {
    const { domain, walks, call } = machine()
    expect(call(1, HYPERVISOR.event_channel_op, [EVTCHNOP.bind_ipi, WINDOW])).toBe(0)
    expect(walks).toEqual([
      { vcpu: domain.vcpu(1), gva: WINDOW, write: false },
      { vcpu: domain.vcpu(1), gva: WINDOW, write: true },
    ])
    expect(walks.every(({ vcpu }) => vcpu === domain.vcpu(1))).toBe(true)
  })

  it('an operation reads and writes its struct where the caller has it', () => {
    const { data, call } = machine()
    data.setUint32(physical(0, WINDOW), 0, true)
    data.setUint32(physical(1, WINDOW), 1, true)
    for (const vcpuId of [0, 1]) expect(call(vcpuId, HYPERVISOR.event_channel_op, [EVTCHNOP.bind_ipi, WINDOW])).toBe(0)
    expect([0, 1].map((vcpuId) => data.getUint32(physical(vcpuId, WINDOW) + 4, true))).toEqual([1, 2])
  })

  it.each([EVTCHNOP.send, EVTCHNOP.unmask])('the short way of send and unmask (%i) does, too', (cmd) => {
    const { domain, data, call } = machine()
    const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    data.setUint32(physical(0, WINDOW), 77, true)
    data.setUint32(physical(1, WINDOW), port, true)
    expect(call(1, HYPERVISOR.event_channel_op, [cmd, WINDOW])).toBe(0)
    expect(call(0, HYPERVISOR.event_channel_op, [cmd, WINDOW])).toBe(-22)
  })

  it('the entries of a multicall, and their arguments, are the caller’s', () => {
    const { domain, data, call } = machine()
    const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    const at = physical(1, WINDOW)
    data.setBigUint64(at, BigInt(HYPERVISOR.event_channel_op), true)
    data.setBigUint64(at + 16, BigInt(EVTCHNOP.send), true)
    data.setBigUint64(at + 24, BigInt(WINDOW + 256), true)
    data.setUint32(at + 256, port, true)
    data.setBigInt64(at + 8, 99n, true)
    expect(call(1, HYPERVISOR.multicall, [WINDOW, 1])).toBe(0)
    expect(data.getBigInt64(at + 8, true)).toBe(0n)
  })

  it('register_vcpu_info for another vCPU reads the argument of the caller', () => {
    const { domain, data, call } = machine()
    data.setBigUint64(physical(1, WINDOW), 20n, true)
    expect(call(1, HYPERVISOR.vcpu_op, [VCPUOP.register_vcpu_info, 0, WINDOW])).toBe(0)
    // Level 1 is all ones there: the guest looks at every channel once.
    expect(domain.memory.data.getBigUint64(20 * PAGE + 8, true)).toBe(2n ** 64n - 1n)
  })

  it('a poll reads its struct and its list by the caller’s tables', () => {
    const { domain, data, call } = machine()
    const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 1 })
    const at = physical(1, WINDOW)
    data.setBigUint64(at, BigInt(WINDOW + 64), true)
    data.setUint32(at + 8, 1, true)
    data.setUint32(at + 64, port, true)
    data.setUint32(physical(0, WINDOW) + 64, 77, true)
    expect(call(1, HYPERVISOR.sched_op, [SCHEDOP.poll, WINDOW])).toBe(0)
    expect(call(0, HYPERVISOR.sched_op, [SCHEDOP.poll, WINDOW])).toBe(0)
    data.setBigUint64(physical(0, WINDOW), BigInt(WINDOW + 64), true)
    data.setUint32(physical(0, WINDOW) + 8, 1, true)
    expect(call(0, HYPERVISOR.sched_op, [SCHEDOP.poll, WINDOW])).toBe(-22)
  })

  it.each([
    ['xen_version', HYPERVISOR.xen_version, [XENVER.extraversion, WINDOW], 'hvm'],
    ['physdev_op', HYPERVISOR.physdev_op, [PHYSDEVOP.irq_status_query, WINDOW], 'pv'],
    ['hvm_op', HYPERVISOR.hvm_op, [HVMOP.get_param, WINDOW], 'hvm'],
  ] as const)('%s asks about the calling vCPU only', (_name, nr, args, type) => {
    for (const vcpuId of [0, 1]) {
      const { walks, call } = machine(type)
      call(vcpuId, nr, [...args])
      expect(walks.length).toBeGreaterThan(0)
      expect(walks.every(({ vcpu }) => vcpu.vcpuId === vcpuId)).toBe(true)
    }
  })

  it('boots and restores with the tables of the embedder', () => {
    const seen = new Set<number>()
    const walk = (vcpu: Vcpu, gva: number) => {
      seen.add(vcpu.domid)
      return gva
    }
    const xen = Hypervisor.create()
    const dom0 = xen.boot({ domid: 0, translate: walk })
    dom0.bindIpi(() => {})
    const saved = xen.saveDomain(xen.domain(0)!)
    const there = Hypervisor.create()
    const moved = there.restoreDomain(saved, { domid: 5, translate: walk })
    there.hypercall(moved.vcpu(0), HYPERVISOR.xen_version, [XENVER.extraversion, 0x4000])
    expect([...seen]).toEqual([0, 5])
  })
})
