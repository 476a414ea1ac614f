/** The guest driver on the FIFO ABI: queues by priority, an array that grows, unmasking, fall-back and resume. */

import { describe, expect, it } from 'vitest'
import {
  CONTROL_BLOCK,
  DOMID_SELF,
  EVTCHN_FIFO_BUSY,
  EVTCHN_FIFO_LINKED,
  EVTCHN_FIFO_MASKED,
  PAGE_SIZE,
} from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import {
  type BootOptions,
  type Domain,
  type DomainOptions,
  Errno,
  GuestKernel,
  Hypervisor,
  type HypervisorOptions,
  XenError,
} from '../../src/index.js'

interface Machine {
  xen: Hypervisor
  dom0: Domain
  domain: Domain
  kernel: GuestKernel
  kernels: Map<number, GuestKernel>
}

/** Dom0 on two levels, which only sends, and a guest with the driver; its upcalls run at once unless held. */
function boot(guest: Partial<DomainOptions> = {}, options: BootOptions = {}, host: HypervisorOptions = {}): Machine {
  const kernels = new Map<number, GuestKernel>()
  const xen = Hypervisor.create({ onUpcall: (vcpu) => void kernels.get(vcpu.domid)?.upcall(vcpu.vcpuId), ...host })
  const dom0 = xen.createDomain({ domid: 0 })
  const domain = xen.createDomain({ domid: 1, maxEvtchnPort: Infinity, ...guest })
  const kernel = GuestKernel.boot(xen.platform(domain), { levels: 'fifo', ...options })
  kernels.set(1, kernel)
  return { xen, dom0, domain, kernel, kernels }
}

/** Dom0's end of a guest port. */
const connect = ({ dom0 }: Machine, port: number): number =>
  dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port }).local_port
const send = ({ dom0 }: Machine, port: number) => dom0.eventChannelOp('send', { port })

/** Holds the guest's upcalls back while `body` runs, as a guest that is busy does, then lets them go. */
function whileBusy({ domain, kernel }: Machine, body: () => void): void {
  for (const vcpu of domain.vcpus) inside(vcpu).setUpcallMask(1)
  body()
  for (const vcpu of domain.vcpus) inside(vcpu).setUpcallMask(0)
  for (const vcpu of domain.vcpus) kernel.upcall(vcpu.vcpuId)
}

