/**
 * A user's function runs inside the machinery. Every hook of a host and of a guest's driver is in one table; each throws
 * once, throws always, throws a XenError, and calls back into the host. After each of that the caller has its result, every
 * fault was reported once, and two domains that have nothing to do with it exchange events.
 */

import { describe, expect, it, vi } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import {
  defaultPolicy,
  Errno,
  GuestKernel,
  Hypervisor,
  type HypervisorOptions,
  SOFTIRQ,
  XenError,
  type XsmPolicy,
} from '../../src/index.js'

/** What a hook does beside its work: throws, or calls back. */
type Fault = (xen: Hypervisor) => void

interface Row {
  /** Host options that hold the hook. */
  options?(fault: () => void): HypervisorOptions
  /** Makes the call that runs the hook. Must not throw, whatever the hook does, unless `refuses`. */
  run(world: World, fault: () => void): void
  /** The hook is a policy: its throwing is a refusal. */
  refuses?: boolean
}

class World {
  readonly reported: { error: unknown; where: string }[] = []
  readonly xen: Hypervisor
  readonly kernels: GuestKernel[] = []

  constructor(options: HypervisorOptions) {
    this.xen = Hypervisor.create({
      ...options,
      onUpcall: (vcpu, how) => {
        if (vcpu.domid === 1) options.onUpcall?.(vcpu, how)
        this.kernels[vcpu.domid]?.upcall(vcpu.vcpuId)
      },
      onError: (error, where) => this.reported.push({ error, where }),
    })
    for (const domid of [0, 1, 2, 3]) {
      const domain = this.xen.createDomain({ domid, vcpus: domid === 1 ? 2 : 1 })
      this.kernels[domid] = GuestKernel.boot(this.xen.platform(domain))
    }
  }

  /** The hook's domain is 1. */
  get guest(): GuestKernel {
    return this.kernels[1]!
  }

  get domain() {
    return this.xen.domain(1)!
  }

  /** Domains 2 and 3, which have no hook, exchange events; then all domains go. */
  prove(): void {
    let got = 0
    const port = this.kernels[2]!.allocUnbound(3, () => got++)
    const far = this.kernels[3]!.bindInterdomain(2, port)
    got = 0
    this.kernels[3]!.send(far)
    this.kernels[3]!.send(far)
    expect(got, 'events between domains 2 and 3').toBe(2)
    for (const domid of [0, 1, 2, 3])
      expect(inside(this.xen.domain(domid)!).eventLock.held, `lock of d${domid}`).toBe(false)
    for (const domid of this.xen.domids()) this.xen.destroyDomain(this.xen.domain(domid)!)
    expect(this.xen.domids()).toEqual([])
  }
}

const policy = (hook: Exclude<keyof XsmPolicy, 'name'>) => (fault: () => void) => ({
  xsm: {
    ...defaultPolicy,
    name: 'test',
    [hook]: (...args: Parameters<XsmPolicy[typeof hook]>) => {
      fault()
      return (defaultPolicy[hook] as (...all: unknown[]) => number)(...args)
    },
  } as XsmPolicy,
})

const ticking = (now: () => void, wallclock: () => void) => ({
  nowNs() {
    now()
    return 5
  },
  wallclockNs() {
    wallclock()
    return 5n
  },
})

