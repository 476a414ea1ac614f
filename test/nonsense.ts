/** Values of the wrong type or range for every parameter, and a machine to try them on. */

import type { In } from '../src/abi/index.js'
import { inside } from '../src/domain/handles.js'
import { EvtchnDevice, GuestKernel, GuestMemory, Hypervisor, ManualClock } from '../src/index.js'

const clock = () => new ManualClock()

export function machine() {
  const time = clock()
  const xen = Hypervisor.create({ clock: time })
  const d0 = xen.createDomain({ domid: 0 })
  const d1 = xen.createDomain({ domid: 1, vcpus: 2 })
  const kernel = GuestKernel.boot(xen.platform(d1), { levels: 3 })
  const port = kernel.allocUnbound(0, { handler: () => {} })
  return { xen, time, d0, d1, kernel, port, handle: new EvtchnDevice(kernel).open() }
}
export type Machine = ReturnType<typeof machine>

/** Values of every type, and numbers out of every range. */
const NUMBERS: unknown[] = [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]
const TYPES: unknown[] = [null, 'x', 5n, Symbol('s'), {}, [], () => 0, true]
export const notNumber = [...TYPES, ...NUMBERS]
export const notObject = [null, 'x', 5n, 7, true, Symbol('s'), []]
export const notFunction = [null, 'x', 5n, 7, true, {}, []]
export const notBoolean = [null, 'x', 5n, 7, {}, []]
export const notWord = [null, 'x', 5n, 7, {}, []]

/** Name of the parameter; a call that passes a value for it; the values that are wrong for it. */
export type Case = readonly [parameter: string, call: (m: Machine, bad: never) => unknown, wrong: readonly unknown[]]

const hostOptions = (name: string, wrong: readonly unknown[]): Case => [
  name,
  (_, bad) => Hypervisor.create({ [name]: bad }),
  wrong,
]
const domainOptions = (name: string, wrong: readonly unknown[]): Case => [
  name,
  ({ xen }, bad) => xen.createDomain({ domid: 2, [name]: bad }),
  wrong,
]
const byNumber = (name: keyof Hypervisor): Case => [
  name === 'domain' ? 'domid' : 'domain',
  ({ xen }, bad) => (xen[name] as (domain: unknown) => unknown).call(xen, bad),
  name === 'domain' ? [...notNumber, undefined, 0x7ff0] : [...notObject, {}, undefined],
]

