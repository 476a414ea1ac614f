/**
 * The library's idea of Xen's ABI against Xen's own headers. layouts.json is what gcc said about them, and every machine
 * compares with it; where gcc for both widths and libxen-dev are installed, the headers are measured again.
 *
 * EVTCHN_UPDATE_LAYOUTS=1 writes layouts.json anew; EVTCHN_REQUIRE_TOOLS=1 makes missing tools a failure.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { BIND_PIRQ__WILL_SHARE } from '../../src/abi/event_channel.js'
import { HVM_PARAM, HVM_PARAM_CALLBACK_IRQ, HVM_UPCALL_VECTOR, HVMOP } from '../../src/abi/hvm.js'
import * as abi from '../../src/abi/index.js'
import { PHYSDEVOP } from '../../src/abi/physdev.js'
import { REGISTER_VCPU_INFO } from '../../src/abi/vcpu.js'
import { inside } from '../../src/domain/handles.js'
import { type DomainType, Errno, Hypervisor } from '../../src/index.js'
import { requireTools, updateLayouts } from '../settings.js'
import { measure, missingTools, type Table, type Tables, toJson } from './headers.js'

const RECORD = new URL('layouts.json', import.meta.url)
const GUEST_ASSERTIONS = new URL('../../examples/c-guest/xen_abi.h', import.meta.url)

const required = requireTools
const missing = missingTools()
const measured = missing.length ? null : measure()
if (updateLayouts) {
  if (!measured) throw new Error(`EVTCHN_UPDATE_LAYOUTS: the headers cannot be measured without ${missing.join(', ')}`)
  writeFileSync(RECORD, `${toJson(measured)}\n`)
}
const recorded = JSON.parse(readFileSync(RECORD, 'utf8')) as Tables

const NOT_RUN = missing.length ? `NOT RUN for want of ${missing.join(', ')}: ` : ''
if (NOT_RUN && required)
  it('has the tools that EVTCHN_REQUIRE_TOOLS demands', () => expect.fail(`${NOT_RUN}Xen’s headers were not measured`))

describe.skipIf(!measured)(`${NOT_RUN}Xen’s headers as installed`, () => {
  // A newer release may add constants and drop dead ones; what both have must agree.
  it.each(['x86_64', 'x86_32'] as const)('have the recorded layouts and numbers on %s', (width) => {
    const common = <T>(now: Record<string, T>, then: Record<string, T>) =>
      Object.fromEntries(Object.entries(now).filter(([name]) => name in then))
    const [now, then] = [measured![width], recorded[width]]
    expect(now.structs).toEqual(then.structs)
    expect(common(now.constants, then.constants)).toEqual(common(then.constants, now.constants))
    expect(common(now.errno, then.errno)).toEqual(common(then.errno, now.errno))
  })
})

/** Names that the library gives to members of unions and to halves of u64s. */
const MEMBERS: Record<string, string> = {
  'evtchn_status.unbound_dom': 'u.unbound.dom',
  'evtchn_status.interdomain_dom': 'u.interdomain.dom',
  'evtchn_status.interdomain_port': 'u.interdomain.port',
  'evtchn_status.pirq': 'u.pirq',
  'evtchn_status.virq': 'u.virq',
}

/** Structs of the library's own N-level operations, which no header of Xen has. */
const OURS: ReadonlySet<string> = new Set(['query_nlevel', 'set_nlevel_selectors', 'register_nlevel', 'query_nlevel2'])

const isPadding = (member: string) => /^_?(pad\d*|rsvd)$/.test(member)

/** A struct of the library as the C compiler would put it: without padding, by C's member names. */
function asC({ name, size, fields }: abi.Struct) {
  const members = Object.entries(fields).filter(([, field]) => field.dir !== 'pad')
  return {
    size,
    fields: Object.fromEntries(members.map(([key, f]) => [MEMBERS[`${name}.${key}`] ?? key, [f.offset, f.size]])),
  }
}

function ofXen(table: Table, name: string) {
  const { size, fields } = table.structs[name]!
  // A union as a whole has no counterpart: its members do.
  const members = Object.entries(fields).filter(([member]) => !isPadding(member) && member !== 'u')
  return { size, fields: Object.fromEntries(members) }
}

const sources: [string, Tables][] = [['the recorded headers', recorded]]
if (measured) sources.push(['the installed headers', measured])

