/** Advisories and bugs about the port table and its locks, one regression test each. FIFO's: test/fifo/advisories.test.ts. */

import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, describe, expect, it, vi } from 'vitest'
import {
  type Args,
  type Bits,
  ECS,
  type EvtchnOpName,
  PAGE_SIZE,
  SCHEDOP,
  sharedInfo,
  VIRQ,
} from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { PortTable } from '../../src/domain/port_table.js'
import { Summary } from '../../src/domain/summary.js'
import { worldOf } from '../../src/hypervisor/index.js'
import { type Domain, Hypervisor, RestoreError, type Vcpu } from '../../src/index.js'
import { enough, memoryFor } from '../machine/scarce.js'
import { FREE_GFN, host, nameOf, SHARED_INFO } from '../ops/raw.js'

afterEach(enough)

describe('growth of the port table', () => {
  const scarce = {
    'a new bucket': () => memoryFor(0),
    'the summary of free ports': () =>
      vi.spyOn(Summary.prototype, 'grow').mockImplementation(() => {
        throw new RangeError('Array buffer allocation failed')
      }),
  }
  it.each(Object.keys(scarce))('EC-XSA-47, EC-port-12: no memory for %s (ENOMEM): as before it', (what) => {
    const { d1 } = host(64)
    for (let port = 1; port < 64; port++) d1.ipi()
    scarce[what as keyof typeof scarce]()
    const answer = d1.answer('bind_ipi', { vcpu: 0 })
    enough()
    expect([answer, inside(d1.domain).ports.validEvtchns, inside(d1.domain).ports.activeEvtchns]).toEqual([
      'ENOMEM',
      64,
      63,
    ])
    expect(d1.answer('status', { dom: 1, port: 64 })).toBe('EINVAL')
    expect(inside(d1.domain).eventLock.held).toBe(false)
    expect([d1.ipi(), d1.ipi()]).toEqual([64, 65])
  })

  it('EC-init-5, EC-XSA-188: no memory for the queues (ENOMEM): the domain is on two levels as before', () => {
    const { d1 } = host(64)
    const init = { control_gfn: FREE_GFN, offset: 0, vcpu: 0 }
    memoryFor(0)
    // Before the frame is looked at.
    const answers = [init, { ...init, control_gfn: 999 }].map((args) => nameOf(d1.op('init_control', args)))
    enough()
    expect(answers).toEqual(['ENOMEM', 'ENOMEM'])
    expect([inside(d1.domain).fifo, inside(d1.domain).levels, d1.domain.memory.heldFrames]).toEqual([null, 2, 0])
    expect(d1.answer('expand_array', { array_gfn: FREE_GFN })).toBe('EOPNOTSUPP')
    expect(d1.answer('init_control', init)).toBe('ok')
  })

  it('EC-port-8: what was published before memory ran out stays valid', () => {
    const table = new PortTable()
    for (let port = 1; port < 64; port++) table.take(port)
    memoryFor(2)
    const grown = table.grow(1000)
    enough()
    expect([grown, table.validEvtchns % 64, table.isValid(table.validEvtchns)]).toEqual([false, 0, false])
    expect(table.validEvtchns).toBeLessThan(1000)
    for (let port = 0; port < table.validEvtchns; port++) expect(table.state(port)).toBe(port ? ECS.FREE : ECS.RESERVED)
    expect([table.lowestFree(1), table.grow(1000), table.validEvtchns]).toEqual([64, true, 1024])
  })

  it('EC-XSA-47: a restore that gets no memory for its ports (ENOMEM) leaves no domain behind', () => {
    const { xen, d1 } = host(64)
    d1.fill()
    const state = xen.saveDomain(xen.domain(1)!, { mode: 'transparent' })
    const other = Hypervisor.create()
    let buckets = 0
    memoryFor(Number.POSITIVE_INFINITY, (bytes) => {
      // A bucket is 64 objects of 8 integers. The first comes with the domain.
      if (bytes === 64 * 8 * 4 && ++buckets === 2) throw new RangeError('Array buffer allocation failed')
    })
    let found: unknown
    try {
      other.restoreDomain(state)
    } catch (error) {
      found = error
    }
    enough()
    expect(found).toBeInstanceOf(RestoreError)
    expect(found).toMatchObject({ errno: 12, field: 'validEvtchns' })
    expect(other.domids()).toEqual([])
    expect(inside(other.restoreDomain(state)).ports.activeEvtchns).toBe(100)
  })

  it('EC-XSA-340: a count is published when its bucket is complete, not before', () => {
    const table = new PortTable()
    const seen: number[] = []
    memoryFor(Number.POSITIVE_INFINITY, () => {
      // While a buffer is being made, each port that counts as valid can be looked at.
      for (let port = 0; port < table.validEvtchns; port++) table.state(port)
      seen.push(table.validEvtchns)
    })
    table.grow(300)
    enough()
    expect(seen[0]).toBe(64)
    expect([...new Set(seen)]).toEqual([64, 128, 192, 256])
    expect(table.validEvtchns).toBe(320)
  })

  it.each(['bits 64', 'bits 32'])('EC-XSA-338: once valid, a port stays valid while the domain lives, %s', (name) => {
    const { xen, d0, d1 } = host(Number(name.slice(5)) as Bits)
    d1.fill()
    for (let port = 1; port <= 100; port++) d1.must('close', { port })
    d1.must('reset', { dom: 1 })
    xen.pauseDomain(xen.domain(1)!)
    d0.must('reset', { dom: 1 })
    expect(inside(d1.domain).ports.validEvtchns).toBe(128)
    for (const port of [1, 64, 127]) expect(d1.status(port).status).toBe(0)
    expect(d1.answer('unmask', { port: 127 })).toBe('ok')
  })

  it('EC-port-11: a valid port that is not FREE is busy, and the next number is tried', () => {
    const { xen, d1 } = host(64)
    const attached = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 0, notify: () => {} })
    expect([attached, d1.ipi(), d1.unbound(0), d1.virq(0)]).toEqual([1, 2, 3, 4])
    d1.must('close', { port: 3 })
    expect(d1.ipi()).toBe(3)
  })
})

