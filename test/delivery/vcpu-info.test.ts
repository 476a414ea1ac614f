/** Where vcpu_info lives (spec 1.6): the legacy slots, the dummy, and VCPUOP_register_vcpu_info with its checks in order. */

import { describe, expect, it } from 'vitest'
import { type Bits, HYPERVISOR, PAGE_SIZE, SCHEDOP, VCPU_INFO_SIZE, VCPUOP } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { HypervisorOptions } from '../../src/index.js'
import { frameRefs } from '../../src/machine/memory.js'
import { ARGUMENT, END, FREE_GFN, type Guest, host, NOWHERE, READ_ONLY, SHARED_INFO } from '../ops/raw.js'

const { vcpu_op, sched_op } = HYPERVISOR
const MFN = FREE_GFN + 2

interface Area {
  mfn?: bigint | number
  offset?: number
  vcpu?: number
  at?: number
  caller?: number
}

/** VCPUOP_register_vcpu_info; after an error everything must be as before. */
function register(guest: Guest, { mfn = MFN, offset = 0, vcpu = 0, at = ARGUMENT, caller = 0 }: Area): string {
  if (at + 16 <= END) {
    guest.view.setBigUint64(at, BigInt(mfn), true)
    guest.view.setUint32(at + 8, offset, true)
    guest.view.setUint32(at + 12, 0xffff_ffff, true)
  }
  return guest.callAnswer(vcpu_op, [VCPUOP.register_vcpu_info, vcpu, at], caller)
}

/** Guests with vCPUs beyond the 32 legacy ones. */
const wide = (bits: Bits, options: HypervisorOptions = {}) => host(bits, options, { vcpus: 34 })
const info = (guest: Guest, gpa: number) => [...guest.bytes.subarray(gpa, gpa + VCPU_INFO_SIZE)]
const ALL = { 64: 2n ** 64n - 1n, 32: 2n ** 32n - 1n }

describe.each([64, 32] as const)('register_vcpu_info, its checks, %i-bit', (bits) => {
  const align = bits / 8

  it('EC-vi-5: a vCPU that does not exist (ENOENT), then an argument that cannot be read (EFAULT)', () => {
    const { d1 } = host(bits)
    for (const vcpu of [2, -1, 0x7fff_ffff]) expect(register(d1, { vcpu, at: NOWHERE })).toBe('ENOENT')
    expect(register(d1, { at: NOWHERE })).toBe('EFAULT')
    expect(register(d1, { at: END - 15 })).toBe('EFAULT')
    expect(register(d1, { at: END - 16 })).toBe('ok')
  })

  it('EC-vi-6 before EC-vi-7: an area in another frame, or beyond all addresses (EINVAL), registered or not', () => {
    const { d1 } = host(bits)
    const bad = [
      { offset: 4096 },
      { offset: 0xffff_ffff },
      { mfn: 1n << 52n },
      { mfn: (1n << 64n) - 1n },
      { mfn: (1n << 64n) - 1n, offset: 4096 },
    ]
    for (const area of bad) expect(register(d1, area)).toBe('EINVAL')
    expect(register(d1, {})).toBe('ok')
    for (const area of bad) expect(register(d1, area)).toBe('EINVAL')
  })

  it('EC-vi-7 before EC-vi-8, -9, -10: once per life (EBUSY), however bad the new area', () => {
    const { d1 } = host(bits)
    expect(register(d1, {})).toBe('ok')
    for (const area of [{ offset: 64 }, { offset: 4095 }, { offset: 3 }, { mfn: 5000 }, { mfn: 3 }])
      expect(register(d1, area)).toBe('EBUSY')
    expect(register(d1, { vcpu: 1, offset: 64 })).toBe('ok')
  })

  it('EC-vi-8 before EC-vi-10: 64 bytes that cross a page (ENXIO), in a frame that does not exist', () => {
    const { d1 } = host(bits)
    for (const offset of [4033, 4036, 4040, 4088, 4095]) {
      expect(register(d1, { offset })).toBe('ENXIO')
      expect(register(d1, { offset, mfn: 5000 })).toBe('ENXIO')
    }
    expect(register(d1, { offset: 4032 })).toBe('ok')
  })

  it('EC-vi-9, EC-XSA-327 before EC-vi-10: not aligned to the guest’s word (ENXIO)', () => {
    const { d1 } = host(bits)
    for (const offset of [1, 2, 3, align - 1, align + 1, 64 + align / 2]) {
      expect(register(d1, { offset })).toBe('ENXIO')
      expect(register(d1, { offset, mfn: 5000 })).toBe('ENXIO')
    }
    expect(register(d1, { offset: 4 })).toBe(bits === 64 ? 'ENXIO' : 'ok')
    expect(register(d1, { offset: align, vcpu: 1 })).toBe('ok')
  })

  it('EC-vi-10: a frame that is not the domain’s RAM (EINVAL)', () => {
    const { d1 } = host(bits)
    for (const mfn of [16, 5000, (1n << 52n) - 1n]) expect(register(d1, { mfn })).toBe('EINVAL')
    expect(register(d1, { mfn: 15 })).toBe('ok')
  })

  it('EC-vi-11: a frame that is not writable (EACCES)', () => {
    expect(register(host(bits).d1, { mfn: READ_ONLY / PAGE_SIZE })).toBe('EACCES')
  })

  it('EC-vi-13, EC-XSA-296: one vCPU registers for another', () => {
    const { d1 } = host(bits)
    expect(register(d1, { vcpu: 1, caller: 0 })).toBe('ok')
    expect(register(d1, { vcpu: 1, caller: 1 })).toBe('EBUSY')
    expect([inside(d1.domain.vcpu(0)).infoGfn, inside(d1.domain.vcpu(1)).infoGfn]).toEqual([-1, MFN])
  })

  it('EC-vi-10: the hypervisor holds the frame until the vCPU lets go of it', () => {
    const { xen, d1 } = host(bits)
    register(d1, { vcpu: 0 })
    register(d1, { vcpu: 1, offset: 64 })
    expect(frameRefs(d1.domain.memory).references(MFN)).toBe(2)
    xen.killDomain(xen.domain(1)!)
    expect(frameRefs(d1.domain.memory).references(MFN)).toBe(0)
  })
})