describe.each(sources)('src/abi agrees with %s', (_, tables) => {
  const widths = [
    [64, tables.x86_64],
    [32, tables.x86_32],
  ] as const

  describe.each(widths)('for %i-bit guests', (bits, table) => {
    const operations = Object.entries(abi.EVTCHN_STRUCTS).filter(([op]) => !OURS.has(op))
    it.each(operations)('in every member of EVTCHNOP_%s’s argument', (_op, layout) => {
      expect(asC(layout)).toEqual(ofXen(table, layout.name))
    })

    it.each([REGISTER_VCPU_INFO, HVM_UPCALL_VECTOR])('in every member of $name', (layout) => {
      expect(asC(layout)).toEqual(ofXen(table, layout.name))
    })

    it('in xen_hvm_param, whose 64-bit value is two halves here', () => {
      const { size, fields } = table.structs.xen_hvm_param!
      expect(HVM_PARAM.size).toBe(size)
      const { domid, index, value_low, value_high } = HVM_PARAM.fields
      expect([domid.offset, domid.size]).toEqual(fields.domid)
      expect([index.offset, index.size]).toEqual(fields.index)
      expect([value_low.offset, value_low.size + value_high.size]).toEqual(fields.value)
      expect(value_high.offset).toBe(value_low.offset + value_low.size)
    })

    it('in shared_info, vcpu_info and where the time is', () => {
      const shared = table.structs.shared_info!
      const vcpu = table.structs.vcpu_info!
      const ours = abi.sharedInfo(bits)
      expect({ ...ours }).toEqual({
        size: shared.size,
        sel: vcpu.fields.evtchn_pending_sel![0],
        time: vcpu.fields.time![0],
        pending: shared.fields.evtchn_pending![0],
        mask: shared.fields.evtchn_mask![0],
        wc_version: shared.fields.wc_version![0],
        wc_sec: shared.fields.wc_sec![0],
        wc_nsec: shared.fields.wc_nsec![0],
        wc_sec_hi: shared.fields.xen_wc_sec_hi![0],
        words: bits,
      })
      const bytes = (ours.words * bits) / 8
      expect([shared.fields.evtchn_pending![1], shared.fields.evtchn_mask![1]]).toEqual([bytes, bytes])
      expect(vcpu.fields.evtchn_pending_sel![1]).toBe(bits / 8)
      expect(abi.VCPU_INFO_SIZE).toBe(vcpu.size)
      expect([abi.UPCALL_PENDING, 1]).toEqual(vcpu.fields.evtchn_upcall_pending)
      expect([abi.UPCALL_MASK, 1]).toEqual(vcpu.fields.evtchn_upcall_mask)
      expect(shared.fields.vcpu_info).toEqual([0, abi.XEN_LEGACY_MAX_VCPUS * abi.VCPU_INFO_SIZE])
    })

    it('in every number', () => {
      const { constants } = table
      const same = (prefix: string, ours: Record<string, number>, but: ReadonlySet<string> = new Set()) => {
        const names = Object.keys(ours).filter((name) => !but.has(name))
        const theirs = Object.fromEntries(names.map((name) => [prefix + name, constants[prefix + name]]))
        expect(Object.fromEntries(names.map((name) => [prefix + name, ours[name]]))).toEqual(theirs)
      }
      same('__HYPERVISOR_', abi.HYPERVISOR)
      same('EVTCHNOP_', abi.EVTCHNOP, OURS)
      same('EVTCHNSTAT_', abi.EVTCHNSTAT)
      same('VIRQ_', abi.VIRQ)
      same('VCPUOP_', abi.VCPUOP)
      same('SCHEDOP_', abi.SCHEDOP)
      same('SHUTDOWN_', abi.SHUTDOWN)
      same('PHYSDEVOP_', PHYSDEVOP)
      same('HVMOP_', HVMOP)
      const { DOMID_FIRST_RESERVED, DOMID_SELF, DOMID_INVALID, NR_VIRQS, XEN_LEGACY_MAX_VCPUS } = abi
      same('', { DOMID_FIRST_RESERVED, DOMID_SELF, DOMID_INVALID, NR_VIRQS, XEN_LEGACY_MAX_VCPUS })
      same('', { BIND_PIRQ__WILL_SHARE, HVM_PARAM_CALLBACK_IRQ })
      same('', { EVTCHN_2L_NR_CHANNELS: abi.maxEvtchns(bits, 2, 0) })
      // The library's own operations keep clear of Xen's.
      const xenOps = Object.entries(constants).filter(([name]) => name.startsWith('EVTCHNOP_'))
      expect(Math.max(...xenOps.map(([, value]) => value))).toBeLessThan(abi.EVTCHNOP.query_nlevel)
    })

    it('in every name of an operation, state, VIRQ and reason, leaving none out', () => {
      const names = (prefix: string) =>
        Object.keys(table.constants).flatMap((name) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : []))
      expect(Object.keys(abi.EVTCHNOP)).toEqual(expect.arrayContaining(names('EVTCHNOP_')))
      expect(Object.keys(abi.EVTCHNSTAT)).toEqual(expect.arrayContaining(names('EVTCHNSTAT_')))
      expect(Object.keys(abi.VIRQ)).toEqual(
        expect.arrayContaining(names('VIRQ_').filter((n) => !/^ARCH_[1-7]$/.test(n))),
      )
      expect(Object.keys(abi.SHUTDOWN)).toEqual(expect.arrayContaining(names('SHUTDOWN_')))
    })

    it('in every error number', () => {
      // EFBIG is the event channel device's own (EC-lib-6), ENOTTY an ioctl's: Xen returns neither from a hypercall.
      const ours = Object.entries(Errno).filter(([name]) => name !== 'EFBIG' && name !== 'ENOTTY')
      expect(ours).toEqual(ours.map(([name]) => [name, table.errno[name]]))
      expect(table.errno).not.toHaveProperty('EFBIG')
    })
  })
})

