/** A host's calls as a trace shows them: decoded, with reasons, bounded, and in formats that other programs read. */

import { describe, expect, it } from 'vitest'
import { EVTCHNOP, HYPERVISOR, SCHEDOP } from '../../src/abi/index.js'
import {
  chromeTrace,
  Faults,
  formatEvent,
  GuestKernel,
  Hypervisor,
  type HypervisorOptions,
  jsonLine,
  ManualClock,
  Trace,
  type TraceEvent,
  traceOfTest,
} from '../../src/index.js'
import { InProcessTransport, XenStoreClient, XenStored } from '../../src/xenstore/index.js'

/** dom0 and a guest, traced from the end of their boot on. */
function host(options: HypervisorOptions = {}, trace = new Trace()) {
  const kernels = new Map<number, GuestKernel>()
  const onUpcall = (vcpu: { domid: number; vcpuId: number }) => kernels.get(vcpu.domid)?.upcall(vcpu.vcpuId)
  const xen = Hypervisor.create({ trace, onUpcall, ...options })
  const boot = (domid: number) => {
    const kernel = GuestKernel.boot(xen.platform(xen.createDomain({ domid })))
    kernels.set(domid, kernel)
    return kernel
  }
  const [dom0, guest] = [boot(0), boot(1)]
  trace.clear()
  return { xen, dom0, guest, trace }
}

const lines = (trace: Trace) => trace.text().trimEnd().split('\n')

