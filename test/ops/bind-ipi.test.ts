/** EVTCHNOP_bind_ipi (spec 2.8): every errno in the order of the checks, then what it does. */

import { describe, expect, it } from 'vitest'
import { ECS } from '../../src/abi/index.js'

import { END, host, NOWHERE, READ_ONLY } from './raw.js'

describe.each([64, 32] as const)('bind_ipi, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('bind_ipi', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('bind_ipi', {}, { at: END - 7 })).toBe('EFAULT')
    expect(d1.answer('bind_ipi', { vcpu: 0 }, { at: END - 8 })).toBe('ok')
  })

  it.each([2, 32, 0x8000_0000, 0xffff_ffff])('EC-ipi-1: there is no vCPU %i (ENOENT)', (vcpu) => {
    expect(host(bits).d1.answer('bind_ipi', { vcpu })).toBe('ENOENT')
  })

  it('EC-ipi-1 before EC-ipi-2: also if no port is left, and if the domain is dying (ENOENT)', () => {
    const { xen, d1 } = host(bits)
    d1.fill()
    expect(d1.answer('bind_ipi', { vcpu: 2 })).toBe('ENOENT')
    xen.killDomain(xen.domain(1)!)
    expect(d1.inside('bind_ipi', { vcpu: 2 })).toBe('ENOENT')
    expect(d1.inside('bind_ipi', { vcpu: 0 })).toBe('EINVAL')
  })

  it('EC-ipi-2: no port is left (ENOSPC)', () => {
    const { d1 } = host(bits)
    d1.fill()
    expect(d1.answer('bind_ipi', { vcpu: 1 })).toBe('ENOSPC')
  })

  it('EC-ipi-3: the port is on its vCPU for ever, and a vCPU may have any number of them', () => {
    const { d1 } = host(bits)
    for (let port = 1; port <= 70; port++) expect(d1.ipi(1)).toBe(port)
    expect(d1.state(70)).toBe(ECS.IPI)
    expect(d1.status(70)).toMatchObject({ status: 5, vcpu: 1 })
    expect(d1.answer('bind_vcpu', { port: 70, vcpu: 0 })).toBe('EINVAL')
    expect([d1.flag(0), d1.flag(1)]).toEqual([0, 0])
  })

  it('EC-ipi-3: no policy is asked', () => {
    const no = () => -1
    const xsm = {
      name: 'no',
      evtchnUnbound: no,
      evtchnInterdomain: no,
      evtchnSend: no,
      evtchnStatus: no,
      evtchnReset: no,
    }
    expect(host(bits, { xsm }).d1.ipi()).toBe(1)
  })

  it('EC-op-3: the copy-out fails (EFAULT) and the port is open all the same', () => {
    const { d1 } = host(bits)
    expect(d1.op('bind_ipi', { vcpu: 1 }, { at: READ_ONLY })).toBe(-14)
    expect(d1.status(1)).toMatchObject({ status: 5, vcpu: 1 })
  })
})