describe.each([32, 64] as const)('the guest driver on FIFO, %i bit', (bits) => {
  it('has 131,072 channels, boots with a control block a vCPU, and gets its events', () => {
    const machine = boot({ bits, vcpus: 2 })
    const { kernel, domain } = machine
    expect([kernel.levels, kernel.channels]).toEqual(['fifo', 131072])
    expect(kernel.attempts).toEqual([{ levels: 'fifo', nrPages: 0, answer: 'ok' }])
    expect(inside(domain).fifo!.controlBlock(1)!.offset).toBe(CONTROL_BLOCK.size)
    const got: number[] = []
    const port = kernel.allocUnbound(0, { handler: (p) => void got.push(p) })
    const local = connect(machine, port)
    send(machine, local)
    send(machine, local)
    expect(got).toEqual([port, port])
    kernel.mask(port)
    send(machine, local)
    send(machine, local)
    expect([got.length, kernel.isPending(port), kernel.isMasked(port)]).toEqual([2, true, true])
    kernel.unmask(port)
    expect([got.length, kernel.isPending(port), kernel.isMasked(port)]).toEqual([3, false, false])
  })

  it('EC-fifo-28: grows the array a page at a time, each word MASKED at first', () => {
    const { kernel, domain } = boot({ bits })
    expect(inside(domain).fifo!.nrPages).toBe(0)
    const ports = Array.from({ length: 1024 }, () => kernel.allocUnbound(0, { handler: () => {} }))
    expect(ports.at(-1)).toBe(1024)
    expect(inside(domain).fifo!.nrPages).toBe(2)
    const words = new Uint32Array(
      domain.memory.view().slice(inside(domain).fifo!.pageGfns[1]! * PAGE_SIZE).buffer,
      0,
      1024,
    )
    expect(words[0]).toBe(0)
    expect(words.subarray(1).every((word) => word === 2 ** EVTCHN_FIFO_MASKED)).toBe(true)
  })

  it('EC-fifo-26: serves the highest priority first, and one that comes up meanwhile before all that wait', () => {
    const machine = boot({ bits })
    const { kernel } = machine
    const order: string[] = []
    const make = (name: string, priority: number, also = () => {}) =>
      connect(
        machine,
        kernel.allocUnbound(0, {
          name,
          priority,
          handler: () => {
            order.push(name)
            also()
          },
        }),
      )
    const urgent = make('urgent', 0)
    const bulk = ['a', 'b', 'c'].map((name) =>
      make(name, 15, name === 'a' ? () => void send(machine, urgent) : undefined),
    )
    const usual = make('usual', 7)
    whileBusy(machine, () => {
      for (const port of bulk) send(machine, port)
      send(machine, usual)
    })
    expect(order).toEqual(['usual', 'a', 'urgent', 'b', 'c'])
  })

  it('serves one priority in the order of the sends, and a port that comes again after all that wait', () => {
    const machine = boot({ bits })
    const { kernel } = machine
    const order: number[] = []
    const local: number[] = []
    const ports = Array.from({ length: 5 }, (_, i) =>
      kernel.allocUnbound(0, {
        handler: () => {
          order.push(i)
          if (i === 3 && order.length < 4) send(machine, local[3]!)
        },
      }),
    )
    for (const port of ports) local.push(connect(machine, port))
    whileBusy(machine, () => {
      for (const i of [3, 0, 4, 1, 0, 3, 2]) send(machine, local[i]!)
    })
    expect(order).toEqual([3, 0, 4, 1, 2, 3])
  })
})

