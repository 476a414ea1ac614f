/** EVTCHNOP_unmask (spec 2.14): its one errno, the ports on which it does nothing, and to whom it delivers. */

import { describe, expect, it } from 'vitest'
import { END, host, NOWHERE } from './raw.js'

describe.each([64, 32] as const)('unmask, %i-bit', (bits) => {
  it('EC-op-2: a struct that cannot be read fails before anything else (EFAULT)', () => {
    const { d1 } = host(bits)
    expect(d1.answer('unmask', {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('unmask', {}, { at: END - 3 })).toBe('EFAULT')
    expect(d1.answer('unmask', { port: 1 }, { at: END - 4 })).toBe('ok')
  })

  it.each([64, 4096, 0x8000_0000, 0xffff_ffff])('EC-unmask-1: port %i is not valid (EINVAL)', (port) => {
    expect(host(bits).d1.answer('unmask', { port })).toBe('EINVAL')
  })

  it('EC-unmask-2, EC-port-2, EC-odd-5: on a free port, port 0 and a Xen-attached one it answers 0 and does nothing', () => {
    const { xen, d1 } = host(bits)
    const attached = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 2, notify: () => {} })
    for (const port of [0, 9, attached]) {
      d1.setBit('mask', port)
      d1.setBit('pending', port)
      expect(d1.answer('unmask', { port })).toBe('ok')
      expect([d1.bit('mask', port), d1.bit('pending', port), d1.sel(), d1.flag()]).toEqual([1, 1, 0n, 0])
    }
  })

  it('EC-unmask-3: it delivers to the port’s vCPU, whoever calls', () => {
    const { d1 } = host(bits)
    const port = d1.ipi(1)
    d1.setBit('mask', port)
    d1.must('send', { port })
    expect([d1.flag(0), d1.flag(1)]).toEqual([0, 0])
    d1.must('unmask', { port }, { vcpu: 0 })
    expect([d1.flag(0), d1.flag(1), d1.sel(1), d1.bit('mask', port), d1.bit('pending', port)]).toEqual([0, 1, 1n, 0, 1])
  })

  it('EC-2l-8: masked and not pending: the mask bit goes, nothing else', () => {
    const { d1 } = host(bits)
    const port = d1.ipi()
    d1.setBit('mask', port)
    d1.must('unmask', { port })
    expect([d1.bit('mask', port), d1.sel(), d1.flag()]).toEqual([0, 0n, 0])
  })

  it('EC-2l-8, EC-odd-18: a port that is pending and was not masked: nothing at all', () => {
    const { d1 } = host(bits)
    const port = d1.ipi()
    d1.setBit('pending', port)
    d1.must('unmask', { port })
    expect([d1.bit('pending', port), d1.sel(), d1.flag()]).toEqual([1, 0n, 0])
  })
})
