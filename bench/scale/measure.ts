/**
 * What grows with what, each measured in a process of its own (child.ts):
 *
 *     domains    windows of 8 frames in shared memories, at most 25,000 a host: created, dumped, taken as changed, destroyed
 *     memories   domains with a memory of their own, until the engine refuses
 *     ports      open ports of one domain with four levels: opened, sent on at random, dumped, closed
 *     vcpus      one domain: created, an IPI bound on each vCPU, sent
 *     channels   domains with ten channels each, four levels, the library's driver and its handlers: what one keeps resident
 */

import { DOMID_SELF, EVTCHNOP, HYPERVISOR, MAX_VCPUS, PAGE_SIZE, VIRQ } from '../../src/abi/index.js'
import { seeded } from '../../src/cli/random.js'
import { inside } from '../../src/domain/handles.js'
import { type Domain, GuestKernel, Hypervisor, XenError } from '../../src/index.js'

/** Figures of one size: time an object in ns, memory an object in bytes. */
export type Figures = Readonly<Record<string, number>>

const host = () => Hypervisor.create({ onUpcall: () => {}, maxLeafPages: 512 })

/**
 * Processor time of this process in ms: what others do on the machine does not count. What is timed takes long enough that
 * the microsecond which asking costs does not matter.
 */
function now(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** Runs `body` and returns ns for each of `count`. */
function each(count: number, body: () => void): number {
  const start = now()
  body()
  return ((now() - start) * 1e6) / count
}

/** Memory in use after a collection, by whose it is. */
function memory(xens: readonly Hypervisor[]): { heap: number; resident: number; records: number } {
  globalThis.gc?.()
  const { heapUsed, rss } = process.memoryUsage()
  const records = xens.map((xen) => {
    const [domid] = xen.domids()
    return domid === undefined ? 0 : inside(xen.domain(domid)!).hostCore.memory.used
  })
  return { heap: heapUsed, resident: rss, records: records.reduce((a, b) => a + b, 0) }
}

const FRAMES = 8
const PER_HOST = 25_000
/** Windows of one memory: a gigabyte of address space. */
const PER_MEMORY = 2 ** 30 / (FRAMES * PAGE_SIZE)

function domains(count: number): Figures {
  const xens: Hypervisor[] = []
  const before = memory([])
  const all: [Hypervisor, Domain][] = []
  const windows = Array.from({ length: Math.ceil(count / PER_MEMORY) }, (_, i) => {
    const pages = (Math.min(PER_MEMORY, count - i * PER_MEMORY) * FRAMES * PAGE_SIZE) / 65_536
    return new WebAssembly.Memory({ initial: pages, maximum: pages })
  })
  let last = 0
  const create = each(count, () => {
    for (let i = 0; i < count; i++) {
      if (i % PER_HOST === 0) xens.push(host())
      const xen = xens.at(-1)!
      if (i === count - Math.ceil(count / 10)) last = now()
      const base = (i % PER_MEMORY) * FRAMES * PAGE_SIZE
      const at = { frames: FRAMES, memory: windows[Math.floor(i / PER_MEMORY)]!, base }
      all.push([xen, xen.createDomain({ domid: i % PER_HOST, ...at })])
    }
  })
  const createLast = ((now() - last) * 1e6) / Math.ceil(count / 10)
  const after = memory(xens)
  const dump = each(count, () => {
    for (const xen of xens) for (const _ of xen.dump());
  })
  for (const xen of xens) xen.domain(0)!.eventChannelOp('bind_virq', { virq: VIRQ.DOM_EXC, vcpu: 0 })
  const taken = each(count, () => {
    for (const xen of xens) while (xen.takeChangedDomain(xen.domain(0)!) !== undefined);
  })
  const destroy = each(count, () => {
    for (const [xen, domain] of all.reverse()) xen.destroyDomain(domain)
  })
  return { create, createLast, dump, taken, destroy, ...perObject(count, before, after) }
}

/** As many as the engine has memories for, up to `count`. */
function memories(count: number): Figures {
  const xen = host()
  const before = memory([])
  let made = 0
  const start = now()
  try {
    for (; made < count; made++) xen.createDomain({ domid: made, frames: 16 })
  } catch (error) {
    if (!(error instanceof XenError && error.code === 'ENOMEM')) throw error
  }
  const create = ((now() - start) * 1e6) / made
  return { made, create, ...perObject(made, before, memory([xen])) }
}

const perObject = (count: number, before: ReturnType<typeof memory>, after: ReturnType<typeof memory>) => ({
  heapBytes: (after.heap - before.heap) / count,
  recordBytes: after.records / count,
  residentBytes: (after.resident - before.resident) / count,
})

const SENDS = 200_000

function ports(count: number): Figures {
  const xen = host()
  const domain = xen.createDomain({ domid: 1, frames: 2048, maxEvtchnPort: Infinity })
  GuestKernel.boot(xen.platform(domain), { levels: 4, nrPages: 512 })
  const vcpu = domain.vcpu(0)
  const argument = 2040 * PAGE_SIZE
  const data = new DataView(domain.memory.memory.buffer as ArrayBuffer)
  const { event_channel_op: nr } = HYPERVISOR
  const args = (op: keyof typeof EVTCHNOP) => [EVTCHNOP[op], argument]
  const before = memory([xen])
  const bind = args('bind_ipi')
  const open = each(count, () => {
    for (let i = 0; i < count; i++) {
      data.setUint32(argument, 0, true)
      if (xen.hypercall(vcpu, nr, bind) < 0) throw new Error(`bind_ipi ${i}`)
    }
  })
  const after = memory([xen])
  const random = seeded(1)
  const send = args('send')
  const chosen = Uint32Array.from({ length: SENDS }, () => 1 + random(count))
  const sent = each(SENDS, () => {
    for (const port of chosen) {
      data.setUint32(argument, port, true)
      if (xen.hypercall(vcpu, nr, send) < 0) throw new Error(`send ${port}`)
    }
  })
  let lines = 0
  const dumped = each(count, () => {
    for (const _ of xen.dump()) lines++
  })
  if (lines < count) throw new Error(`${lines} lines for ${count} ports`)
  const close = args('close')
  const closed = each(count, () => {
    for (let port = count; port > 0; port--) {
      data.setUint32(argument, port, true)
      if (xen.hypercall(vcpu, nr, close) < 0) throw new Error(`close ${port}`)
    }
  })
  const records = { ...after, records: after.records - before.records }
  return { open, send: sent, dump: dumped, close: closed, ...perObject(count, before, records) }
}

function vcpus(count: number): Figures {
  const xen = host()
  const before = memory([xen])
  let domain!: Domain
  const create = each(count, () => {
    domain = xen.createDomain({ domid: 1, frames: 1024 + 6 * count, vcpus: count, maxEvtchnPort: Infinity })
  })
  const after = memory([xen])
  const kernel = GuestKernel.boot(xen.platform(domain), { levels: 3, nrPages: 1, firstFreeGfn: 2 })
  const bound: number[] = []
  const bind = each(count, () => {
    for (let vcpu = 0; vcpu < count; vcpu++) bound.push(kernel.bindIpi({ vcpu, handler: () => {} }))
  })
  const send = each(count, () => {
    for (const port of bound) kernel.send(port)
  })
  return { create, bind, send, ...perObject(count, before, after) }
}

const CHANNELS = 10

function channels(count: number): Figures {
  const xen = host()
  const before = memory([])
  const frames = 64
  const shared = new WebAssembly.Memory({ initial: (count * frames) / 16, maximum: (count * frames) / 16 })
  const kernels: GuestKernel[] = []
  const boot = each(count, () => {
    for (let domid = 0; domid < count; domid++) {
      const domain = xen.createDomain({ domid, frames, memory: shared, base: domid * frames * PAGE_SIZE })
      const kernel = GuestKernel.boot(xen.platform(domain), { levels: 4, nrPages: 1 })
      for (let i = 0; i < CHANNELS; i++) kernel.op('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 })
      kernels.push(kernel)
    }
  })
  return { boot, ...perObject(count, before, memory([xen])) }
}

/** What can be measured, by its name. */
export const KINDS = { domains, memories, ports, vcpus, channels } as const
export type Kind = keyof typeof KINDS

/** The most of each that one run may be asked for. */
export const MOST: Readonly<Record<Kind, number>> = {
  domains: 1_000_000,
  memories: 32_000,
  ports: 16_777_215,
  vcpus: MAX_VCPUS,
  channels: 16_384,
}