describe('a trace', () => {
  it('shows calls with their members, what Xen wrote, and upcalls', () => {
    const { dom0, guest, trace } = host()
    const port = guest.allocUnbound(0, { handler: () => {} })
    const local = dom0.bindInterdomain(1, port, { handler: () => {} })
    trace.clear()
    dom0.send(local)
    expect(lines(trace)).toEqual([
      'd1v0 upcall pending',
      `d0v0 EVTCHNOP_send(port=${local}) = 0`,
      'd1v0 returned from its upcall',
    ])
  })

  it('shows why a call was refused', () => {
    const { xen, trace } = host()
    const d1 = xen.domain(1)!
    d1.eventChannelOp('alloc_unbound', { dom: 0x7ff0, remote_dom: 2 })
    expect(() => xen.domain(0)!.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: 1 })).toThrow()
    expect(lines(trace)).toEqual([
      'd1v0 EVTCHNOP_alloc_unbound(dom=0x7ff0, remote_dom=2) = 0 {port=1}',
      expect.stringMatching(/^d0v0 EVTCHNOP_bind_interdomain\(remote_dom=1, remote_port=1\) = -EINVAL: .*d2/),
    ])
  })

  it.each([32, 64] as const)('decodes raw calls of a %i-bit guest, unreadable ones too', (bits) => {
    const trace = new Trace()
    const xen = Hypervisor.create({ trace })
    const domain = xen.createDomain({ domid: 1, bits })
    trace.clear()
    const view = new DataView(domain.memory.memory.buffer)
    view.setUint32(0x3000, 7, true)
    const wide = bits === 64
    if (wide) view.setBigUint64(0x3100, 0x3000n, true)
    else view.setUint32(0x3100, 0x3000, true)
    view.setUint32(0x3100 + (wide ? 8 : 4), 1, true)
    view.setBigUint64(0x3100 + (wide ? 16 : 8), 5n, true)
    const call = (op: number, ...args: number[]) => xen.hypercall(domain.vcpu(0), op, args)
    call(HYPERVISOR.event_channel_op, EVTCHNOP.send, 0x3000)
    call(HYPERVISOR.event_channel_op, EVTCHNOP.send, 0x7fff_f000)
    call(HYPERVISOR.event_channel_op, 99, 0x3000)
    call(HYPERVISOR.sched_op, SCHEDOP.poll, 0x3100)
    call(99, 1)
    const shown = lines(trace)
    expect(shown[0]).toMatch(/^d1v0 EVTCHNOP_send\(port=7\) = -EINVAL: /)
    expect(shown[1]).toMatch(/^d1v0 EVTCHNOP_send\(\) = -EFAULT: /)
    expect(shown[2]).toMatch(/^d1v0 event_channel_op 99\(arg=0x3000\) = -ENOSYS: /)
    expect(shown[3]).toMatch(/^d1v0 SCHEDOP_poll\(nr_ports=1, timeout=5, ports\[0\]=7\) = -?\w+/)
    expect(shown[4]).toMatch(/^d1v0 hypercall 99\(arg=0x1\) = -ENOSYS: /)
  })

  it('shows the entries of a multicall before the multicall', () => {
    const { xen, trace } = host()
    const domain = xen.domain(1)!
    const view = new DataView(domain.memory.memory.buffer)
    const at = 0x90000
    const words = [HYPERVISOR.sched_op, 0, SCHEDOP.yield, 0, 0, 0, 0, 0]
    words.forEach((word, i) => {
      view.setBigUint64(at + i * 8, BigInt(word), true)
    })
    xen.hypercall(domain.vcpu(0), HYPERVISOR.multicall, [at, 1])
    expect(lines(trace)).toEqual(['d1v0 SCHEDOP_yield() = 0', 'd1v0 multicall(entries=0x90000, calls=1) = 0'])
  })

  it('shows what the host does to domains', () => {
    const { xen, trace } = host()
    xen.createDomain({ domid: 2 })
    xen.destroyDomain(xen.domain(2)!)
    expect(lines(trace)).toEqual(['d2 is created', 'd2 is dead', 'd2 is gone'])
  })

  it('keeps the last events and counts the others', () => {
    const { guest, trace } = host({}, new Trace({ limit: 2 }))
    for (let i = 0; i < 5; i++) guest.allocUnbound(0, { handler: () => {} })
    const events = [...trace]
    expect(events).toHaveLength(2)
    expect(trace.dropped).toBeGreaterThan(0)
    expect(events[1]!.seq - events[0]!.seq).toBe(1)
    expect(events[1]!.seq).toBe(trace.recorded)
    expect(trace.events(1)).toEqual([events[1]])
  })

  it('hands each event on; what a listener throws is reported and reaches nobody else', () => {
    const seen: string[] = []
    const reported: string[] = []
    const onEvent = (event: TraceEvent) => {
      seen.push(event.kind)
      throw new Error('of the listener')
    }
    const onError = (_error: unknown, where: string) => reported.push(where)
    const { guest } = host({ onError }, new Trace({ onEvent }))
    seen.length = 0
    guest.allocUnbound(0, { handler: () => {} })
    expect(seen).toContain('hypercall')
    expect(reported).toContain('trace.record')
  })

  it('carries the time of the host, and how long a call and an upcall took', () => {
    const clock = new ManualClock()
    const { xen, guest, dom0, trace } = host({ clock })
    const port = guest.allocUnbound(0, { handler: () => clock.advance(500) })
    const local = dom0.bindInterdomain(1, port, { handler: () => {} })
    guest.rescan()
    clock.advance(1_500_000)
    trace.clear()
    const start = xen.clock.nowNs()
    dom0.send(local)
    const upcall = trace.events().find(({ kind }) => kind === 'upcall')
    expect(upcall).toMatchObject({ domid: 1, timeNs: start, durationNs: 500 })
    expect(formatEvent(upcall!, { time: true })).toBe(`${(start / 1e9).toFixed(6)} d1v0 returned from its upcall`)
  })

  it.each([
    [{ limit: 0 }, 'Trace: limit is 0'],
    [{ onevent: () => {} }, 'did you mean onEvent?'],
  ])('%j is refused', (options, message) => {
    expect(() => new Trace(options as object)).toThrow(message)
  })

  it('changes nothing: the same calls leave the same RAM, traced or not', () => {
    const run = (trace: Trace | undefined) => {
      const xen = Hypervisor.create(trace ? { trace } : {})
      const a = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 0 })))
      const b = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 1 })))
      for (let i = 0; i < 20; i++) {
        const port = b.allocUnbound(0, { handler: () => {} })
        a.send(a.bindInterdomain(1, port, { handler: () => {} }))
      }
      return [0, 1].map((domid) => xen.domain(domid)!.memory.view().slice())
    }
    expect(run(new Trace())).toEqual(run(undefined))
  })
})

describe('formats', () => {
  function traced() {
    const { dom0, guest, trace } = host()
    const port = guest.allocUnbound(0, { handler: () => {} })
    dom0.send(dom0.bindInterdomain(1, port, { handler: () => {} }))
    return trace
  }

  it('JSON lines hold each event whole', () => {
    const trace = traced()
    const events = trace.events()
    expect(events.map((event) => JSON.parse(jsonLine(event)))).toEqual(events)
  })

  it('a Chrome trace has domains as processes, vCPUs as tracks, and sends that flow to upcalls', () => {
    const { traceEvents } = chromeTrace(traced())
    const names = traceEvents.filter(({ ph }) => ph === 'M').map(({ name, args }) => `${name} ${args!.name}`)
    expect(names).toEqual(expect.arrayContaining(['process_name d0', 'process_name d1', 'thread_name vCPU 0']))
    const [begin, end] = [traceEvents.find(({ ph }) => ph === 's')!, traceEvents.find(({ ph }) => ph === 'f')!]
    expect([begin.pid, end.pid, begin.id]).toEqual([0, 1, end.id])
    // What the format's description asks of every entry.
    for (const { name, ph, pid, tid, ts, dur, id } of traceEvents) {
      expect([typeof name, typeof pid, typeof tid, typeof ts]).toEqual(['string', 'number', 'number', 'number'])
      expect(['X', 'i', 's', 'f', 'M']).toContain(ph)
      if (ph === 'X') expect(dur).toBeGreaterThan(0)
      if (ph === 's' || ph === 'f') expect(typeof id).toBe('number')
    }
  })

  it('a clock that stands still does not put everything in one place', () => {
    const { traceEvents } = chromeTrace(traced())
    const slices = traceEvents.filter(({ ph }) => ph === 'X')
    expect(new Set(slices.map(({ ts }) => ts)).size).toBe(slices.length)
  })
})

