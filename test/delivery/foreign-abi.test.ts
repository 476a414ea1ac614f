/**
 * An ABI that the host core does not know. Its operations are TypeScript, and everything that raises, looks at or unmasks
 * an event comes to them: the core leaves such a domain alone.
 */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, SCHEDOP, VIRQ } from '../../src/abi/index.js'
import type { Domain } from '../../src/domain/domain.js'
import { inside } from '../../src/domain/handles.js'
import type { PortOps } from '../../src/domain/port_ops.js'
import { ARGUMENT, host } from '../ops/raw.js'

/** Pending and masked ports as sets; each event that becomes visible kicks vCPU 0. */
class SetOps implements PortOps {
  readonly abi = 99
  readonly levels = 0
  readonly bits = 64
  readonly maxEvtchns = 4096
  readonly pending = new Set<number>()
  readonly masked = new Set<number>()
  readonly #domain: Domain

  constructor(domain: Domain) {
    this.#domain = domain
  }

  setPending(port: number): void {
    if (this.pending.has(port)) return
    this.pending.add(port)
    if (!this.masked.has(port)) this.#domain.markEventsPending(this.#domain.vcpus[0]!)
    this.#domain.checkPollers(port)
  }
  clearPending(port: number): void {
    this.pending.delete(port)
  }
  unmask(port: number): void {
    if (this.masked.delete(port) && this.pending.has(port)) this.#domain.markEventsPending(this.#domain.vcpus[0]!)
  }
  isPending(port: number): boolean {
    return this.pending.has(port)
  }
  isMasked(port: number): boolean {
    return this.masked.has(port)
  }
  moved(): void {}
  selectorDigits(): string {
    return 'sets'
  }
}

/** A domain on the foreign ABI, and a peer that is connected to its port 1. */
function machine() {
  const { xen, d1, d2 } = host(64)
  const domain = inside(d1.domain)
  const ops = new SetOps(domain)
  const { port } = d1.must('alloc_unbound', { dom: 1, remote_dom: 2 })
  const { local_port: peerPort } = d2.must('bind_interdomain', { remote_dom: 1, remote_port: port })
  domain.useOps(ops)
  const words = () => d1.bytes.slice(0x1000, 0x2000)
  const before = words()
  // vcpu_info is Xen's own; the bitmaps behind it are what this ABI has no use for.
  const untouched = () => expect(words().slice(2048)).toEqual(before.slice(2048))
  return { xen, d1, d2, ops, port, peerPort, untouched }
}

describe('an ABI of TypeScript only', () => {
  it('EC-send-5: a send from another domain comes to its operations, once until it is cleared', () => {
    const { d2, ops, port, peerPort, untouched } = machine()
    expect(d2.answer('send', { port: peerPort })).toBe('ok')
    expect([...ops.pending]).toEqual([port])
    d2.must('send', { port: peerPort })
    expect([...ops.pending]).toEqual([port])
    untouched()
  })

  it('EC-send-7: an IPI of its own and a VIRQ come to them too', () => {
    const { xen, d1, ops, untouched } = machine()
    const ipi = d1.ipi()
    const { port: timer } = d1.must('bind_virq', { virq: VIRQ.TIMER, vcpu: 0 })
    d1.must('send', { port: ipi })
    xen.sendVirq(d1.domain.vcpu(0), VIRQ.TIMER)
    expect([...ops.pending].sort()).toEqual([ipi, timer].sort())
    untouched()
  })

  it('EC-unmask-2: an unmask comes to them, and not for a port that is not usable', () => {
    const { d1, d2, ops, port, peerPort } = machine()
    ops.masked.add(port)
    d2.must('send', { port: peerPort })
    const flag = () => d1.flag()
    d1.setFlag(0)
    expect(flag()).toBe(0)
    d1.must('unmask', { port })
    expect([flag(), ops.masked.size]).toEqual([1, 0])
    ops.masked.add(port + 1)
    expect(d1.answer('unmask', { port: port + 1 })).toBe('ok')
    expect(ops.masked.size).toBe(1)
  })

  it('EC-poll-8, EC-up-11: a poll looks at them, and an event wakes it', () => {
    const { xen, d1, d2, ops, port, peerPort } = machine()
    d1.setFlag(0)
    const vcpu = inside(d1.domain).vcpus[0]!
    const poll = () => {
      d1.view.setUint32(ARGUMENT + 64, port, true)
      d1.view.setBigUint64(ARGUMENT, BigInt(ARGUMENT + 64), true)
      d1.view.setUint32(ARGUMENT + 8, 1, true)
      d1.view.setBigUint64(ARGUMENT + 16, 0n, true)
      return xen.hypercall(d1.domain.vcpu(0), HYPERVISOR.sched_op, [SCHEDOP.poll, ARGUMENT])
    }
    ops.masked.add(port)
    expect([poll(), vcpu.polling]).toEqual([0, true])
    d2.must('send', { port: peerPort })
    expect([vcpu.polling, vcpu.blocked]).toEqual([false, false])
    expect([poll(), vcpu.polling]).toEqual([0, false])
  })

  it('EC-close-9, EC-reset-9: a close clears there, and a reset leads back to two levels', () => {
    const { d1, d2, ops, port, peerPort } = machine()
    d2.must('send', { port: peerPort })
    d1.must('close', { port })
    expect(ops.pending.size).toBe(0)
    expect(d1.answer('send', { port })).toBe('EINVAL')
    d2.must('send', { port: peerPort })
    expect(ops.pending.size).toBe(0)
  })
})
