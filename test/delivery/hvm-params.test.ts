/** HVM parameters (EC-hvm): kept by number, set and got by those who may; and a domain that is created paused. */

import { describe, expect, it } from 'vitest'
import { HVM_PARAMS, type HvmParamName, HYPERVISOR } from '../../src/abi/index.js'
import { ARGUMENT, type Guest, host } from '../ops/raw.js'
import { GET_PARAM, SET_PARAM } from './entering.js'

const { hvm_op } = HYPERVISOR
const NAMES = Object.keys(HVM_PARAMS) as HvmParamName[]
const SELF = 0x7ff0

function param(guest: Guest, cmd: number, domid: number, index: number, value = 0n): string {
  guest.view.setUint16(ARGUMENT, domid, true)
  guest.view.setUint32(ARGUMENT + 4, index, true)
  guest.view.setBigUint64(ARGUMENT + 8, value, true)
  return guest.callAnswer(hvm_op, [cmd, ARGUMENT])
}
const got = (guest: Guest): bigint => guest.view.getBigUint64(ARGUMENT + 8, true)

describe('HVM parameters', () => {
  it('EC-hvm-1: are 0 at first and keep all 64 bits, whichever way they were set', () => {
    const { d0, d1, xen } = host(64, {}, { type: 'hvm' })
    expect(param(d1, GET_PARAM, SELF, HVM_PARAMS.STORE_PFN.index)).toBe('ok')
    expect(got(d1)).toBe(0n)
    const value = 0xfedc_ba98_7654_3210n
    expect(param(d0, SET_PARAM, 1, HVM_PARAMS.STORE_PFN.index, value)).toBe('ok')
    expect(xen.domain(1)!.hvmParam('STORE_PFN')).toBe(value)
    xen.setHvmParam(xen.domain(1)!, 'CONSOLE_PFN', value - 1n)
    expect(param(d1, GET_PARAM, SELF, HVM_PARAMS.CONSOLE_PFN.index)).toBe('ok')
    expect(got(d1)).toBe(value - 1n)
  })

  it('EC-hvm-1: numbers without a parameter are EINVAL for a control domain, too', () => {
    const { d0 } = host(64, {}, { type: 'hvm' })
    const known = new Set<number>(NAMES.map((name) => HVM_PARAMS[name].index))
    for (let index = 0; index < 42; index++)
      expect(param(d0, SET_PARAM, 1, index, 0n), `parameter ${index}`).toBe(known.has(index) ? 'ok' : 'EINVAL')
  })

  it('EC-hvm-2: of its own a guest sets and gets what the table says, and EPERM else', () => {
    const { d0, d1 } = host(64, {}, { type: 'hvm' })
    for (const name of NAMES) {
      const { index, set, get } = HVM_PARAMS[name]
      expect(param(d1, SET_PARAM, SELF, index, 1n), `set ${name}`).toBe(set ? 'ok' : 'EPERM')
      expect(param(d1, GET_PARAM, SELF, index), `get ${name}`).toBe(get ? 'ok' : 'EPERM')
      expect(param(d0, GET_PARAM, 1, index), `get ${name} by dom0`).toBe('ok')
    }
  })

  it('EC-hvm-3: ALTP2M is set once', () => {
    const { d0, xen } = host(64, {}, { type: 'hvm' })
    const set = (value: bigint) => param(d0, SET_PARAM, 1, HVM_PARAMS.ALTP2M.index, value)
    expect([set(0n), set(2n), set(2n), set(1n)]).toEqual(['ok', 'ok', 'ok', 'EEXIST'])
    expect(() => xen.setHvmParam(xen.domain(1)!, 'ALTP2M', 1n)).toThrow(/ALTP2M of d1 is 2 already \(EEXIST\)/)
  })

  it('setHvmParam refuses a PV domain, a name that there is not, and what is no 64-bit value', () => {
    const { xen } = host(64, {}, { type: 'hvm' })
    const pv = xen.createDomain({ domid: 9, frames: 2 })
    const d1 = xen.domain(1)!
    expect(() => xen.setHvmParam(pv, 'STORE_PFN', 1n)).toThrow('d9 is not an HVM guest')
    expect(() => xen.setHvmParam(d1, 'STORE' as 'STORE_PFN', 1n)).toThrow('setHvmParam: name is "STORE"; allowed:')
    expect(() => xen.setHvmParam(d1, 'STORE_PFN', -1n)).toThrow('setHvmParam: value is -1n')
    expect(() => d1.hvmParam('x' as 'STORE_PFN')).toThrow('d1.hvmParam: name is "x"')
  })
})

describe('a domain created paused', () => {
  it('is upcalled from unpauseDomain on, for events that came before', () => {
    const called: number[] = []
    const { xen, d0 } = host(64, { onUpcall: ({ domid }) => void called.push(domid) })
    const domain = xen.createDomain({ domid: 7, frames: 8, paused: true })
    expect(domain.pauseCount).toBe(1)
    const { port } = domain.eventChannelOp('alloc_unbound', { dom: 7, remote_dom: 0 })
    const mine = d0.domain.eventChannelOp('bind_interdomain', { remote_dom: 7, remote_port: port })
    domain.eventChannelOp('unmask', { port })
    d0.domain.eventChannelOp('send', { port: mine.local_port })
    expect(called).not.toContain(7)
    xen.unpauseDomain(domain)
    expect(called).toContain(7)
    expect(domain.pauseCount).toBe(0)
  })

  it('paused is true or false', () => {
    const { xen } = host(64)
    expect(() => xen.createDomain({ domid: 7, paused: 1 as unknown as boolean })).toThrow('paused is 1; allowed: true')
  })
})
