/** Hypercalls that give way: a multicall between its entries, a reset at every 64th port, and a soft reset step by step. */

import { describe, expect, it } from 'vitest'
import { type Bits, DOMID_SELF, EVTCHNOP, HYPERVISOR, PAGE_SIZE } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type HypercallContinuation, type HypervisorOptions, type Register, SOFTIRQ } from '../../src/index.js'
import { ARGUMENT, END, FREE_GFN, type Guest, host } from './raw.js'

const LIST = FREE_GFN * PAGE_SIZE
const { event_channel_op, multicall, xen_version } = HYPERVISOR

/** A host on which preemption is due at the checks for which `due` says so; counts the checks. */
function world(bits: Bits, due: (check: number) => boolean, options: HypervisorOptions = {}) {
  const counts = { checks: 0 }
  const all = host(bits, { ...options, preempt: () => due(++counts.checks) }, { maxEvtchnPort: 1000 })
  return { ...all, counts }
}

function entry(guest: Guest, index: number, op: number, args: readonly number[]): void {
  const word = guest.domain.bits / 8
  for (const [i, value] of [op, 0xdead, ...args, 0, 0, 0, 0, 0, 0].slice(0, 8).entries()) {
    const at = LIST + (index * 8 + i) * word
    if (word === 8) guest.view.setBigUint64(at, BigInt(value), true)
    else guest.view.setUint32(at, value, true)
  }
}

const wordAt = (guest: Guest, index: number, word: number): number => {
  const at = LIST + ((index * 8 + word) * guest.domain.bits) / 8
  return guest.domain.bits === 64 ? Number(guest.view.getBigInt64(at, true)) : guest.view.getInt32(at, true)
}
const result = (guest: Guest, index: number) => wordAt(guest, index, 1)

const VERSION = (4 << 16) | 17

/** Makes a hypercall to its end, a step at a time; the registers of each step. */
function steps(guest: Guest, nr: Register, args: readonly Register[], between = () => {}) {
  const made: HypercallContinuation[] = []
  let next: number | HypercallContinuation = { nr, args }
  while (typeof next !== 'number') {
    if (made.length) between()
    made.push(next)
    expect(made.length).toBeLessThan(100)
    next = guest.xen.hypercallStep(guest.domain.vcpu(0), next.nr, next.args)
  }
  return { rc: next, made }
}