describe.each([64, 32] as const)('ports and words, %i-bit', (bits) => {
  it('EC-XSA-221: poll and status on a port without object are refused, whatever its number', () => {
    const { d1 } = host(bits)
    const at = FREE_GFN * PAGE_SIZE
    d1.view.setUint32(at, at + 64, true)
    d1.view.setUint32(at + (bits === 64 ? 8 : 4), 1, true)
    for (let port = 32; port <= 4096; port += 32) {
      d1.view.setUint32(at + 64, port, true)
      expect(d1.callAnswer(29, [SCHEDOP.poll, at])).toBe('EINVAL')
      if (port >= 64) expect(d1.answer('status', { dom: 1, port })).toBe('EINVAL')
    }
  })

  it('EC-XSA-343: operations on ports that a reset closes at the same time find each port open or closed', () => {
    const found: string[] = []
    const { d1, d2 } = host(bits, {
      preempt: () => {
        for (const port of [1, 64, 65]) found.push(d1.answer('send', { port }), d1.answer('close', { port }))
        found.push(d2.answer('send', { port: 1 }))
        return false
      },
    })
    d1.connect(d2)
    d2.connect(d1)
    d1.fill()
    expect(d1.answer('reset', { dom: 1 })).toBe('ok')
    // The reset is at port 64, which is the last one that it has closed.
    expect(found).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'ok', 'ok', 'ok'])
    expect([inside(d1.domain).ports.activeEvtchns, d2.state(1), d2.state(2)]).toEqual([0, ECS.UNBOUND, ECS.UNBOUND])
  })

  it('EC-bug-1: what was pending when its port was closed does not fire on the port that comes after it', () => {
    const { d1, d2 } = host(bits)
    const [ours, theirs] = d1.connect(d2)
    d1.setBit('mask', ours)
    d2.must('send', { port: theirs })
    expect(d1.bit('pending', ours)).toBe(1)
    d1.must('close', { port: ours })
    d1.quiet()
    expect(d1.ipi()).toBe(ours)
    d1.must('unmask', { port: ours })
    expect([d1.bit('pending', ours), d1.flag()]).toEqual([0, 0])
    d1.must('send', { port: ours })
    expect([d1.bit('pending', ours), d1.flag()]).toEqual([1, 1])
  })

  it('EC-bug-14: the last port has the last bit of the last word, in pending, mask and selector', () => {
    const { d1 } = host(bits, {}, { maxEvtchnPort: Infinity })
    d1.fill()
    const last = bits * bits - 1
    expect(inside(d1.domain).ports.activeEvtchns).toBe(last)
    d1.must('send', { port: last })
    const { pending, mask, words } = sharedInfo(bits)
    const bytes = (words * bits) / 8
    expect(d1.bytes[SHARED_INFO + pending + bytes - 1]).toBe(0x80)
    expect(d1.sel()).toBe(1n << BigInt(bits - 1))
    d1.setBit('mask', last)
    d1.must('unmask', { port: last })
    expect(d1.bytes.slice(SHARED_INFO + mask, SHARED_INFO + mask + bytes).every((byte) => byte === 0)).toBe(true)
  })

  it('EC-bug-14: a switch to FIFO carries what is pending up to the last port, and every page raises up to its last', () => {
    const { d1 } = host(bits, {}, { maxEvtchnPort: 4200 })
    d1.fill()
    const last = bits * bits - 1
    for (const port of [1, bits - 1, bits, last]) d1.must('send', { port })
    d1.must('init_control', { control_gfn: FREE_GFN, offset: 0, vcpu: 0 })
    d1.fill()
    for (const port of [1023, 1024, 2047, 4095, 4096, 4200]) d1.must('send', { port })
    for (let page = 1; page <= 5; page++) d1.must('expand_array', { array_gfn: FREE_GFN + page })
    const raised = [1, bits - 1, bits, 1023, 1024, 2047, last, 4095, 4096, 4200]
    const word = (port: number) => d1.view.getUint32((FREE_GFN + 1) * PAGE_SIZE + port * 4, true)
    const pending = Array.from({ length: 4201 }, (_, port) => port).filter((port) => word(port) >>> 31)
    expect(pending).toEqual([...new Set(raised)].sort((a, b) => a - b))
  })
})