describe('a store', () => {
  it('shows requests, replies and watch events', async () => {
    const trace = new Trace()
    const store = new XenStored({ trace, faults: Faults.parse('WRITE=EACCES@2') })
    const client = new XenStoreClient(new InProcessTransport(store))
    await client.write('/a', 'v')
    await expect(client.write('/a', 'w')).rejects.toThrow('EACCES')
    expect(await client.read('/a')).toBe('v')
    expect(lines(trace)).toEqual([
      'd0 XS_WRITE("/a", "v") = "OK"',
      'd0 XS_WRITE("/a", "w") = EACCES: injected',
      'd0 XS_READ("/a") = "v"',
    ])
  })
})

describe('a failing test', () => {
  it('prints the last lines of its trace', () => {
    const printed: string[] = []
    let fails = () => {}
    const onTestFailed = (then: () => void) => {
      fails = then
    }
    const context = { onTestFailed }
    const trace = traceOfTest(context, { print: (text) => printed.push(text), lines: 1 })
    const xen = Hypervisor.create({ trace })
    xen.createDomain({ domid: 1 })
    xen.createDomain({ domid: 2 })
    expect(printed).toEqual([])
    fails()
    expect(printed).toEqual(['the last 1 of 2 events:\nd2 is created\n'])
  })
})

describe('faults', () => {
  it('the next call of a domain fails as asked, and is not carried out', () => {
    const faults = new Faults().fail({ call: 'alloc_unbound', domid: 1, errno: 'ENOSPC' })
    const { xen, trace } = host({ faults })
    const alloc = (domid: number) =>
      xen.domain(domid)!.eventChannelOp('alloc_unbound', { dom: 0x7ff0, remote_dom: 0 }).port
    expect(alloc(0)).toBe(1)
    expect(() => alloc(1)).toThrow('EVTCHNOP_alloc_unbound: injected (ENOSPC)')
    expect(alloc(1)).toBe(1)
    expect(lines(trace)[1]).toBe('d1v0 EVTCHNOP_alloc_unbound(dom=0x7ff0, remote_dom=0) = -ENOSPC: injected')
  })

  it('the third and fourth of any domain, as a command line spells it', () => {
    const faults = Faults.parse('EVTCHNOP_alloc_unbound=ENOMEM@3x2')
    const { xen } = host({ faults })
    const fails = Array.from({ length: 6 }, (_, i) => {
      try {
        xen.domain(i % 2)!.eventChannelOp('alloc_unbound', { dom: 0x7ff0, remote_dom: 0 })
        return false
      } catch (error) {
        expect(String(error)).toContain('ENOMEM')
        return true
      }
    })
    expect(fails).toEqual([false, false, true, true, false, false])
    expect(faults.armed).toBe(0)
  })

  it('reach raw calls as -errno, without a trace too', () => {
    const xen = Hypervisor.create({ faults: Faults.parse('d1:yield=EPERM') })
    const vcpu = xen.createDomain({ domid: 1 }).vcpu(0)
    const yields = () => xen.hypercall(vcpu, HYPERVISOR.sched_op, [SCHEDOP.yield])
    expect([yields(), yields()]).toEqual([-1, 0])
  })

  it.each([
    [() => Faults.parse('send'), '[dN:]CALL=ERRNO[@NTH][xTIMES]'],
    [() => Faults.parse('send=ENOSUCH'), 'Faults.fail: errno is "ENOSUCH"; allowed: EPERM'],
    [() => new Faults().fail({ call: 'send', errno: 'EPERM', nth: 0 }), 'Faults.fail: nth is 0'],
    [() => new Faults().fail({ call: 'send', errno: 'EPERM', time: 1 } as never), 'did you mean times?'],
    [() => Hypervisor.create({ faults: {} as never }), 'faults'],
  ])('%s is refused', (make, message) => {
    expect(make).toThrow(message)
  })
})
