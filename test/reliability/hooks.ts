/** Every hook of a host and of a guest’s driver, and the faults that each is tried with. */

import { expect } from 'vitest'
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
export type Fault = (xen: Hypervisor) => void

export interface Row {
  /** Host options that hold the hook. */
  options?(fault: () => void): HypervisorOptions
  /** Makes the call that runs the hook. Must not throw, whatever the hook does, unless `refuses`. */
  run(world: World, fault: () => void): void
  /** The hook is a policy: its throwing is a refusal. */
  refuses?: boolean
}

export class World {
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

export const HOOKS: Record<string, Row> = {
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
  onShutdown: {
    options: (fault) => ({ onShutdown: fault }),
    run: ({ xen, domain }) => {
      domain.memory.data.setUint32(0x4000, 0, true)
      expect(xen.hypercall(domain.vcpu(0), 29, [2, 0x4000]), 'SCHEDOP_shutdown').toBe(0)
    },
  },
  hypercall: {
    options: (fault) => ({
      hypercall: () => {
        fault()
        return 0
      },
    }),
    run: ({ xen, domain }) => {
      expect([0, -Errno.ENOSYS]).toContain(xen.hypercall(domain.vcpu(0), 18, [0, 0, 0]))
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

export const FAULTS: Record<string, { fault(): Fault; throws: boolean }> = {
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
export const portsOf = ({ xen }: World): number => xen.domain(1)!.openPorts

/** The members of options and interfaces for which there is a row above, or a test of its own. */
export const COVERED: readonly string[] = [
  ...['onUpcall', 'onUnblock', 'onShutdown', 'hypercall', 'preempt'].map((name) => `HypervisorOptions.${name}`),
  ...['nowNs', 'wallclockNs'].map((name) => `Clock.${name}`),
  ...['evtchnUnbound', 'evtchnInterdomain', 'evtchnSend', 'evtchnStatus', 'evtchnReset'].map(
    (name) => `XsmPolicy.${name}`,
  ),
  'DomainOptions.translate',
  'GuestMemoryOptions.translate',
  'XenPortOptions.notify',
  // Called by record: trace.test.ts.
  'TraceOptions.onEvent',
  'TraceSink.upcall',
  // test/dom0/console_ring.test.ts, test/real/guests/tiny.test.ts.
  'ConsoleRingOptions.onOutput',
  ...['onSerial', 'onConsole', 'onConsoleIo', 'onShutdown'].map((name) => `V86GuestOptions.${name}`),
  // A warning, a handler, and the callbacks of a resume: reporting.test.ts.
  'HypervisorOptions.warn',
  ...['handler', 'onRebound', 'onLost'].map((name) => `BindOptions.${name}`),
]
