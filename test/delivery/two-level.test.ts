/** The 2-level ABI bit by bit (spec part 3.1, 3.3): set pending, clear, unmask, and what the guest has to do itself. */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, SCHEDOP, sharedInfo, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'

import { FREE_GFN, type Guest, host, SHARED_INFO } from '../ops/raw.js'

/** Makes a vCPU poll for anything at all, for ever. */
const pollAny = (guest: Guest, vcpu: number) => guest.call(HYPERVISOR.sched_op, [SCHEDOP.poll, FREE_GFN * 4096], vcpu)

/** A guest with an open port, its peer's end, and the upcall edges that its vCPUs saw. */
function pair(bits: 32 | 64) {
  const edges: number[] = []
  const all = host(bits, { trace: { upcall: (vcpu) => void (vcpu.domid === 1 && edges.push(vcpu.vcpuId)) } })
  const [peer, port] = all.d2.connect(all.d1)
  const send = () => all.d2.must('send', { port: peer })
  edges.length = 0
  return { ...all, edges, port, peer, send }
}

describe.each([64, 32] as const)('set pending, %i-bit', (bits) => {
  it('EC-2l-1: a pending bit that is set stops everything: no selector, no upcall, no poller', () => {
    const { d1, edges, port, send } = pair(bits)
    pollAny(d1, 1)
    d1.setBit('pending', port)
    send()
    expect([d1.sel(), d1.flag(), d1.domain.vcpu(1).polling, edges]).toEqual([0n, 0, true, []])
  })

  it('EC-2l-2: a mask bit that is set leaves selector and flag alone', () => {
    const { d1, edges, port, send } = pair(bits)
    d1.setBit('mask', port)
    send()
    expect([d1.bit('pending', port), d1.sel(), d1.flag(), edges]).toEqual([1, 0n, 0, []])
  })

  it('EC-2l-2, EC-lay-3: the selector bit is the port’s word', () => {
    const { d1 } = pair(bits)
    for (const port of [2, 31, 32, 63, 64, 65, 95, 96, 100]) {
      while (!inside(d1.domain).ports.isValid(port) || d1.state(port) === 0) d1.ipi()
      d1.quiet()
      d1.must('send', { port })
      expect(d1.sel()).toBe(1n << BigInt(Math.floor(port / bits)))
      const { pending } = sharedInfo(bits)
      const byte = SHARED_INFO + pending + Math.floor(port / bits) * (bits / 8) + Math.floor((port % bits) / 8)
      expect(d1.bytes[byte]).toBe(1 << (port % 8))
    }
  })

  it('EC-2l-3: a selector bit that is set leaves the flag alone', () => {
    const { d1, edges, port, send } = pair(bits)
    d1.view.setUint32(SHARED_INFO + sharedInfo(bits).sel, 1, true)
    send()
    expect([d1.bit('pending', port), d1.flag(), edges]).toEqual([1, 0, []])
  })

  it('EC-2l-4: pollers are woken last, and for a masked port too', () => {
    const order: string[] = []
    const all = host(bits, {
      trace: { upcall: () => void order.push('upcall') },
      onUnblock: (vcpu) => void order.push(`v${vcpu.vcpuId} goes on`),
    })
    const port = all.d1.ipi(0)
    pollAny(all.d1, 1)
    all.d1.must('send', { port })
    expect(order).toEqual(['upcall', 'v1 goes on'])
    all.d1.quiet()
    all.d1.setBit('mask', port)
    pollAny(all.d1, 1)
    all.d1.must('send', { port })
    expect(order).toEqual(['upcall', 'v1 goes on', 'v1 goes on'])
  })

  it('EC-2l-5: clearing a pending bit leaves a stale selector, which makes the next event silent', () => {
    const { d1, d2, edges, port, peer, send } = pair(bits)
    send()
    d1.setFlag(0)
    d1.must('close', { port })
    expect([d1.bit('pending', port), d1.sel()]).toEqual([0, 1n])
    d1.must('bind_interdomain', { remote_dom: 2, remote_port: peer })
    expect([d1.bit('pending', port), d1.flag(), edges]).toEqual([1, 0, [0]])
    expect(d2.flag()).toBe(0)
  })

  it('EC-2l-6: pending and mask are read where the guest has them', () => {
    const { d1, port } = pair(bits)
    expect([d1.domain.isPending(port), d1.domain.isMasked(port)]).toEqual([false, false])
    d1.setBit('pending', port)
    d1.setBit('mask', port)
    expect([d1.domain.isPending(port), d1.domain.isMasked(port)]).toEqual([true, true])
  })

  it('EC-2l-6, EC-XSA-342: a port beyond W·W is never pending, always masked, and touches no byte', () => {
    const { d1 } = pair(bits)
    const { portOps } = inside(d1.domain)
    const before = d1.bytes.slice()
    for (const port of [bits * bits, bits * bits + 1, 131071]) {
      expect([portOps.isPending(port), portOps.isMasked(port)]).toEqual([false, true])
      portOps.setPending(port)
      portOps.clearPending(port)
      portOps.unmask(port)
    }
    expect(Buffer.compare(d1.bytes, before)).toBe(0)
  })

  it('EC-2l-7, EC-prio-2: nothing is set up at a bind: no bit of the guest’s changes', () => {
    const { d1 } = pair(bits)
    const shared = () => d1.bytes.slice(SHARED_INFO, SHARED_INFO + 4096)
    const before = shared()
    d1.ipi()
    d1.virq(VIRQ.TIMER)
    d1.unbound(2)
    expect(Buffer.compare(shared(), before)).toBe(0)
  })

  it('EC-2l-8: unmask delivers once, if the port was masked, is pending, and its selector was clear', () => {
    const { d1, edges, port, send } = pair(bits)
    d1.setBit('mask', port)
    send()
    d1.must('unmask', { port })
    expect([d1.bit('mask', port), d1.sel(), d1.flag(), edges]).toEqual([0, 1n, 1, [0]])
    d1.setFlag(0)
    d1.must('unmask', { port })
    expect([d1.flag(), edges]).toEqual([0, [0]])
    d1.setBit('mask', port)
    d1.must('unmask', { port })
    expect([d1.flag(), edges]).toEqual([0, [0]])
  })

  it('EC-2l-8: unmask wakes no poller of the port', () => {
    const { d1, port, send } = pair(bits)
    d1.must('bind_vcpu', { port, vcpu: 0 })
    d1.setBit('mask', port)
    send()
    pollAny(d1, 1)
    d1.must('unmask', { port })
    expect([d1.flag(0), d1.domain.vcpu(1).polling]).toEqual([1, true])
  })
})