describe('the guest driver on FIFO', () => {
  it('takes a batch if told so', () => {
    const machine = boot({}, { batch: 8 })
    const got: number[] = []
    const ports = Array.from({ length: 20 }, () => machine.kernel.allocUnbound(0, { handler: (p) => void got.push(p) }))
    const local = ports.map((port) => connect(machine, port))
    whileBusy(machine, () => {
      for (const port of local) send(machine, port)
    })
    expect(got).toEqual(ports)
  })

  it('changes a priority for the next time, and says so if the form has none', () => {
    const machine = boot()
    const { kernel } = machine
    const order: string[] = []
    const [a, b] = ['a', 'b'].map((name) => kernel.allocUnbound(0, { handler: () => void order.push(name) })) as [
      number,
      number,
    ]
    const [toA, toB] = [connect(machine, a), connect(machine, b)]
    kernel.setPriority(b, 3)
    whileBusy(machine, () => {
      send(machine, toA)
      send(machine, toB)
      // Both are queued where they were: too late (EC-prio-5).
      kernel.setPriority(a, 0)
    })
    whileBusy(machine, () => {
      send(machine, toB)
      send(machine, toA)
    })
    expect(order).toEqual(['b', 'a', 'a', 'b'])
    expect(() => kernel.setPriority(a, 16)).toThrow('priority')
    const two = boot({}, { levels: 2 })
    const port = two.kernel.allocUnbound(0, { priority: 3, handler: () => {} })
    expect(() => two.kernel.setPriority(port, 1)).toThrow(/set_priority.*ENOSYS/)
  })

  it('EC-fifo-25: leaves a BUSY word to the hypercall', () => {
    const machine = boot()
    const { kernel, domain } = machine
    const port = kernel.allocUnbound(0, { handler: () => {} })
    const word = inside(domain).fifo!.wordAt(port)
    kernel.mask(port)
    inside(domain).core.bitSet(word, EVTCHN_FIFO_BUSY)
    expect(inside(domain).core.fifoUnmask(word)).toBe(2)
    expect(kernel.isMasked(port)).toBe(true)
    kernel.unmask(port)
    expect(kernel.isMasked(port)).toBe(false)
  })

  it('keeps an event of a port that an earlier handler of the same batch masked', () => {
    const machine = boot({}, { batch: 8 })
    const { kernel } = machine
    const got: number[] = []
    const second = kernel.allocUnbound(0, { handler: (p) => void got.push(p) })
    const first = kernel.allocUnbound(0, {
      handler: (p) => {
        got.push(p)
        kernel.mask(second)
      },
    })
    const ports = [first, second]
    const local = ports.map((port) => connect(machine, port))
    whileBusy(machine, () => {
      for (const port of local) send(machine, port)
    })
    expect(got).toEqual([ports[0]])
    kernel.unmask(ports[1]!)
    expect(got).toEqual(ports)
  })

  it('EC-fifo-14: serves a port that moved while queued on its old vCPU, and from then on on the new one', () => {
    const machine = boot({ vcpus: 2 })
    const { kernel, domain, xen } = machine
    const on: number[] = []
    const port = kernel.allocUnbound(0, () => void on.push(domain.vcpus.findIndex((v) => v.upcallPending === 0)))
    const local = connect(machine, port)
    for (const vcpu of domain.vcpus) inside(vcpu).setUpcallMask(1)
    send(machine, local)
    kernel.moveToVcpu(port, 1)
    for (const vcpu of [0, 1]) on.push(-1 - kernel.upcall(vcpu))
    expect(on.filter((n) => n < 0)).toEqual([-2, -1])
    send(machine, local)
    expect(inside(domain).fifo!.tail(1, 7)).toBe(port)
    expect([kernel.upcall(0), kernel.upcall(1)]).toEqual([0, 1])
    expect(xen.domain(1)).toBe(domain)
  })

  it('gives each of 60 vCPUs its control block and its events', () => {
    const machine = boot({ vcpus: 60 })
    const { kernel, domain } = machine
    const got: string[] = []
    for (const vcpu of [0, 31, 32, 55, 56, 59]) kernel.bindIpi({ vcpu, handler: () => void got.push(`v${vcpu}`) })
    const blocks = new Set(Array.from({ length: 60 }, (_, vcpu) => inside(domain).fifo!.controlBlock(vcpu)!.gfn))
    expect(blocks.size).toBe(2)
    for (let port = 1; port <= 6; port++) kernel.send(port)
    expect(got).toEqual(['v0', 'v31', 'v32', 'v55', 'v56', 'v59'])
  })

  it('EC-bug-6: knows ports beyond 65,535', () => {
    const machine = boot({ frames: 400 })
    const { kernel, domain, dom0 } = machine
    for (let i = 1; i < 65537; i++) domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 })
    const got: number[] = []
    const ports = [0, 1, 2].map(() => kernel.allocUnbound(0, { handler: (p) => void got.push(p) }))
    expect(ports).toEqual([65537, 65538, 65539])
    const local = ports.map((port) => connect(machine, port))
    whileBusy(machine, () => {
      for (const port of local) dom0.eventChannelOp('send', { port })
    })
    expect(got).toEqual(ports)
    expect(inside(domain).core.bitTest(inside(domain).fifo!.wordAt(1), EVTCHN_FIFO_LINKED)).toBe(0)
  })

  it('closes a port that it has no page for, and says that frames are missing', () => {
    const { kernel, domain } = boot({ frames: 8 })
    while (kernel.frames.available) kernel.frames.allocate(1)
    expect(() => kernel.allocUnbound(0, { handler: () => {} })).toThrow(/page 0 of the event array.*ENOMEM/)
    expect(inside(domain).ports.activeEvtchns).toBe(0)
  })
})

