/** Typed calls about domains that do not fit: windows, numbers that nothing has, states with nonsense in them. */

import { describe, expect, it } from 'vitest'
import { type Domain, Hypervisor, ParameterError, RestoreError, XenError } from '../src/index.js'
import { type Machine, machine, notBoolean, notFunction, notNumber, notObject, notWord } from './nonsense.js'

describe('a window', () => {
  it('NL-bad-1: that another domain is in, or a part of it, is refused; beside it, and where one has died, is room', () => {
    const xen = Hypervisor.create()
    const memory = new WebAssembly.Memory({ initial: 1 })
    const at = (domid: number, frame: number, frames: number) =>
      xen.createDomain({ domid, memory, base: frame * 4096, frames })
    at(1, 4, 4)
    for (const [frame, frames] of [
      [4, 4],
      [0, 5],
      [7, 1],
      [5, 2],
      [0, 16],
    ] as const)
      expect(() => at(2, frame, frames), `${frames} from ${frame}`).toThrow(
        `base is ${frame * 4096}; allowed: a window apart from that of domain 1`,
      )
    expect(xen.domids()).toEqual([1])
    const state = xen.saveDomain(xen.domain(1)!, { mode: 'transparent' })
    expect(() => xen.restoreDomain(state, { domid: 3, memory, base: 5 * 4096 })).toThrow(ParameterError)
    for (const [domid, frame] of [
      [2, 0],
      [3, 8],
    ] as const)
      at(domid, frame, 4)
    xen.killDomain(xen.domain(1)!)
    at(4, 4, 4)
    expect(xen.domids()).toEqual([1, 2, 3, 4])
  })
})

/** A domain that was destroyed. */
function gone(xen: Hypervisor): Domain {
  const domain = xen.createDomain({ domid: 7 })
  xen.destroyDomain(domain)
  return domain
}

describe('a number in range that nothing has', () => {
  it.each([
    ['ESRCH', ({ xen }: Machine) => xen.pauseDomain(gone(xen))],
    ['ESRCH', ({ xen }: Machine) => xen.saveDomain(gone(xen))],
    ['EINVAL', ({ d1 }: Machine) => d1.eventChannelOp('send', { port: 4000 })],
    ['EINVAL', ({ kernel }: Machine) => kernel.send(200_000)],
    ['ESRCH', ({ kernel }: Machine) => kernel.bindInterdomain(9, 1, { handler() {} })],
    ['EINVAL', ({ kernel }: Machine) => kernel.bindVirq(24, { handler() {} })],
    ['ENOTCONN', ({ handle }: Machine) => handle.notify(4000)],
  ])('is %s, as Xen answers', (code, call) => {
    let thrown: unknown
    try {
      call(machine())
    } catch (error) {
      thrown = error
    }
    expect(thrown).toBeInstanceOf(XenError)
    expect((thrown as XenError).code).toBe(code)
  })
})

describe('restoreDomain', () => {
  const { xen } = machine()
  const state = xen.saveDomain(xen.domain(1)!, { mode: 'transparent', freeze: false })
  it.each([
    ['options', notObject],
    ['replaces', notObject],
    ['pirqs', [null, 'x', 7, {}]],
    ['pirqs[0]', notNumber],
    ['globalVirqs', [null, 'x', 7, {}]],
    ['globalVirqs[0]', [...notNumber, 24]],
    ['domid', notNumber],
    ['bits', [...notWord, 16]],
    ['maxEvtchnPort', notNumber.filter((each) => each !== Infinity)],
    ['privileged', notBoolean],
    ['memory', [...notObject, {}]],
    ['base', notNumber],
    ['translate', notFunction],
    ['sharedInfoGfn', notNumber],
    ['nrPirqs', notNumber],
    ['nlevelAllowed', notBoolean],
    ['maxLevels', notNumber],
    ['maxLeafPages', notNumber],
  ] as const)('%s of a wrong type or range is named, and nothing was restored', (name, wrong) => {
    const to = Hypervisor.create()
    for (const bad of wrong as readonly unknown[]) {
      const list = /^(\w+)\[0\]$/.exec(name)
      const options = name === 'options' ? bad : list ? { [list[1]!]: [bad] } : { [name]: bad }
      let thrown: unknown = 'nothing'
      try {
        to.restoreDomain(state, options as never)
      } catch (error) {
        thrown = error
      }
      expect(thrown, String(bad)).toBeInstanceOf(ParameterError)
      expect((thrown as Error).message).toContain(`: ${name} is `)
    }
    expect(to.domids()).toEqual([])
    expect(() => to.restoreDomain({ ...state, bits: 32 }, { bits: 64 })).toThrow(RestoreError)
  })
})