const HOOKS: Record<string, Row> = {
  'a handler': {
    run({ guest }, fault) {
      const port = guest.bindIpi(fault)
      guest.send(port)
    },
  },
  'a handler, by an unmask of the guest': {
    run({ guest }, fault) {
      const port = guest.bindIpi(fault)
      guest.mask(port)
      guest.send(port)
      guest.unmask(port)
    },
  },
  'a handler, by a rescan': {
    run({ guest }, fault) {
      guest.bindIpi(fault)
      expect(guest.rescan()).toBe(1)
    },
  },
  'the question whether a suspend is wanted': {
    run({ guest, kernels }, fault) {
      const port = guest.offerSuspend(0, {
        wanted: () => {
          fault()
          return false
        },
      })
      const far = kernels[0]!.bindInterdomain(1, port)
      kernels[0]!.send(far)
    },
  },
  onUpcall: {
    options: (fault) => ({ onUpcall: fault }),
    run({ guest }) {
      const port = guest.bindIpi(() => {})
      guest.send(port)
    },
  },
  onUnblock: {
    options: (fault) => ({ onUnblock: fault }),
    run: ({ xen, domain, guest }) => {
      const port = guest.bindIpi({ vcpu: 1 })
      expect(xen.hypercall(domain.vcpu(1), 29, [1, 0]), 'SCHEDOP_block').toBe(0)
      guest.unmask(port)
      guest.send(port)
    },
  },
  'trace.upcall': {
    options: (fault) => ({ trace: { upcall: fault } }),
    run({ guest }) {
      const port = guest.bindIpi(() => {})
      guest.send(port)
    },
  },
  'a notifier': {
    run({ xen, guest }, fault) {
      const port = xen.allocXenPort(xen.domain(0)!, { remoteDomid: 1, notify: fault })
      const far = guest.bindInterdomain(0, port)
      guest.send(far)
    },
  },
  'a softirq': {
    run({ xen }, fault) {
      xen.softirqs.open(SOFTIRQ.TIMER, fault)
      xen.softirqs.raise(SOFTIRQ.TIMER)
      xen.softirqs.run()
    },
  },
  preempt: {
    options: (fault) => ({
      preempt: () => {
        fault()
        return false
      },
    }),
    run({ xen, guest, domain }) {
      for (let i = 0; i < 200; i++) guest.bindIpi()
      xen.killDomain(domain)
    },
  },
  'clock.nowNs': {
    options: (fault) => ({ clock: ticking(fault, () => {}) }),
    run: ({ xen }) => void [...xen.dump()],
  },
  'clock.wallclockNs': {
    options: (fault) => ({ clock: ticking(() => {}, fault) }),
    run: ({ xen }) => void xen.createDomain({ domid: 9 }),
  },
  translate: {
    run({ xen }, fault) {
      const walk = (_vcpu: unknown, gva: number) => {
        fault()
        return gva
      }
      const domain = xen.createDomain({ domid: 9, translate: walk })
      const rc = xen.hypercall(domain.vcpu(0), 32, [4, 0x4000])
      expect([0, -Errno.EFAULT, -Errno.EINVAL]).toContain(rc)
      xen.destroyDomain(domain)
    },
  },
  'xsm.evtchnUnbound': {
    options: policy('evtchnUnbound'),
    refuses: true,
    run: ({ guest }) => void guest.allocUnbound(0),
  },
  'xsm.evtchnInterdomain': {
    options: policy('evtchnInterdomain'),
    refuses: true,
    run: ({ guest, kernels }) => void guest.bindInterdomain(0, kernels[0]!.allocUnbound(1)),
  },
  'xsm.evtchnSend': {
    options: policy('evtchnSend'),
    refuses: true,
    run: ({ guest, kernels }) => guest.send(guest.bindInterdomain(0, kernels[0]!.allocUnbound(1))),
  },
  'xsm.evtchnStatus': {
    options: policy('evtchnStatus'),
    refuses: true,
    run: ({ guest }) => void guest.op('status', { dom: 0x7ff0, port: 1 }),
  },
  'xsm.evtchnReset': {
    options: policy('evtchnReset'),
    refuses: true,
    run: ({ domain }) => void domain.eventChannelOp('reset', { dom: 0x7ff0 }),
  },
}

const FAULTS: Record<string, { fault(): Fault; throws: boolean }> = {
  'throws once': {
    throws: true,
    fault: () => {
      let left = 1
      return () => {
        if (left--) throw new Error('fault of a user')
        left = 0
      }
    },
  },
  'throws always': {
    throws: true,
    fault: () => () => {
      throw new Error('fault of a user')
    },
  },
  'throws a XenError': {
    throws: true,
    fault: () => () => {
      throw new XenError('test', Errno.EBUSY, 'fault of a user')
    },
  },
  'calls back into the host': {
    throws: false,
    fault: () => {
      let deep = 0
      return (xen) => {
        if (deep++ > 2) return
        const caller = xen.domain(0)
        if (!caller || inside(caller).eventLock.held) return
        const { port } = caller.eventChannelOp('alloc_unbound', { dom: 0x7ff0, remote_dom: 2 })
        caller.eventChannelOp('close', { port })
      }
    },
  },
}

/** The ports of domain 1, which a refusal leaves as they were. */
const portsOf = ({ xen }: World): number => xen.domain(1)!.openPorts

describe('what a user’s function throws stays with that user', () => {
  for (const [hook, row] of Object.entries(HOOKS))
    for (const [what, { fault, throws }] of Object.entries(FAULTS))
      it(`${hook} ${what}`, () => {
        let act: Fault = () => {}
        let world: World | undefined
        const call = () => world && act(world.xen)
        world = new World(row.options?.(call) ?? {})
        act = fault()
        const before = portsOf(world)
        let refused: unknown
        try {
          row.run(world, call)
        } catch (error) {
          if (!row.refuses) throw error
          refused = error
        }
        if (row.refuses && throws) {
          expect(refused).toBeInstanceOf(XenError)
          expect((refused as XenError).errno).toBe(Errno.EPERM)
          // A channel of which only the send was refused is the caller's.
          if (!/Send/.test(hook)) expect(portsOf(world), 'ports after the refusal').toBe(before)
        } else expect(refused).toBeUndefined()
        if (throws) {
          expect(world.reported.length, 'reports').toBeGreaterThan(0)
          if (what === 'throws once') expect(world.reported.length).toBe(1)
          for (const { error, where } of world.reported) {
            expect((error as Error).message).toMatch('fault of a user')
            expect(where).not.toBe('')
          }
        } else expect(world.reported).toEqual([])
        act = () => {}
        world.prove()
      })
})