describe('what the driver falls back to', () => {
  const form = (guest: Partial<DomainOptions>, options: BootOptions, host: HypervisorOptions) => {
    const { kernel } = boot({ frames: 4096, ...guest }, options, host)
    return [
      kernel.levels,
      kernel.channels,
      kernel.attempts.map(({ levels, answer }) => `${levels} ${answer}`).join(', '),
    ]
  }

  it('fifo: two levels where the host has none', () => {
    expect(form({}, { levels: 'fifo' }, { fifo: false })).toEqual([2, 4096, 'fifo EOPNOTSUPP, 2 ok'])
  })

  it.each([
    ['64 bit, all granted', { bits: 64 }, {}, [4, 16777216, '4 ok']],
    ['64 bit, three levels', { bits: 64 }, { maxLevels: 3 }, [3, 262144, '4 ENOSPC, 3 ok']],
    ['64 bit, one leaf page', { bits: 64 }, { maxLeafPages: 1 }, ['fifo', 131072, 'fifo ok']],
    ['64 bit, no N levels', { bits: 64 }, { nlevel: false }, ['fifo', 131072, '4 ENOSYS, fifo ok']],
    ['64 bit, not allowed', { bits: 64, nlevelAllowed: false }, {}, ['fifo', 131072, '4 EPERM, fifo ok']],
    ['64 bit, neither', { bits: 64 }, { nlevel: false, fifo: false }, [2, 4096, '4 ENOSYS, fifo EOPNOTSUPP, 2 ok']],
    ['32 bit, four levels', { bits: 32 }, { maxLevels: 4 }, [4, 1048576, '5 ENOSPC, 4 ok']],
    ['32 bit, three levels', { bits: 32 }, { maxLevels: 3 }, ['fifo', 131072, '5 ENOSPC, 4 ENOSPC, fifo ok']],
    [
      '32 bit, three levels, no FIFO',
      { bits: 32 },
      { maxLevels: 3, fifo: false },
      [3, 32768, '5 ENOSPC, 4 ENOSPC, fifo EOPNOTSUPP, 3 ok'],
    ],
  ] as const)('best, %s', (_, guest, host, expected) => {
    expect(form({ ...guest }, { levels: 'best' }, host)).toEqual(expected)
  })
})

describe('resume', () => {
  it('registers control blocks and array again, with the priorities', () => {
    const machine = boot({ vcpus: 2, frames: 64 })
    const { xen, kernel } = machine
    const order: string[] = []
    for (const [name, priority] of Object.entries({ low: 12, high: 2 }))
      kernel.allocUnbound(0, { name, priority, handler: () => void order.push(name) })
    const state = JSON.parse(JSON.stringify(xen.saveDomain(xen.domain(1)!)))
    xen.destroyDomain(xen.domain(1)!)
    const domain = xen.restoreDomain(state, { maxEvtchnPort: Infinity })
    expect([inside(domain).fifo, inside(domain).levels]).toEqual([null, 2])
    const report = kernel.resume(xen.platform(domain))
    expect(report).toMatchObject({ levels: 'fifo', channels: 131072, lost: [] })
    expect(report.rebound.map(({ name }) => name)).toEqual(['low', 'high'])
    expect([inside(domain).fifo!.nrPages, inside(domain).ports.priority(1), inside(domain).ports.priority(2)]).toEqual([
      1, 12, 2,
    ])
    const after = { ...machine, domain }
    const local = [1, 2].map((port) => connect(after, port))
    whileBusy(after, () => {
      for (const port of local) send(after, port)
    })
    expect(order).toEqual(['high', 'low'])
  })

  it('on a host without FIFO keeps what fits two levels and names what is lost', () => {
    const { xen, kernel } = boot({ frames: 64 })
    for (let i = 1; i <= 5000; i++) kernel.allocUnbound(0, { name: `c${i}`, handler: () => {} })
    const old = Hypervisor.create({ fifo: false })
    old.createDomain({ domid: 0 })
    const report = kernel.resume(
      old.platform(old.restoreDomain(xen.saveDomain(xen.domain(1)!), { maxEvtchnPort: Infinity })),
    )
    expect([report.levels, report.rebound.length, report.lost.length]).toEqual([2, 4095, 905])
    expect(report.lost[0]).toMatchObject({ name: 'c4096', oldPort: 4096, errno: Errno.ENOSPC })
    expect(() => kernel.op('set_priority', { port: 1, priority: 1 })).toThrow(XenError)
  })
})