export const HOST: Record<string, Case[]> = {
  'Hypervisor.create': [
    ['options', (_, bad) => Hypervisor.create(bad), notObject],
    hostOptions('onUpcall', notFunction),
    hostOptions('onUnblock', notFunction),
    hostOptions('preempt', notFunction),
    hostOptions('trace', notObject),
    ['trace.upcall', (_, bad) => Hypervisor.create({ trace: { upcall: bad } }), notFunction],
    hostOptions('clock', [...notObject, {}, { nowNs: 5 }]),
    hostOptions('xsm', [...notObject, {}, { evtchnUnbound: () => 0 }]),
    hostOptions('maxLevels', [...notNumber.filter((each) => typeof each !== 'object' || each === null), [], 1, 6]),
    ['maxLevels[64]', (_, bad) => Hypervisor.create({ maxLevels: { 64: bad } }), [...notNumber, 5]],
    hostOptions('maxLeafPages', [...notNumber, 1025]),
    hostOptions('maxFrames', notNumber),
    hostOptions('nlevel', notBoolean),
    hostOptions('fifo', notBoolean),
  ],
  createDomain: [
    ['options', ({ xen }, bad) => xen.createDomain(bad), [...notObject, undefined]],
    ['domid', ({ xen }, bad) => xen.createDomain({ domid: bad }), [...notNumber, undefined, 1, 0x7ff0]],
    domainOptions('vcpus', [...notNumber, 0, 8193]),
    domainOptions('bits', [...notWord, 16]),
    domainOptions('type', notWord),
    domainOptions('maxEvtchnPort', [...notNumber.filter((each) => each !== Infinity), 2 ** 32]),
    domainOptions('privileged', notBoolean),
    domainOptions('frames', [...notNumber, 0, 2 ** 20 + 1]),
    domainOptions('memory', [...notObject, {}, new ArrayBuffer(8)]),
    domainOptions('base', [...notNumber, 4096]),
    domainOptions('shared', notBoolean),
    domainOptions('translate', notFunction),
    domainOptions('sharedInfoGfn', [...notNumber, 256]),
    domainOptions('nrPirqs', [...notNumber, 32769]),
    domainOptions('nlevelAllowed', notBoolean),
    domainOptions('maxLevels', [...notNumber, 1, 5]),
    domainOptions('maxLeafPages', [...notNumber, 1025]),
  ],
  'domains by number': (
    [
      'domain',
      'pauseDomain',
      'unpauseDomain',
      'killStep',
      'killDomain',
      'destroyDomain',
      'softReset',
      'resumeDomain',
      'saveDomain',
      'beginMigration',
      'migrationOf',
      'startDomain',
    ] as const
  ).map(byNumber),
  'domains and what is done to them': [
    ['domain', ({ xen }, bad) => xen.setTarget(bad, xen.domain(0)!), [...notObject, {}, undefined]],
    ['target', ({ xen }, bad) => xen.setTarget(xen.domain(1)!, bad), [...notObject, {}]],
    ['domain', ({ xen }, bad) => xen.subscribeSuspend(bad, 1), [...notObject, {}, undefined]],
    ['port', ({ xen }, bad) => xen.subscribeSuspend(xen.domain(1)!, bad), [...notNumber, 2 ** 32]],
    ['vcpuId', ({ d1 }, bad) => d1.vcpu(bad), [...notNumber, 2]],
    ['domain', ({ xen }, bad) => xen.platform(bad), notObject],
  ],
  hypercalls: [
    ['vcpu', ({ xen }, bad) => xen.hypercall(bad, 32, [4, 0]), [...notObject, {}, undefined]],
    ['nr', ({ xen, d1 }, bad) => xen.hypercall(d1.vcpu(0), bad, [4, 0]), [...TYPES.filter((x) => x !== 5n)]],
    ['args', ({ xen, d1 }, bad) => xen.hypercall(d1.vcpu(0), 32, bad), [null, 'x', 7, {}, undefined]],
    ['args[1]', ({ xen, d1 }, bad) => xen.hypercall(d1.vcpu(0), 32, [4, bad]), [...TYPES.filter((x) => x !== 5n)]],
    ['vcpu', ({ xen }, bad) => xen.deliverUpcalls(bad), [...notObject, {}]],
    ['op', ({ d1 }, bad) => d1.eventChannelOp(bad, {} as never), [...notWord, 'toString', undefined]],
    ['args', ({ d1 }, bad) => d1.eventChannelOp('send', bad), notObject],
    ['port', ({ d1 }, bad) => d1.eventChannelOp('send', { port: bad }), [...notNumber, undefined, 2 ** 32]],
    [
      'local_port',
      ({ d1 }, bad) => d1.eventChannelOp('bind_vcpu', { port: 1, vcpu: 0, local_port: bad } as In<'bind_vcpu'>),
      [1],
    ],
    [
      'remote_dom',
      ({ d1 }, bad) => d1.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: bad }),
      [...notNumber, 65536],
    ],
  ],
  interrupts: [
    ['vcpu', ({ xen }, bad) => xen.sendVirq(bad, 0), [...notObject, {}, undefined]],
    ['vcpuId', ({ xen }, bad) => xen.sendVirq(xen.domain(1)!.vcpu(bad), 0), notNumber],
    ['virq', ({ xen }, bad) => xen.sendVirq(xen.domain(1)!.vcpu(0), bad), [...notNumber, 24]],
    ['domain', ({ xen }, bad) => xen.sendDomainVirq(bad, 0), [...notObject, {}, undefined]],
    ['virq', ({ xen }, bad) => xen.sendDomainVirq(xen.domain(1)!, bad), [...notNumber, 24]],
    ['virq', ({ xen }, bad) => xen.sendGlobalVirq(bad), [...notNumber, 24]],
    ['domain', ({ xen }, bad) => xen.setGlobalVirqHandler(bad, 2), [...notObject, {}, undefined]],
    ['virq', ({ xen }, bad) => xen.setGlobalVirqHandler(xen.domain(1)!, bad), notNumber.filter((each) => each !== -1)],
    ['irq', ({ xen }, bad) => xen.raiseIrq(bad), notNumber],
    ['trigger', ({ xen }, bad) => xen.raiseIrq(5, bad), [null, true, 'level ', 1]],
    ['irq', ({ xen }, bad) => xen.lowerIrq(bad), notNumber],
    ['domain', ({ xen }, bad) => xen.sendPirq(bad, 5), [...notObject, {}, undefined]],
    ['pirq', ({ xen }, bad) => xen.sendPirq(xen.domain(1)!, bad), notNumber],
    ['nr', ({ xen }, bad) => xen.softirqs.raise(bad), [...notNumber, 11]],
    ['nr', ({ xen }, bad) => xen.softirqs.open(bad, () => {}), [...notNumber, 11]],
    ['handler', ({ xen }, bad) => xen.softirqs.open(0, bad), notFunction],
    ['ns', ({ time }, bad) => time.advance(bad), notNumber.filter((each) => each !== 1.5 && each !== 2 ** 53)],
  ],
  'Xen-attached ports': [
    ['options', ({ xen }, bad) => xen.allocXenPort(xen.domain(1)!, bad), [...notObject, undefined]],
    [
      'vcpuId',
      ({ xen }, bad) => xen.allocXenPort(xen.domain(1)!, { vcpuId: bad, remoteDomid: 0, notify() {} }),
      [...notNumber, 2],
    ],
    [
      'remoteDomid',
      ({ xen }, bad) => xen.allocXenPort(xen.domain(1)!, { remoteDomid: bad, notify() {} }),
      [...notNumber, undefined],
    ],
    [
      'notify',
      ({ xen }, bad) => xen.allocXenPort(xen.domain(1)!, { remoteDomid: 0, notify: bad }),
      [...notFunction, undefined],
    ],
    [
      'caller',
      ({ xen }, bad) => xen.allocXenPort(xen.domain(1)!, { remoteDomid: 0, notify() {}, caller: bad }),
      [...notObject, {}],
    ],
    ['port', ({ xen }, bad) => xen.notifyViaXenPort(xen.domain(1)!, bad), notNumber],
    ['port', ({ xen }, bad) => xen.freeXenPort(xen.domain(1)!, bad), notNumber],
  ],
  migration: [
    ['options', ({ xen }, bad) => xen.saveDomain(xen.domain(1)!, bad), notObject],
    ['mode', ({ xen }, bad) => xen.saveDomain(xen.domain(1)!, { mode: bad }), notWord],
    ['freeze', ({ xen }, bad) => xen.saveDomain(xen.domain(1)!, { freeze: bad }), notBoolean],
    ['options', ({ xen }, bad) => xen.beginMigration(xen.domain(1)!, bad), notObject],
    ['mode', ({ xen }, bad) => xen.beginMigration(xen.domain(1)!, { mode: bad }), notWord],
    ['options', ({ xen }, bad) => xen.startDomain(xen.domain(1)!, bad), notObject],
    ['raised', ({ xen }, bad) => xen.startDomain(xen.domain(1)!, { raised: bad }), [null, 'x', 7, {}]],
    [
      'raised[1]',
      ({ xen }, bad) => xen.startDomain(xen.domain(1)!, { raised: [1, bad] as number[] }),
      [...notNumber, 0],
    ],
  ],
  dump: [
    ['options', ({ xen }, bad) => xen.dump(bad), notObject],
    ['options', ({ xen }, bad) => xen.dumpAsync(bad), notObject],
    ['domid', ({ xen }, bad) => xen.dump({ domid: bad }), notNumber],
    ['slotsPerHold', ({ xen }, bad) => xen.dumpAsync({ slotsPerHold: bad }), [...notNumber, 0]],
    ['pause', ({ xen }, bad) => xen.dumpItems({ pause: bad }), notFunction],
    ['stats', ({ xen }, bad) => xen.dump({ stats: bad }), notObject],
  ],
  GuestMemory: [
    ['options', (_, bad) => new GuestMemory(bad), [...notObject, undefined]],
    ['frames', (_, bad) => new GuestMemory({ frames: bad }), [...notNumber, 0, undefined]],
    ['gfn', ({ d1 }, bad) => d1.memory.protect(bad), [...notNumber, 256]],
  ],
}