describe.each([
  [64, recorded.x86_64],
  [32, recorded.x86_32],
] as const)(
  'hypercalls read and write the recorded structs of a %i-bit guest that src has no table for:',
  (bits, table) => {
    const { EINVAL, EFAULT, EBUSY, ENOSYS } = Errno
    const { HYPERVISOR, EVTCHNOP, SCHEDOP } = abi
    const GVA = 0x8000
    const NOWHERE = 0x7fff_0000

    function boot(type: DomainType = 'pv') {
      const xen = Hypervisor.create()
      const domain = xen.createDomain({ domid: 0, bits, type })
      const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 0 })
      domain.memory.view().fill(0xa5, GVA, GVA + 0x1000)
      const view = new DataView(domain.memory.memory.buffer)
      const field = (struct: string, member: string) => table.structs[struct]!.fields[member]!
      return {
        xen,
        domain,
        port: port,
        call: (op: number, ...args: number[]) => xen.hypercall(domain.vcpu(0), op, args),
        put(struct: string, member: string, value: number | bigint, at = GVA) {
          const [offset, size] = field(struct, member)
          if (size === 8) view.setBigUint64(at + offset, BigInt(value), true)
          else view.setUint32(at + offset, Number(value), true)
        },
        get(struct: string, member: string, at = GVA): bigint {
          const [offset, size] = field(struct, member)
          return size === 8 ? view.getBigInt64(at + offset, true) : BigInt(view.getInt32(at + offset, true))
        },
      }
    }

    it('sched_poll', () => {
      const { xen, domain, port, call, put } = boot()
      put('sched_poll', 'ports', NOWHERE)
      put('sched_poll', 'nr_ports', 129)
      put('sched_poll', 'timeout', 0x12_3456_789an)
      expect(call(HYPERVISOR.sched_op, SCHEDOP.poll, GVA)).toBe(-EINVAL)
      put('sched_poll', 'nr_ports', 1)
      expect(call(HYPERVISOR.sched_op, SCHEDOP.poll, GVA)).toBe(-EFAULT)
      const ports = GVA + 0x100
      put('sched_poll', 'ports', ports)
      new DataView(domain.memory.memory.buffer).setUint32(ports, port, true)
      expect(call(HYPERVISOR.sched_op, SCHEDOP.poll, GVA)).toBe(0)
      expect(domain.vcpu(0).blocked).toBe(true)
      expect(xen.nextTimerNs).toBe(0x12_3456_789an)
      domain.eventChannelOp('send', { port })
      expect(domain.vcpu(0).blocked).toBe(false)
    })

    it('sched_shutdown', () => {
      const { domain, call, put } = boot()
      put('sched_shutdown', 'reason', abi.SHUTDOWN.crash)
      expect(call(HYPERVISOR.sched_op, SCHEDOP.shutdown, GVA)).toBe(0)
      expect(inside(domain).shutdownCode).toBe(abi.SHUTDOWN.crash)
    })

    it('multicall_entry', () => {
      const { call, put, get, port } = boot()
      const second = GVA + table.structs.multicall_entry!.size
      const arg = GVA + 0x100
      put('evtchn_send', 'port', port, arg)
      const word = bits / 8
      const args = table.structs.multicall_entry!.fields.args![0]
      put('multicall_entry', 'op', HYPERVISOR.event_channel_op)
      for (const [i, value] of [EVTCHNOP.send, arg].entries()) {
        if (word === 8) put('evtchn_expand_array', 'array_gfn', value, GVA + args + i * word)
        else put('evtchn_send', 'port', value, GVA + args + i * word)
      }
      put('multicall_entry', 'op', 63, second)
      expect(call(HYPERVISOR.multicall, GVA, 2)).toBe(0)
      expect(get('multicall_entry', 'result')).toBe(0n)
      expect(get('multicall_entry', 'result', second)).toBe(BigInt(-ENOSYS))
    })

    it('evtchn_op of the legacy hypercall', () => {
      const { call, put, get, port } = boot()
      put('evtchn_op', 'cmd', EVTCHNOP.bind_ipi)
      put('evtchn_op', 'u.bind_ipi.vcpu', 0)
      expect(call(HYPERVISOR.event_channel_op_compat, GVA)).toBe(0)
      expect(get('evtchn_op', 'u.bind_ipi.port')).toBe(BigInt(port + 1))
      const end = 256 * abi.PAGE_SIZE - table.structs.evtchn_op!.size
      put('evtchn_op', 'cmd', EVTCHNOP.bind_ipi, end)
      put('evtchn_op', 'u.bind_ipi.vcpu', 0, end)
      expect(call(HYPERVISOR.event_channel_op_compat, end)).toBe(0)
      expect(call(HYPERVISOR.event_channel_op_compat, end + 4)).toBe(-EFAULT)
    })

    it('xen_feature_info', () => {
      const { call, put, get } = boot('hvm')
      put('xen_feature_info', 'submap_idx', 0)
      expect(call(HYPERVISOR.xen_version, table.constants.XENVER_get_features!, GVA)).toBe(0)
      const bit = 1n << BigInt(table.constants.XENFEAT_hvm_callback_vector!)
      expect(get('xen_feature_info', 'submap') & bit).toBe(bit)
    })

    it('physdev_irq_status_query and physdev_eoi', () => {
      const { call, put, get } = boot()
      put('physdev_irq_status_query', 'irq', 5)
      expect(call(HYPERVISOR.physdev_op, PHYSDEVOP.irq_status_query, GVA)).toBe(0)
      expect(get('physdev_irq_status_query', 'flags')).toBe(BigInt(table.constants.XENIRQSTAT_needs_eoi!))
      put('physdev_eoi', 'irq', 0xffff_ffff)
      expect(call(HYPERVISOR.physdev_op, PHYSDEVOP.eoi, GVA)).toBe(-EINVAL)
    })

    it('physdev_pirq_eoi_gmfn, of which a 32-bit guest has no upper half', () => {
      const { call, put } = boot()
      put('physdev_pirq_eoi_gmfn', 'gmfn', 16)
      expect(call(HYPERVISOR.physdev_op, PHYSDEVOP.pirq_eoi_gmfn_v2, GVA)).toBe(0)
      expect(call(HYPERVISOR.physdev_op, PHYSDEVOP.pirq_eoi_gmfn_v2, GVA)).toBe(-EBUSY)
    })
  },
)

it('what the C guest asserts of its compiler is what gcc says of i386', () => {
  const text = readFileSync(GUEST_ASSERTIONS, 'utf8')
  const { structs } = recorded.x86_32
  const member = (name: string) => (name === 'arch.wc_sec_hi' ? 'xen_wc_sec_hi' : name)
  const sizes = [...text.matchAll(/^SIZE\(struct (\w+), (\d+)\);/gm)]
  const offsets = [...text.matchAll(/^AT\(struct (\w+), ([\w.]+), (\d+)\);/gm)]
  expect(sizes.length).toBeGreaterThan(20)
  for (const [, name, size] of sizes) expect([name, structs[name!]!.size]).toEqual([name, Number(size)])
  for (const [, name, field, offset] of offsets)
    expect([name, field, structs[name!]!.fields[member(field!)]![0]]).toEqual([name, field, Number(offset)])
})