describe('locks and memory', () => {
  /** Every operation in a way that fails. */
  const FAILING: [EvtchnOpName, Args, string][] = [
    ['alloc_unbound', { dom: 2, remote_dom: 0 }, 'EPERM'],
    ['bind_interdomain', { remote_dom: 2, remote_port: 70 }, 'EINVAL'],
    ['bind_virq', { virq: 3, vcpu: 0 }, 'EBUSY'],
    ['bind_pirq', { pirq: 5, flags: 0 }, 'EBUSY'],
    ['bind_pirq', { pirq: 6, flags: 0 }, 'EEXIST'],
    ['close', { port: 0 }, 'EINVAL'],
    ['status', { dom: 2, port: 1 }, 'EPERM'],
    ['bind_vcpu', { port: 0, vcpu: 0 }, 'EINVAL'],
    ['reset', { dom: 2 }, 'EPERM'],
    ['init_control', { control_gfn: 999, offset: 0, vcpu: 0 }, 'EINVAL'],
    ['expand_array', { array_gfn: 4 }, 'EOPNOTSUPP'],
  ]
  it.each(FAILING)('EC-XSA-458: %s unlocks once on its way out of an error', (op, args, answer) => {
    const { xen, d1, d2 } = host(64)
    worldOf(xen).irqs.claim(5)
    for (const pirq of [5, 6]) inside(d1.domain).pirqs.permitted.add(pirq)
    d1.must('bind_pirq', { pirq: 6, flags: 0 })
    const taken: string[] = []
    for (const { domain } of [d1, d2]) {
      const { eventLock } = inside(domain)
      for (const way of ['acquireRead', 'acquireWrite', 'releaseRead', 'releaseWrite'] as const) {
        const real = eventLock[way].bind(eventLock)
        eventLock[way] = () => {
          taken.push(way.slice(0, 7))
          real()
        }
      }
    }
    expect(d1.op(op, args), op).toBeLessThan(0)
    const count = (way: string) => taken.filter((each) => each === way).length
    expect([count('acquire'), inside(d1.domain).eventLock.held, inside(d2.domain).eventLock.held]).toEqual([
      count('release'),
      false,
      false,
    ])
    expect(d1.answer(op, args)).toBe(answer)
  })

  it('EC-XSA-492: a caller who is not the handler of DOM_EXC takes nobody’s lock but its own', () => {
    const { d0, d1 } = host(64)
    const answer = () =>
      inside(d0.domain).eventLock.write(() => nameOf(d1.op('bind_virq', { virq: VIRQ.DOM_EXC, vcpu: 0 })))
    expect(answer()).toBe('EBUSY')
    d0.virq(VIRQ.DOM_EXC)
    expect(answer()).toBe('EBUSY')
  })

  it('EC-XSA-149: nothing of the host keeps a destroyed domain, nor its vCPUs', async () => {
    setFlagsFromString('--expose-gc')
    const gc = runInNewContext('gc') as () => void
    const xen = Hypervisor.create()
    const dom0 = xen.createDomain({ domid: 0 })
    /** A domain with something of everything that the host might remember it by. */
    const live = (): WeakRef<Domain | Vcpu>[] => {
      const domain = xen.createDomain({ domid: 1, vcpus: 40 })
      const { port } = domain.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 0 })
      dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port })
      domain.eventChannelOp('bind_virq', { virq: 1, vcpu: 39 })
      xen.setGlobalVirqHandler(xen.domain(1)!, 2)
      xen.allocXenPort(xen.domain(1)!, { remoteDomid: 0, notify: () => {} })
      inside(domain).startPoll(inside(domain.vcpu(1)), -1)
      xen.destroyDomain(xen.domain(1)!)
      return [domain, ...domain.vcpus].map((each) => new WeakRef(each))
    }
    const left = live()
    // What a WeakRef has answered lives to the end of the turn.
    await setImmediate()
    gc()
    expect(left.map((each) => each.deref()).filter(Boolean)).toEqual([])
  })

  it('EC-bug-10: two consumers that register within each other have each the function that it gave', () => {
    const heard: string[] = []
    const notify = (name: string) => () => void heard.push(name)
    let inner = 0
    const { xen, d0, d1, d2 } = host(64, {
      xsm: {
        name: 'nosy',
        evtchnUnbound: (_, target) => {
          // In the middle of d1's registration another one begins and ends.
          if (target.domid === 1) inner = xen.allocXenPort(xen.domain(2)!, { remoteDomid: 0, notify: notify('inner') })
          return 0
        },
        evtchnInterdomain: () => 0,
        evtchnSend: () => 0,
        evtchnStatus: () => 0,
        evtchnReset: () => 0,
      },
    })
    const outer = xen.allocXenPort(xen.domain(1)!, { remoteDomid: 0, notify: notify('outer') })
    expect(inside(d1.domain).ports.consumer(outer)).not.toBe(inside(d2.domain).ports.consumer(inner))
    for (const [remote_dom, remote_port] of [
      [1, outer],
      [2, inner],
    ] as const)
      d0.must('send', { port: d0.must('bind_interdomain', { remote_dom, remote_port }).local_port })
    expect(heard).toEqual(['outer', 'inner'])
  })
})