export const GUEST: Record<string, Case[]> = {
  'GuestKernel.boot': [
    ['platform', (_, bad) => GuestKernel.boot(bad), [...notObject, undefined]],
    [
      'platform.memory',
      ({ xen, d1 }, bad) => GuestKernel.boot({ ...xen.platform(d1), memory: bad }),
      [...notObject, {}],
    ],
    ['options', ({ xen, d0 }, bad) => GuestKernel.boot(xen.platform(d0), bad), notObject],
    ['levels', ({ xen, d0 }, bad) => GuestKernel.boot(xen.platform(d0), { levels: bad }), [...notNumber, 1, 6]],
    ['nrPages', ({ xen, d0 }, bad) => GuestKernel.boot(xen.platform(d0), { nrPages: bad }), [...notNumber, 0]],
    [
      'firstFreeGfn',
      ({ xen, d0 }, bad) => GuestKernel.boot(xen.platform(d0), { firstFreeGfn: bad }),
      [...notNumber, 256],
    ],
    ['batch', ({ xen, d0 }, bad) => GuestKernel.boot(xen.platform(d0), { batch: bad }), [...notNumber, 0, 1025]],
  ],
  'GuestKernel binds': [
    ['remoteDomid', ({ kernel }, bad) => kernel.allocUnbound(bad, { handler() {} }), [...notNumber, 65536]],
    ['options', ({ kernel }, bad) => kernel.allocUnbound(0, bad), notObject],
    ['handler', ({ kernel }, bad) => kernel.allocUnbound(0, { handler: bad }), notFunction],
    ['vcpu', ({ kernel }, bad) => kernel.allocUnbound(0, { handler() {}, vcpu: bad }), [...notNumber, 2]],
    ['name', ({ kernel }, bad) => kernel.allocUnbound(0, { handler() {}, name: bad }), [null, 7, {}, [], true]],
    ['priority', ({ kernel }, bad) => kernel.allocUnbound(0, { handler() {}, priority: bad }), [...notNumber, 16]],
    ['onLost', ({ kernel }, bad) => kernel.allocUnbound(0, { handler() {}, onLost: bad }), notFunction],
    ['onRebound', ({ kernel }, bad) => kernel.allocUnbound(0, { handler() {}, onRebound: bad }), notFunction],
    ['remotePort', ({ kernel }, bad) => kernel.bindInterdomain(0, bad, { handler() {} }), notNumber],
    ['virq', ({ kernel }, bad) => kernel.bindVirq(bad, { handler() {} }), notNumber],
    ['options', ({ kernel }, bad) => kernel.bindVirq(0, bad), notObject],
    ['options', ({ kernel }, bad) => kernel.bindIpi(bad), notObject],
    ['port', ({ kernel }, bad) => kernel.bindHandler(bad, { handler() {} }), [...notNumber, 0, 2 ** 18]],
  ],
  'GuestKernel and its ports': [
    ['port', ({ kernel }, bad) => kernel.mask(bad), [...notNumber, 2 ** 18]],
    ['port', ({ kernel }, bad) => kernel.isPending(bad), [...notNumber, 2 ** 18]],
    ['port', ({ kernel }, bad) => kernel.isMasked(bad), [...notNumber, 2 ** 18]],
    ['port', ({ kernel }, bad) => kernel.unmask(bad), notNumber],
    ['port', ({ kernel }, bad) => kernel.send(bad), notNumber],
    ['port', ({ kernel }, bad) => kernel.close(bad), notNumber],
    ['vcpu', ({ kernel, port }, bad) => kernel.moveToVcpu(port, bad), [...notNumber, 2]],
    ['priority', ({ kernel, port }, bad) => kernel.setPriority(port, bad), [...notNumber, 16]],
    ['vcpu', ({ kernel }, bad) => kernel.upcall(bad), [...notNumber, 2]],
    ['op', ({ kernel }, bad) => kernel.op(bad, {}), [...notWord, 'toString']],
    ['args', ({ kernel }, bad) => kernel.op('send', bad), notObject],
    ['port', ({ kernel }, bad) => kernel.op('send', { port: bad }), notNumber],
    ['prot', ({ kernel }, bad) => kernel.op('send', { prot: bad }), [1]],
    ['platform', ({ kernel }, bad) => kernel.moveTo(bad), [...notObject, undefined]],
    ['platform', ({ kernel }, bad) => kernel.resume(bad), [...notObject, undefined]],
  ],
  EvtchnDevice: [
    ['kernel', (_, bad) => new EvtchnDevice(bad), [...notObject, {}, undefined]],
    ['options', ({ kernel }, bad) => new EvtchnDevice(kernel).open(bad), notObject],
    ['flags', ({ kernel }, bad) => new EvtchnDevice(kernel).open({ flags: bad }), notNumber],
    ['ringSize', ({ kernel }, bad) => new EvtchnDevice(kernel).open({ ringSize: bad }), [...notNumber, 0]],
    ['domid', ({ handle }, bad) => handle.bindUnboundPort(bad), notNumber],
    ['remotePort', ({ handle }, bad) => handle.bindInterdomain(0, bad), notNumber],
    ['virq', ({ handle }, bad) => handle.bindVirq(bad), notNumber],
    ['domid', ({ handle }, bad) => handle.restrict(bad), notNumber],
  ],
}

/** What the host is, as far as a call could have changed it. */
export const told = ({ xen, d1 }: Machine) =>
  JSON.stringify([
    xen.domids(),
    inside(d1).ports.activeEvtchns,
    d1.pauseCount,
    inside(d1).frozen,
    d1.dying,
    inside(d1).target?.domid ?? null,
  ])