describe.each([64, 32] as const)('the guest’s side of the contract, %i-bit', (bits) => {
  it('EC-guest-1: signals on a port that is pending merge, and only the guest clears the bit', () => {
    const { d1, edges, port, send } = pair(bits)
    for (let i = 0; i < 5; i++) send()
    expect([d1.bit('pending', port), d1.flag(), edges]).toEqual([1, 1, [0]])
    d1.quiet()
    send()
    expect(edges).toEqual([0, 0])
  })

  it('EC-guest-1: the hypervisor writes a mask bit in the unmask operation only', () => {
    const { d1, d2, port, peer, send } = pair(bits)
    for (let each = 0; each < 128; each++) d1.setBit('mask', each)
    const masks = () => Array.from({ length: 128 }, (_, each) => d1.bit('mask', each)).indexOf(0)
    send()
    d1.must('bind_vcpu', { port, vcpu: 1 })
    d1.must('close', { port })
    d1.ipi()
    d2.must('close', { port: peer })
    d1.must('reset', { dom: 1 })
    expect(masks()).toBe(-1)
    const ipi = d1.ipi()
    d1.must('unmask', { port: ipi })
    expect(masks()).toBe(ipi)
  })

  it('EC-guest-2: an edge while masked is silent for ever, if the guest just clears the mask bit', () => {
    const { d1, edges, port, send } = pair(bits)
    d1.setBit('mask', port)
    send()
    d1.setBit('mask', port, 0)
    send()
    expect([d1.bit('pending', port), d1.flag(), edges]).toEqual([1, 0, []])
  })

  it('EC-guest-3: flag first, then selector: an event in between raises the flag anew', () => {
    const { d1, edges, send } = pair(bits)
    send()
    d1.setFlag(0)
    const sel = SHARED_INFO + sharedInfo(bits).sel
    d1.bytes.fill(0, sel, sel + bits / 8)
    d1.setBit('pending', 1, 0)
    send()
    expect([d1.flag(), d1.sel(), edges]).toEqual([1, 1n, [0, 0]])
  })

  it('EC-guest-3: the other way round loses it: the flag is cleared after the event came', () => {
    const { d1, edges, send } = pair(bits)
    const sel = SHARED_INFO + sharedInfo(bits).sel
    send()
    d1.bytes.fill(0, sel, sel + bits / 8)
    d1.setBit('pending', 1, 0)
    send()
    d1.setFlag(0)
    expect([d1.flag(), d1.sel(), edges]).toEqual([0, 1n, [0]])
  })

  it('EC-guest-4: a handler that sends to its own port is served again, for pending is cleared before it runs', () => {
    const { d1, port, send } = pair(bits)
    send()
    let served = 0
    while (d1.flag()) {
      d1.setFlag(0)
      const sel = SHARED_INFO + sharedInfo(bits).sel
      d1.bytes.fill(0, sel, sel + bits / 8)
      if (!d1.bit('pending', port)) continue
      d1.setBit('pending', port, 0)
      if (++served < 3) send()
    }
    expect(served).toBe(3)
  })
})
