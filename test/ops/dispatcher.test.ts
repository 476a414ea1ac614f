/** The way into the operations (spec 2.4): numbers, copies, the legacy hypercall 16, multicall, unknown hypercalls. */

import { describe, expect, it } from 'vitest'
import {
  DOMID_SELF,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  type EvtchnOpName,
  encode,
  HYPERVISOR,
  PAGE_SIZE,
  SCHEDOP,
  VIRQ,
} from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { Register } from '../../src/index.js'
import { ARGUMENT, END, FREE_GFN, type Guest, host, NOWHERE, nameOf, READ_ONLY, unchanged } from './raw.js'

const { event_channel_op, event_channel_op_compat, multicall, sched_op } = HYPERVISOR
const XEN_OPS = Object.entries(EVTCHNOP).filter(([, cmd]) => cmd < 15) as [EvtchnOpName, number][]

describe.each([64, 32] as const)('event_channel_op, %i-bit', (bits) => {
  it.each([15, 16, 63, 68, 255, 0x7fff_ffff, 0xffff_ffff, -1])(
    'EC-op-1: command %i does not exist (ENOSYS), whatever the argument',
    (cmd) => {
      const { d1 } = host(bits)
      expect(d1.callAnswer(event_channel_op, [cmd, NOWHERE])).toBe('ENOSYS')
      expect(d1.callAnswer(event_channel_op, [cmd, ARGUMENT])).toBe('ENOSYS')
    },
  )

  it('EC-op-1: a host that never heard of N levels has no commands 64 to 66 (ENOSYS)', () => {
    const { d1 } = host(bits, { nlevel: false })
    for (const cmd of [64, 65, 66]) expect(d1.callAnswer(event_channel_op, [cmd, NOWHERE])).toBe('ENOSYS')
  })

  it('EC-op-1: the command is an int: what the register holds above its 32 bits does not count', () => {
    const { d1 } = host(bits)
    d1.ipi()
    d1.write('close', { port: 1 })
    expect(d1.call(event_channel_op, [(1n << 32n) + 3n, ARGUMENT])).toBe(0)
  })

  it('EC-op-1: Xen’s fifteen commands have their numbers', () => {
    const names = 'bind_interdomain bind_virq bind_pirq close send status alloc_unbound bind_ipi bind_vcpu unmask reset'
    const fifo = 'init_control expand_array set_priority reset_cont'
    expect(XEN_OPS.map(([name]) => name)).toEqual(`${names} ${fifo}`.split(' '))
    expect(XEN_OPS.map(([, cmd]) => cmd)).toEqual(Array.from({ length: 15 }, (_, i) => i))
  })

  it.each(XEN_OPS)('EC-op-2: %s: a struct without memory, or one byte short of it, is EFAULT', (name, cmd) => {
    const { d1 } = host(bits)
    const { size } = EVTCHN_STRUCTS[name]
    for (const gva of [NOWHERE, END, END - size + 1, bits === 32 ? -1 : 2 ** 52, -4096])
      expect(d1.callAnswer(event_channel_op, [cmd, gva]), `${gva}`).toBe('EFAULT')
    expect(d1.callAnswer(event_channel_op, [cmd, END - size])).not.toBe('EFAULT')
  })

  it.each([
    ['close', { port: 1 }, 'ok'],
    ['send', { port: 1 }, 'ok'],
    ['unmask', { port: 1 }, 'ok'],
    ['bind_vcpu', { port: 2, vcpu: 1 }, 'ok'],
    ['reset', { dom: DOMID_SELF }, 'ok'],
    ['reset_cont', { dom: DOMID_SELF }, 'EBUSY'],
    ['bind_ipi', { vcpu: 0 }, 'EFAULT'],
    ['alloc_unbound', { dom: DOMID_SELF, remote_dom: 1 }, 'EFAULT'],
    ['status', { dom: DOMID_SELF, port: 1 }, 'EFAULT'],
    ['bind_virq', { virq: VIRQ.TIMER, vcpu: 0 }, 'EFAULT'],
    ['bind_pirq', { pirq: 3, flags: 0 }, 'EFAULT'],
    ['bind_interdomain', { remote_dom: DOMID_SELF, remote_port: 3 }, 'EFAULT'],
  ] as const)(
    'EC-op-3: %s: a struct that cannot be written fails only if there is something to write',
    (name, args, answer) => {
      const { d0 } = host(bits)
      d0.ipi()
      d0.unbound(2)
      d0.unbound(0)
      expect(nameOf(d0.op(name, args, { at: READ_ONLY }))).toBe(answer)
    },
  )

  it('EC-op-3: after another error nothing is written: EPERM, not EFAULT', () => {
    const { d1 } = host(bits)
    expect(d1.answer('alloc_unbound', { dom: 2, remote_dom: 1 }, { at: READ_ONLY })).toBe('EPERM')
  })

  it('EC-op-2: a struct that lies across two frames is one struct', () => {
    const { d1 } = host(bits)
    expect(d1.answer('alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 }, { at: 5 * PAGE_SIZE - 3 })).toBe('ok')
    expect(d1.status(1)).toMatchObject({ status: 1, unbound_dom: 2 })
  })

  it('EC-op-3: a struct whose second half is in a frame that cannot be written: the port stays open', () => {
    const { d1 } = host(bits)
    expect(d1.op('alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 }, { at: READ_ONLY - 4 })).toBe(-14)
    expect(d1.status(1)).toMatchObject({ status: 1, unbound_dom: 2 })
  })
})

describe.each([64, 32] as const)('the legacy hypercall 16, %i-bit', (bits) => {
  const write = (guest: Guest, cmd: number, name?: EvtchnOpName, args: Record<string, number> = {}, at = ARGUMENT) => {
    guest.view.setUint32(at, cmd, true)
    if (name) encode(EVTCHN_STRUCTS[name], guest.view, args, at + 4)
  }

  it('EC-op-5: a struct of 28 bytes that cannot be read (EFAULT)', () => {
    const { d1 } = host(bits)
    for (const gva of [NOWHERE, END - 27]) expect(d1.callAnswer(event_channel_op_compat, [gva])).toBe('EFAULT')
    write(d1, EVTCHNOP.unmask, 'unmask', { port: 0 }, END - 28)
    expect(d1.callAnswer(event_channel_op_compat, [END - 28])).toBe('ok')
  })

  it.each([10, 11, 12, 13, 14, 15, 64, 65, 66, 0xffff_ffff])(
    'EC-op-5: command %i is not one of its ten (ENOSYS)',
    (cmd) => {
      const { d1 } = host(bits)
      write(d1, cmd)
      expect(d1.callAnswer(event_channel_op_compat, [ARGUMENT])).toBe('ENOSYS')
    },
  )

  it('EC-op-5: results and errors are those of the operation, results in its union', () => {
    const { d1 } = host(bits)
    write(d1, EVTCHNOP.alloc_unbound, 'alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 })
    expect(d1.call(event_channel_op_compat, [ARGUMENT])).toBe(0)
    expect([d1.view.getUint32(ARGUMENT, true), d1.view.getUint32(ARGUMENT + 8, true)]).toEqual([6, 1])
    write(d1, EVTCHNOP.status, 'status', { dom: DOMID_SELF, port: 1 })
    expect(d1.call(event_channel_op_compat, [ARGUMENT])).toBe(0)
    expect([d1.view.getUint32(ARGUMENT + 12, true), d1.view.getUint16(ARGUMENT + 20, true)]).toEqual([1, 2])
    write(d1, EVTCHNOP.close, 'close', { port: 9 })
    expect(d1.callAnswer(event_channel_op_compat, [ARGUMENT])).toBe('EINVAL')
  })

  it('EC-op-5: a union that cannot be written: EFAULT, done and not undone', () => {
    const { d1 } = host(bits)
    write(d1, EVTCHNOP.bind_ipi, 'bind_ipi', { vcpu: 0 }, READ_ONLY)
    expect(d1.call(event_channel_op_compat, [READ_ONLY])).toBe(-14)
    expect(d1.status(1)).toMatchObject({ status: 5 })
  })

  it('EC-op-5: an HVM guest has no such hypercall (ENOSYS), whatever the argument', () => {
    const { d1 } = host(bits, {}, { type: 'hvm' })
    write(d1, EVTCHNOP.unmask, 'unmask', { port: 0 })
    expect(d1.callAnswer(event_channel_op_compat, [ARGUMENT])).toBe('ENOSYS')
    expect(d1.callAnswer(event_channel_op_compat, [NOWHERE])).toBe('ENOSYS')
  })
})

describe.each([64, 32] as const)('multicall, %i-bit', (bits) => {
  const WORD = bits / 8
  const LIST = FREE_GFN * PAGE_SIZE
  /** Writes an entry {op, result, args[6]} and answers its address. */
  function entry(guest: Guest, index: number, op: number, args: readonly number[], at = LIST): void {
    const words = [op, 0xdead, ...args, 0, 0, 0, 0, 0, 0].slice(0, 8)
    for (const [i, word] of words.entries()) {
      const gpa = at + (index * 8 + i) * WORD
      if (WORD === 8) guest.view.setBigUint64(gpa, BigInt(word), true)
      else guest.view.setUint32(gpa, word, true)
    }
  }
  const result = (guest: Guest, index: number, at = LIST): number => {
    const gpa = at + (index * 8 + 1) * WORD
    return WORD === 8 ? Number(guest.view.getBigInt64(gpa, true)) : guest.view.getInt32(gpa, true)
  }

  it('EC-op-1: each call has its own result, and an error does not stop the rest', () => {
    const { d1 } = host(bits)
    d1.write('alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 }, ARGUMENT)
    d1.write('close', { port: 60 }, ARGUMENT + 64)
    entry(d1, 0, event_channel_op, [EVTCHNOP.alloc_unbound, ARGUMENT])
    entry(d1, 1, event_channel_op, [EVTCHNOP.close, ARGUMENT + 64])
    entry(d1, 2, 999, [])
    entry(d1, 3, event_channel_op, [EVTCHNOP.send, NOWHERE])
    entry(d1, 4, event_channel_op, [EVTCHNOP.alloc_unbound, ARGUMENT])
    expect(d1.call(multicall, [LIST, 5])).toBe(0)
    expect([0, 1, 2, 3, 4].map((i) => nameOf(result(d1, i)))).toEqual(['ok', 'EINVAL', 'ENOSYS', 'EFAULT', 'ok'])
    expect(inside(d1.domain).ports.activeEvtchns).toBe(2)
  })

  it('EC-op-1: a multicall in a multicall is refused (EINVAL)', () => {
    const { d1 } = host(bits)
    entry(d1, 0, multicall, [LIST, 1])
    expect(d1.call(multicall, [LIST, 1])).toBe(0)
    expect(nameOf(result(d1, 0))).toBe('EINVAL')
  })

  it('EC-op-2: no calls at all succeed; a list without memory is EFAULT', () => {
    const { d1 } = host(bits)
    expect(d1.callAnswer(multicall, [LIST, 0])).toBe('ok')
    expect(d1.callAnswer(multicall, [NOWHERE, 1])).toBe('EFAULT')
  })

  it('EC-op-2: a list that ends in nowhere: the calls before its end were made', () => {
    const { d1 } = host(bits)
    const last = END - 8 * WORD
    d1.write('bind_ipi', { vcpu: 0 })
    entry(d1, 0, event_channel_op, [EVTCHNOP.bind_ipi, ARGUMENT], last)
    expect(nameOf(d1.call(multicall, [last, 2]))).toBe('EFAULT')
    expect([result(d1, 0, last), inside(d1.domain).ports.activeEvtchns]).toEqual([0, 1])
    expect(nameOf(d1.call(multicall, [last, 0xffff_ffff]))).toBe('EFAULT')
  })

  it('EC-op-3: a result that cannot be written is EFAULT, the call was made', () => {
    const { d1 } = host(bits)
    d1.write('bind_ipi', { vcpu: 0 })
    entry(d1, 0, event_channel_op, [EVTCHNOP.bind_ipi, ARGUMENT], READ_ONLY)
    expect(nameOf(d1.call(multicall, [READ_ONLY, 1]))).toBe('EFAULT')
    expect(inside(d1.domain).ports.activeEvtchns).toBe(1)
  })

  it('EC-up-1: upcalls wait for the end of the whole batch', () => {
    const log: string[] = []
    const { d1, xen } = host(bits, {
      onUpcall: (vcpu) => void log.push(`v${vcpu.vcpuId}, flag ${d1.flag(vcpu.vcpuId)}`),
    })
    const [zero, one] = [d1.ipi(0), d1.ipi(1)]
    d1.write('send', { port: one }, ARGUMENT)
    d1.write('send', { port: zero }, ARGUMENT + 64)
    entry(d1, 0, event_channel_op, [EVTCHNOP.send, ARGUMENT])
    entry(d1, 1, event_channel_op, [EVTCHNOP.send, ARGUMENT + 64])
    entry(d1, 2, sched_op, [SCHEDOP.yield, 0])
    const at = log.length
    d1.call(multicall, [LIST, 3])
    expect(log.slice(at, at + 2)).toEqual(['v1, flag 1', 'v0, flag 1'])
    expect([result(d1, 0), result(d1, 1), result(d1, 2)]).toEqual([0, 0, 0])
    expect(xen.domain(1)).toBe(d1.domain)
  })
})

describe('hypercalls', () => {
  const known = Object.values(HYPERVISOR) as number[]
  const unknown = [0, 1, 11, 14, 15, 18, 27, 30, 31, 35, 40, 63, 64, 255, 2 ** 31, -1, 0.5, Number.NaN]

  it.each([...unknown, 2n ** 63n] as Register[])('EC-op-1: hypercall %s does not exist (ENOSYS)', (nr) => {
    const { d1 } = host(64)
    expect(known).not.toContain(nr)
    expect(unchanged(d1.xen, () => d1.xen.hypercall(d1.domain.vcpu(0), nr, [1, NOWHERE]))).toBe('ENOSYS')
  })

  it('EC-op-1: sub-commands that do not exist are ENOSYS in every hypercall that has some', () => {
    const { d1 } = host(64)
    for (const nr of [HYPERVISOR.sched_op, HYPERVISOR.physdev_op, HYPERVISOR.hvm_op, HYPERVISOR.xen_version])
      expect(d1.callAnswer(nr, [77, NOWHERE]), `${nr}`).toBe('ENOSYS')
    expect(d1.callAnswer(HYPERVISOR.vcpu_op, [77, 0, NOWHERE])).toBe('ENOSYS')
  })

  it('EC-die-1: a domain that is gone, dying, or whose number is another’s by now makes no hypercalls (ESRCH)', () => {
    const { xen, d1 } = host(64)
    const vcpu = d1.domain.vcpu(0)
    xen.killDomain(xen.domain(1)!)
    expect(nameOf(xen.hypercall(vcpu, sched_op, [SCHEDOP.yield, 0]))).toBe('ESRCH')
    xen.destroyDomain(xen.domain(1)!)
    xen.createDomain({ domid: 1, frames: 16 })
    expect(nameOf(xen.hypercall(vcpu, sched_op, [SCHEDOP.yield, 0]))).toBe('ESRCH')
  })

  it('EC-lay-6: a 32-bit guest’s pointer is its low half; one above 2 GiB is not a negative one', () => {
    const { d1 } = host(32)
    d1.write('bind_ipi', { vcpu: 0 })
    expect(d1.call(event_channel_op, [EVTCHNOP.bind_ipi, (7n << 32n) + BigInt(ARGUMENT)])).toBe(0)
    const seen: number[] = []
    const { xen } = host(32, {}, { translate: (_vcpu, gva) => seen.push(gva) * 0 + ARGUMENT })
    xen.hypercall(xen.domain(1)!.vcpu(0), event_channel_op, [EVTCHNOP.bind_ipi, 0xc000_0000 | 0])
    expect(seen[0]).toBe(0xc000_0000)
  })

  it('says its version, its extra version and its features', () => {
    const { d1 } = host(64)
    expect(d1.call(HYPERVISOR.xen_version, [0, 0])).toBe((4 << 16) | 17)
    expect(d1.call(HYPERVISOR.xen_version, [1, ARGUMENT])).toBe(0)
    expect(d1.callAnswer(HYPERVISOR.xen_version, [1, READ_ONLY])).toBe('EFAULT')
    expect(d1.callAnswer(HYPERVISOR.xen_version, [6, NOWHERE])).toBe('EFAULT')
    expect(d1.callAnswer(HYPERVISOR.xen_version, [6, READ_ONLY])).toBe('EFAULT')
    expect(d1.callAnswer(HYPERVISOR.xen_version, [6, END - 8])).toBe('ok')
    expect(d1.callAnswer(HYPERVISOR.xen_version, [6, END - 4])).toBe('EFAULT')
  })

  it.each([
    ['pv', 64, 0, 0xffff_8000_0000_0000n],
    ['pv', 32, 0, 0xf580_0000n],
    ['hvm', 64, 0x105, 0n],
    ['hvm', 32, 0x105, 0n],
  ] as const)('tells a %s guest of %i bits its features, and where Xen begins', (type, bits, features, start) => {
    const { d1 } = host(bits, {}, { type })
    d1.view.setUint32(ARGUMENT, 0, true)
    expect(d1.call(HYPERVISOR.xen_version, [6, ARGUMENT])).toBe(0)
    expect(d1.view.getUint32(ARGUMENT + 4, true)).toBe(features)
    d1.view.setBigUint64(ARGUMENT, ~0n, true)
    expect(d1.call(HYPERVISOR.xen_version, [5, ARGUMENT])).toBe(0)
    expect(d1.view.getBigUint64(ARGUMENT, true)).toBe(bits === 64 ? start : start | (0xffff_ffffn << 32n))
  })

  it.each([
    [1, 16, '.evtchn'],
    [2, 144, 'evtchn'],
    [3, 1024, 'xen-3.0-x86_64 xen-3.0-x86_32p hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 '],
    [4, 64, ''],
    [8, 16, ''],
    [9, 1024, ''],
  ])('xen_version %i writes exactly %i bytes', (cmd, size, text) => {
    const { d1 } = host(64)
    const bytes = () => d1.domain.memory.view().subarray(ARGUMENT, ARGUMENT + 2048)
    bytes().fill(0xee)
    expect(d1.call(HYPERVISOR.xen_version, [cmd, ARGUMENT])).toBe(0)
    expect(Buffer.from(bytes().subarray(0, size)).toString('latin1')).toBe(text.padEnd(size, '\0'))
    expect(bytes()[size]).toBe(0xee)
    for (const at of [READ_ONLY, NOWHERE]) expect(d1.callAnswer(HYPERVISOR.xen_version, [cmd, at])).toBe('EFAULT')
  })

  it('tells the size of a page, and that it has no build id', () => {
    const { d1 } = host(64)
    expect(d1.call(HYPERVISOR.xen_version, [7, NOWHERE])).toBe(4096)
    expect(d1.callAnswer(HYPERVISOR.xen_version, [10, ARGUMENT])).toBe('ENODATA')
    expect(d1.callAnswer(HYPERVISOR.xen_version, [11, ARGUMENT])).toBe('ENOSYS')
  })

  it.each([1, 0x100, 0xffff_ffff])('there is one map of features: map %i is EINVAL, before it is written', (map) => {
    const { d1 } = host(64)
    for (const at of [ARGUMENT, READ_ONLY]) {
      d1.view.setUint32(at, map, true)
      expect(d1.callAnswer(HYPERVISOR.xen_version, [6, at])).toBe('EINVAL')
    }
    expect(d1.callAnswer(HYPERVISOR.xen_version, [6, NOWHERE])).toBe('EFAULT')
  })
})