describe.each([64, 32] as const)('a vcpu_info, %i-bit', (bits) => {
  it('EC-vi-1: vCPU n below 32 begins in slot n of shared_info', () => {
    const { d1 } = wide(bits)
    for (const vcpu of [0, 1, 31]) {
      d1.must('send', { port: d1.ipi(vcpu) })
      expect([d1.flag(vcpu), d1.sel(vcpu)]).toEqual([1, 1n])
      d1.quiet()
    }
  })

  it('EC-vi-2, NL-sel-4: a vCPU beyond has none: its events stay in the bitmap, and pollers hear of them', () => {
    const entered: number[] = []
    const { d1 } = wide(bits, { onUpcall: ({ vcpuId }) => void entered.push(vcpuId) })
    const port = d1.ipi(32)
    const before = d1.bytes.slice(SHARED_INFO, SHARED_INFO + 2048)
    d1.call(sched_op, [SCHEDOP.poll, MFN * PAGE_SIZE], 1)
    d1.must('send', { port })
    expect([d1.bit('pending', port), entered, d1.domain.vcpu(1).polling]).toEqual([1, [], false])
    expect(Buffer.compare(d1.bytes.subarray(SHARED_INFO, SHARED_INFO + 2048), before)).toBe(0)
  })

  it('EC-vi-2: the dummies of two domains tell each other nothing', () => {
    const { d1, d2 } = wide(bits)
    d1.must('send', { port: d1.ipi(33) })
    const { upcallPending, upcallMask } = d2.domain.vcpu(33)
    expect([upcallPending, upcallMask]).toEqual([0, 1])
  })

  it('EC-vi-3: a PV vCPU on the dummy can be neither initialised nor brought up (EINVAL)', () => {
    const { d1 } = wide(bits)
    for (const op of [VCPUOP.initialise, VCPUOP.up]) expect(d1.callAnswer(vcpu_op, [op, 32, ARGUMENT])).toBe('EINVAL')
    expect(register(d1, { vcpu: 32 })).toBe('ok')
    expect(d1.callAnswer(vcpu_op, [VCPUOP.up, 32, ARGUMENT])).toBe('ok')
  })

  it('EC-vi-14: the new area begins as a copy of the old one', () => {
    const { d1 } = host(bits)
    for (let i = 0; i < 64; i++) d1.bytes[SHARED_INFO + 64 + i] = i + 100
    const old = info(d1, SHARED_INFO + 64)
    expect(register(d1, { vcpu: 1, offset: 128 })).toBe('ok')
    const now = info(d1, MFN * PAGE_SIZE + 128)
    const sel = bits === 64 ? [8, 16] : [4, 8]
    expect(now.slice(1, sel[0])).toEqual(old.slice(1, sel[0]))
    expect(now.slice(sel[1])).toEqual(old.slice(sel[1]))
    expect(info(d1, SHARED_INFO + 64)).toEqual(old)
  })

  it('EC-vi-14: from the dummy it begins as zeroes with the upcall mask set', () => {
    const { d1 } = wide(bits)
    d1.bytes.fill(0xee, MFN * PAGE_SIZE, (MFN + 1) * PAGE_SIZE)
    expect(register(d1, { vcpu: 33, offset: 64 })).toBe('ok')
    const now = info(d1, MFN * PAGE_SIZE + 64)
    const [from, to] = bits === 64 ? [8, 16] : [4, 8]
    expect(now).toEqual(Array.from({ length: 64 }, (_, i) => (i < 2 ? 1 : i >= from && i < to ? 0xff : 0)))
    expect([d1.bytes[MFN * PAGE_SIZE + 63], d1.bytes[MFN * PAGE_SIZE + 128]]).toEqual([0xee, 0xee])
  })

  it('EC-vi-15, EC-odd-10: the selector becomes all ones and events are pending: one upcall, one full scan', () => {
    const entered: number[] = []
    const { d1 } = host(bits, { onUpcall: ({ vcpuId }) => void entered.push(vcpuId) })
    expect(register(d1, { vcpu: 1 })).toBe('ok')
    expect(d1.sel(1, MFN * PAGE_SIZE)).toBe(ALL[bits])
    expect([d1.bytes[MFN * PAGE_SIZE], entered]).toEqual([1, [1]])
  })

  it('EC-vi-15, EC-up-1: a flag that was 1 already is copied, and is no new edge', () => {
    const edges: number[] = []
    const { d1 } = host(bits, { trace: { upcall: ({ vcpuId }) => void edges.push(vcpuId) } })
    d1.setFlag(1, 1)
    expect(register(d1, { vcpu: 1 })).toBe('ok')
    expect([d1.bytes[MFN * PAGE_SIZE], edges]).toEqual([1, []])
  })

  it('EC-vi-15: an event that was lost on the dummy is found by that scan', () => {
    const { d1 } = wide(bits)
    const port = d1.ipi(32)
    d1.must('send', { port })
    register(d1, { vcpu: 32 })
    expect([d1.bit('pending', port), (d1.sel(32, MFN * PAGE_SIZE) >> BigInt(Math.floor(port / bits))) & 1n]).toEqual([
      1,
      1n,
    ])
  })

  it('EC-vi-16: the old slot is neither read nor written any more', () => {
    const entered: number[] = []
    const { d1 } = host(bits, { onUpcall: ({ vcpuId }) => void entered.push(vcpuId) })
    register(d1, { vcpu: 1 })
    entered.length = 0
    const at = MFN * PAGE_SIZE
    d1.bytes.fill(0, at, at + 64)
    d1.setMask(1, 1)
    d1.setFlag(1, 1)
    d1.must('send', { port: d1.ipi(1) })
    expect([d1.bytes[at], d1.sel(1, at), d1.sel(1), entered]).toEqual([1, 1n, 0n, [1]])
    d1.quiet()
    d1.bytes.fill(0, at, at + 64)
    d1.bytes[at + 1] = 1
    d1.setMask(0, 1)
    d1.must('send', { port: 1 })
    expect([d1.bytes[at], entered]).toEqual([1, [1]])
  })

  it('EC-die-6, EC-vi-7: a soft reset brings vCPUs back to slot or dummy, and they may register again', () => {
    const { xen, d1 } = wide(bits)
    register(d1, { vcpu: 1 })
    register(d1, { vcpu: 32, offset: 64 })
    d1.view.setUint32(ARGUMENT, 5, true)
    expect(d1.call(sched_op, [SCHEDOP.shutdown, ARGUMENT])).toBe(0)
    xen.softReset(xen.domain(1)!)
    expect([
      inside(d1.domain.vcpu(1)).infoGfn,
      inside(d1.domain.vcpu(32)).onDummy,
      d1.domain.memory.heldFrames,
    ]).toEqual([-1, true, 0])
    d1.quiet()
    d1.must('send', { port: d1.ipi(1) })
    expect(d1.flag(1)).toBe(1)
    expect(register(d1, { vcpu: 1 })).toBe('ok')
    expect(register(d1, { vcpu: 32, offset: 64 })).toBe('ok')
  })

  it('EC-vi-3: the other commands: initialise of an ordinary vCPU does not exist here, up, down and is_up do', () => {
    const { d1 } = host(bits)
    expect(d1.callAnswer(vcpu_op, [VCPUOP.initialise, 1, ARGUMENT])).toBe('ENOSYS')
    const isUp = () => d1.call(vcpu_op, [VCPUOP.is_up, 1, 0])
    expect([
      isUp(),
      d1.call(vcpu_op, [VCPUOP.down, 1, 0]),
      isUp(),
      d1.call(vcpu_op, [VCPUOP.up, 1, 0]),
      isUp(),
    ]).toEqual([1, 0, 0, 0, 1])
    expect(d1.callAnswer(vcpu_op, [VCPUOP.up, 2, 0])).toBe('ENOENT')
  })
})