describe.each([64, 32] as const)('hypercalls that give way, %i-bit', (bits) => {
  const SIZE = bits

  it('EC-op-7: a multicall asks between its entries, and not before the first', () => {
    const { d1, counts } = world(bits, () => false)
    for (let i = 0; i < 5; i++) entry(d1, i, xen_version, [0])
    expect(d1.call(multicall, [LIST, 5])).toBe(0)
    expect(counts.checks).toBe(4)
  })

  it('EC-op-7: a step returns the list from the next entry on, and what is left of the count', () => {
    const { d1 } = world(bits, (check) => check === 2)
    for (let i = 0; i < 5; i++) entry(d1, i, xen_version, [0])
    const { rc, made } = steps(d1, multicall, [LIST, 5])
    expect(rc).toBe(0)
    expect(made.map(({ nr, args }) => [nr, ...args])).toEqual([
      [multicall, LIST, 5],
      [multicall, LIST + 2 * SIZE, 3],
    ])
    expect([0, 1, 2, 3, 4].map((i) => result(d1, i))).toEqual(Array(5).fill(VERSION))
  })

  it('EC-op-7: registers that are bigints stay bigints', () => {
    const { d1 } = world(bits, (check) => check === 1)
    for (let i = 0; i < 2; i++) entry(d1, i, xen_version, [0])
    const { made } = steps(d1, multicall, [BigInt(LIST), 2n])
    expect(made[1]!.args).toEqual([BigInt(LIST + SIZE), 1])
  })

  it('EC-op-7: each entry is made once, and one at least in each step, where preemption is always due', () => {
    const { d1 } = world(bits, () => true)
    d1.write('bind_ipi', { vcpu: 0 })
    for (let i = 0; i < 10; i++) entry(d1, i, event_channel_op, [EVTCHNOP.bind_ipi, ARGUMENT])
    const { rc, made } = steps(d1, multicall, [LIST, 10])
    expect([rc, made.length, inside(d1.domain).ports.activeEvtchns]).toEqual([0, 10, 10])
  })

  it('EC-op-7: without stepping it continues by itself, and pending softirqs run between', () => {
    const { d1, xen } = world(bits, (check) => {
      if (check === 2) xen.softirqs.raise(SOFTIRQ.TASKLET)
      return check === 2
    })
    let seen: number[] = []
    xen.softirqs.open(SOFTIRQ.TASKLET, () => {
      seen = [0, 1, 2, 3].map((i) => result(d1, i))
    })
    for (let i = 0; i < 4; i++) entry(d1, i, xen_version, [0])
    expect(d1.call(multicall, [LIST, 4])).toBe(0)
    expect(seen).toEqual([VERSION, VERSION, 0xdead, 0xdead])
    expect(result(d1, 3)).toBe(VERSION)
  })

  it('EC-op-7: a domain that is killed meanwhile makes no further entry (ESRCH)', () => {
    const { d1, xen } = world(bits, () => {
      xen.softirqs.raise(SOFTIRQ.TASKLET)
      return true
    })
    xen.softirqs.open(SOFTIRQ.TASKLET, () => xen.killDomain(d1.domain))
    for (let i = 0; i < 3; i++) entry(d1, i, xen_version, [0])
    expect(d1.call(multicall, [LIST, 3])).toBe(-3)
    expect([0, 1, 2].map((i) => result(d1, i))).toEqual([VERSION, 0xdead, 0xdead])
  })

  it('EC-op-7, EC-reset-8: a reset is made again as reset_cont', () => {
    const { d1 } = world(bits, (check) => check === 1)
    for (let i = 0; i < 200; i++) d1.ipi()
    d1.write('reset', { dom: DOMID_SELF })
    const active: number[] = []
    const { rc, made } = steps(d1, event_channel_op, [EVTCHNOP.reset, ARGUMENT], () =>
      active.push(inside(d1.domain).ports.activeEvtchns),
    )
    expect(rc).toBe(0)
    expect(made.map(({ nr, args }) => [nr, ...args])).toEqual([
      [event_channel_op, EVTCHNOP.reset, ARGUMENT],
      [event_channel_op, EVTCHNOP.reset_cont, ARGUMENT],
    ])
    expect(active).toEqual([200 - 64])
    expect(inside(d1.domain).ports.activeEvtchns).toBe(0)
  })

  it('EC-op-7: a reset inside a multicall becomes reset_cont in the guest’s own entry', () => {
    // Asked before entry 1, then at port 64.
    const { d1 } = world(bits, (check) => check === 2)
    for (let i = 0; i < 200; i++) d1.ipi()
    d1.write('reset', { dom: DOMID_SELF })
    entry(d1, 0, xen_version, [0])
    entry(d1, 1, event_channel_op, [EVTCHNOP.reset, ARGUMENT])
    entry(d1, 2, xen_version, [0])
    const cmds: number[] = []
    const { rc, made } = steps(d1, multicall, [LIST, 3], () => cmds.push(wordAt(d1, 1, 2), result(d1, 1)))
    expect(rc).toBe(0)
    expect(cmds).toEqual([EVTCHNOP.reset_cont, 0xdead])
    expect(made.map(({ args }) => args)).toEqual([
      [LIST, 3],
      [LIST + SIZE, 2],
    ])
    expect([0, 1, 2].map((i) => result(d1, i))).toEqual([VERSION, 0, VERSION])
    expect(inside(d1.domain).ports.activeEvtchns).toBe(0)
  })

  it('EC-op-7: a hypercall that an upcall makes between two steps is no step: it runs to its end', () => {
    const nested: number[] = []
    const { d1, xen } = world(bits, () => true, {
      onUpcall: (vcpu) => {
        if (nested.length) return
        nested.push(0)
        for (let i = 4; i < 7; i++) entry(d1, i, xen_version, [0])
        nested[0] = xen.hypercall(vcpu, multicall, [LIST + 4 * SIZE, 3])
      },
    })
    const port = d1.ipi()
    d1.write('send', { port })
    entry(d1, 0, event_channel_op, [EVTCHNOP.send, ARGUMENT])
    entry(d1, 1, xen_version, [0])
    expect(steps(d1, multicall, [LIST, 2]).rc).toBe(0)
    expect(nested).toEqual([0])
    expect([4, 5, 6].map((i) => result(d1, i))).toEqual([VERSION, VERSION, VERSION])
  })

  it('EC-op-7: whatever gives way or is refused is told: -errno and the reason come out of a step as out of a call', () => {
    const { d1, xen } = world(bits, () => true)
    const told: string[] = []
    const step = (nr: number, args: number[]) =>
      xen.hypercallStep(d1.domain.vcpu(0), nr, args, ({ text }) => void told.push(text))
    expect(step(999, [])).toBe(-38)
    expect(step(multicall, [END, 1])).toBe(-14)
    entry(d1, 0, xen_version, [0])
    entry(d1, 1, xen_version, [0])
    expect(step(multicall, [LIST, 2])).toEqual({ nr: multicall, args: [LIST + SIZE, 1] })
    expect(told).toEqual(['hypercall 999 does not exist', 'entry 0 cannot be read'])
    xen.killDomain(d1.domain)
    expect(step(multicall, [LIST, 2])).toBe(-3)
  })

  it('EC-die-6, EC-reset-8: a soft reset goes step by step, and the domain runs after the last', () => {
    const { d1, xen } = world(bits, () => true)
    for (let i = 0; i < 200; i++) d1.ipi()
    inside(d1.domain).shutdownCode = 5
    const active: number[] = []
    while (!xen.softResetStep(d1.domain)) {
      active.push(inside(d1.domain).ports.activeEvtchns)
      expect(inside(d1.domain).shutdownCode).toBe(5)
    }
    expect(active).toEqual([136, 72, 8])
    expect([inside(d1.domain).ports.activeEvtchns, inside(d1.domain).shutdownCode]).toEqual([0, -1])
    expect(() => xen.softResetStep(d1.domain)).toThrow(/is not shut down \(EINVAL\)/)
  })
})
