/** What an emulator's author hooks into: unknown hypercalls, shutdown, features, and whether a vCPU may run. */

import { describe, expect, it } from 'vitest'
import { Errno, type FallThrough, Hypervisor, type HypervisorOptions } from '../../src/index.js'

const ARGUMENT = 0x4000
const CONSOLE_IO = 18
const SCHED_OP = 29
const SCHEDOP = { block: 1, shutdown: 2 } as const

function host(options: HypervisorOptions = {}) {
  const xen = Hypervisor.create(options)
  const domain = xen.createDomain({ domid: 1, bits: 32, type: 'hvm', vcpus: 2 })
  return { xen, domain, call: (nr: number, ...args: number[]) => xen.hypercall(domain.vcpu(0), nr, args) }
}

describe('unknown hypercalls', () => {
  it('EC-op-1: without an embedder’s function they are ENOSYS', () => {
    expect(host().call(CONSOLE_IO, 0, 5, ARGUMENT)).toBe(-Errno.ENOSYS)
  })

  it('the embedder gets number, registers and the guest’s memory', () => {
    const seen: unknown[] = []
    const hypercall: FallThrough = (caller, nr, args) => {
      const text = caller.copyIn(args[2]!, args[1]!)!
      seen.push(caller.domain.domid, caller.vcpu.vcpuId, nr, args.slice(0, 3), String.fromCharCode(...text))
      expect(caller.copyIn(0x7fff_f000, 4)).toBeUndefined()
      expect(caller.copyOut(0x7fff_f000, text)).toBe(false)
      expect(caller.copyOut(ARGUMENT + 8, text)).toBe(true)
      return 5
    }
    const { domain, call } = host({ hypercall })
    domain.memory.view().set([104, 101, 108, 108, 111], ARGUMENT)
    expect(call(CONSOLE_IO, 0, 5, ARGUMENT)).toBe(5)
    expect(seen).toEqual([1, 0, CONSOLE_IO, [0, 5, ARGUMENT], 'hello'])
    expect(String.fromCharCode(...domain.memory.view().subarray(ARGUMENT + 8, ARGUMENT + 13))).toBe('hello')
  })

  it('registers are unsigned: a pointer above 2 GiB is no negative number', () => {
    const third: unknown[] = []
    host({ hypercall: (_, _nr, args) => void third.push(args[2]) }).call(CONSOLE_IO, 0, 0, -4096)
    expect(third).toEqual([2 ** 32 - 4096])
  })

  it('it is asked for operations that the library does not know, and for nothing that it knows', () => {
    const asked: number[] = []
    const { call } = host({ hypercall: (_, nr) => void asked.push(nr) })
    for (const [nr, cmd] of [
      [12, 99],
      [17, 99],
      [20, 99],
      [24, 99],
      [29, 99],
      [33, 99],
      [34, 99],
      [77, 0],
    ] as const)
      expect(call(nr, cmd, 0, 0), `${nr}`).toBe(-Errno.ENOSYS)
    expect(asked).toEqual([12, 17, 20, 24, 29, 33, 34, 77])
    expect(call(17, 0, 0)).toBeGreaterThan(0)
    expect(call(29, 0, 0)).toBe(0)
    expect(asked.length).toBe(8)
  })

  it('-errno of the embedder is the guest’s, with a reason', () => {
    const { xen, domain } = host({ hypercall: () => -Errno.EPERM })
    let reason = ''
    const rc = xen.hypercall(domain.vcpu(0), 77, [], (refusal) => {
      reason = refusal.text
    })
    expect(rc).toBe(-Errno.EPERM)
    expect(reason).toBe('the embedder refused hypercall 77')
  })

  it.each([['text'], [1.5], [-5000], [2 ** 31], [null]])(
    '%j is no result: it is reported, and the guest gets ENOSYS',
    (value) => {
      const reported: unknown[] = []
      const hypercall = (() => value) as unknown as FallThrough
      expect(host({ hypercall, onError: (error) => reported.push(error) }).call(77)).toBe(-Errno.ENOSYS)
      expect(reported).toHaveLength(1)
      expect(String(reported[0])).toContain('hypercall 77')
    },
  )
})

describe('shutdown', () => {
  it('EC-vclass-6: the embedder is told once, with the first reason', () => {
    const told: unknown[] = []
    const { domain, call } = host({ onShutdown: (who, reason) => told.push([who, reason]) })
    for (const reason of [3, 1]) {
      domain.memory.data.setUint32(ARGUMENT, reason, true)
      expect(call(SCHED_OP, SCHEDOP.shutdown, ARGUMENT)).toBe(0)
    }
    expect(told).toEqual([[domain, 3]])
  })

  it('it is told when the last vCPU goes down', () => {
    const told: number[] = []
    const { call } = host({ onShutdown: (_, reason) => told.push(reason) })
    expect(call(24, 2, 1, 0)).toBe(0)
    expect(told).toEqual([])
    expect(call(24, 2, 0, 0)).toBe(0)
    expect(told).toEqual([0])
  })

  it('the domain may be destroyed from there', () => {
    const { xen, domain, call } = host({ onShutdown: (who) => xen.destroyDomain(who) })
    domain.memory.data.setUint32(ARGUMENT, 0, true)
    expect(call(SCHED_OP, SCHEDOP.shutdown, ARGUMENT)).toBe(0)
    expect(xen.domids()).toEqual([])
  })
})

describe('may a vCPU run?', () => {
  it('not while it is blocked', () => {
    const { domain, call } = host()
    expect(domain.vcpu(0).runnable).toBe(true)
    expect(call(SCHED_OP, SCHEDOP.block, 0)).toBe(0)
    expect(domain.vcpu(0).runnable).toBe(false)
    expect(domain.vcpu(1).runnable).toBe(true)
  })

  it('not while its domain is paused, shut down, frozen or dead', () => {
    const { xen, domain, call } = host()
    const runs = () => domain.vcpu(0).runnable
    xen.pauseDomain(domain)
    expect(runs()).toBe(false)
    xen.unpauseDomain(domain)
    expect(runs()).toBe(true)
    const move = xen.beginMigration(domain)
    expect(runs()).toBe(false)
    move.abort()
    expect(runs()).toBe(true)
    domain.memory.data.setUint32(ARGUMENT, 0, true)
    call(SCHED_OP, SCHEDOP.shutdown, ARGUMENT)
    expect(runs()).toBe(false)
    xen.resumeDomain(domain)
    expect(runs()).toBe(true)
    xen.destroyDomain(domain)
    expect(runs()).toBe(false)
  })
})

it('the feature word is the creator’s to choose', () => {
  const xen = Hypervisor.create()
  const domain = xen.createDomain({ domid: 1, type: 'hvm', features: 0x10d })
  expect(xen.hypercall(domain.vcpu(0), 17, [6, ARGUMENT])).toBe(0)
  expect(domain.memory.data.getUint32(ARGUMENT + 4, true)).toBe(0x10d)
})