describe('callouts of a host', () => {
  it('a handler of one domain that throws neither fails the sender nor strands the upcall of a third', () => {
    const world = new World({})
    const [dom0, one, two] = world.kernels as [GuestKernel, GuestKernel, GuestKernel]
    let handled = 0
    const bad = one.allocUnbound(0, () => {
      throw new Error('fault in domain 1')
    })
    const good = two.allocUnbound(0, () => handled++)
    const toBad = dom0.bindInterdomain(1, bad)
    const toGood = dom0.bindInterdomain(2, good)
    const both = dom0.bindIpi(() => {
      dom0.send(toBad)
      dom0.send(toGood)
    })
    handled = 0
    world.reported.length = 0
    dom0.send(both)
    expect(handled).toBe(1)
    expect(world.reported).toEqual([{ error: new Error('fault in domain 1'), where: `handler of port ${bad} of d1` }])
  })

  it('a verdict that is neither 0 nor a negative errno refuses', () => {
    for (const verdict of [undefined, true, 1, -0.5, -5000, Number.NaN]) {
      const world = new World({
        xsm: { ...defaultPolicy, evtchnUnbound: () => verdict as number },
      })
      expect(() => world.guest.allocUnbound(0), String(verdict)).toThrow(/EPERM/)
      expect(String(world.reported[0]!.error)).toMatch('0 or a negative errno')
    }
  })

  it('a clock may tell numbers or bigints, and what is no time is reported and changes nothing', () => {
    const told: unknown[] = []
    let now: unknown = 5n
    const clock = { nowNs: () => now as number, wallclockNs: () => 7 as unknown as bigint }
    const xen = Hypervisor.create({ clock, onError: (error) => told.push(error) })
    xen.createDomain({ domid: 1 })
    expect([...xen.dump()].length).toBeGreaterThan(0)
    expect(told).toEqual([])
    for (now of [Number.NaN, -1, 'now', undefined]) {
      told.length = 0
      expect([...xen.dump()].length).toBeGreaterThan(0)
      expect(told.length).toBeGreaterThan(0)
    }
  })

  it('without a hook, or with one that fails, the platform reports the error, once', () => {
    const later: (() => void)[] = []
    vi.stubGlobal('queueMicrotask', (body: () => void) => later.push(body))
    try {
      const onError = () => {
        throw new Error('fault of the hook')
      }
      for (const [options, message] of [
        [{}, 'fault of a user'],
        [{ onError }, 'fault of the hook'],
      ] as const) {
        later.length = 0
        const xen = Hypervisor.create(options)
        const kernel = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 1 })))
        kernel.bindIpi(() => {
          throw new Error('fault of a user')
        })
        kernel.rescan()
        expect(later.length).toBe(1)
        expect(later[0]).toThrow(message)
      }
    } finally {
      vi.unstubAllGlobals()
    }
  })
})

describe('callbacks of a resume', () => {
  it('every channel is made or reported, whichever callback throws; those that failed are listed and reported', () => {
    const target = Hypervisor.create()
    target.createDomain({ domid: 0 })
    const world = new World({})
    const names = Array.from({ length: 10 }, (_, i) => `c${i}`)
    for (const name of names)
      world.guest.allocUnbound(0, {
        name,
        handler() {},
        onRebound() {
          if (name === 'c3') throw new XenError('test', Errno.EBUSY, 'my driver has a bug')
          if (name === 'c5') throw new Error('my driver has a bug')
        },
      })
    world.guest.suspend()
    const reported: string[] = []
    const platform = target.platform(target.restoreDomain(world.xen.saveDomain(world.domain)))
    const report = world.guest.resume({ ...platform, onError: (_error, where) => reported.push(where) })
    expect(report.rebound.map(({ name }) => name)).toEqual(names)
    expect(report.lost).toEqual([])
    expect(report.failed.map(({ name }) => name)).toEqual(['c3', 'c5'])
    expect(reported).toEqual(['onRebound of c3', 'onRebound of c5'])
  })
})
