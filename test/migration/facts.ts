/** All that a host believes and all that its guests' RAM holds, as plain values: for comparing before and after. */

import { createHash } from 'node:crypto'
import { expect } from 'vitest'
import { ECS, NR_VIRQS, PAGE_SIZE, sharedInfo } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'
import type { Domain, Hypervisor, SavedDomain } from '../../src/index.js'
import { frameRefs } from '../../src/machine/memory.js'

/** A port: state, notify vCPU, Xen consumer, and what the state has beside. */
export type PortFacts = [port: number, state: number, vcpu: number, consumer: number, ...rest: number[]]

export function portFacts(domain: Domain): PortFacts[] {
  const { ports } = inside(domain)
  const all: PortFacts[] = []
  for (let port = ports.nextUsed(1); port >= 0; port = ports.nextUsed(port + 1)) {
    const state = ports.state(port)
    const rest: number[] = []
    if (state === ECS.UNBOUND || state === ECS.INTERDOMAIN) rest.push(ports.remoteDomid(port))
    if (state === ECS.INTERDOMAIN) rest.push(ports.remotePort(port))
    if (state === ECS.VIRQ || state === ECS.PIRQ) rest.push(ports.irq(port))
    all.push([port, state, ports.notifyVcpu(port), ports.consumer(port), ...rest])
  }
  return all
}

/** Ports of each vCPU's PIRQ list; their order is nobody's business. */
function pirqPorts(domain: Domain): number[][] {
  const { vcpus, ports } = inside(domain)
  return vcpus.map((vcpu) => {
    const list: number[] = []
    for (let port = inside(vcpu).firstPirqPort; port; port = ports.nextPirqPort(port)) list.push(port)
    return list.sort((a, b) => a - b)
  })
}

/** RAM with the wallclock, which is the host's, taken out. */
export function ramOf(domain: Domain): Uint8Array {
  const ram = domain.memory.view().slice()
  for (const bits of [32, 64] as const) {
    const at = domain.sharedInfoGfn * PAGE_SIZE
    const { wc_version, wc_sec, wc_nsec, wc_sec_hi } = sharedInfo(bits)
    for (const field of [wc_version, wc_sec, wc_nsec, wc_sec_hi]) ram.fill(0, at + field, at + field + 4)
  }
  return ram
}

/** Everything about a domain but its RAM. */
export function domainFacts(domain: Domain) {
  const { memory, ports, pirqs } = inside(domain)
  return {
    domid: domain.domid,
    bits: domain.bits,
    type: domain.type,
    frozen: inside(domain).frozen,
    dying: domain.dying,
    pauseCount: domain.pauseCount,
    shutdownCode: inside(domain).shutdownCode,
    suspendEvtchn: inside(domain).suspendEvtchn,
    nextEvtchn: inside(domain).nextEvtchn,
    callbackVia: inside(domain).callbackVia,
    levels: inside(domain).levels,
    maxEvtchns: inside(domain).maxEvtchns,
    maxEvtchnPort: inside(domain).maxEvtchnPort,
    nlevel: inside(domain).nlevel && { ...inside(domain).nlevel },
    fifo: inside(domain).fifo?.toJSON(),
    fifoPorts: Array.from({ length: ports.validEvtchns }, (_, port) => [
      ports.priority(port),
      ports.savedPending(port),
      ports.lastQueue(port),
    ]),
    valid: ports.validEvtchns,
    active: ports.activeEvtchns,
    xen: ports.xenEvtchns,
    ports: portFacts(domain),
    vcpus: domain.vcpus.map((vcpu) => ({
      info: inside(vcpu).onDummy ? 'dummy' : inside(vcpu).info - memory.base,
      infoGfn: inside(vcpu).infoGfn,
      activeDepth: inside(vcpu).activeDepth,
      recorded: inside(vcpu).recorded && {
        ...inside(vcpu).recorded,
        areas: inside(vcpu).recorded!.areas.map(({ gfns, offset }) => ({ gfns, offset })),
      },
      polling: vcpu.polling,
      pollEvtchn: inside(vcpu).pollEvtchn,
      blocked: vcpu.blocked,
      down: vcpu.down,
      upcallVector: inside(vcpu).upcallVector,
      virqs: Array.from({ length: NR_VIRQS }, (_, virq) => inside(vcpu).virqPort(virq)),
    })),
    pirqPorts: pirqPorts(domain),
    pirqs: [...pirqs.records()].map(([pirq, record]) => [pirq, { ...record }]).sort(),
    eoiMap: [pirqs.eoiMapGfn, pirqs.autoUnmask],
    readOnly: memory.protectedFrames,
    held: Array.from({ length: memory.frames }, (_, gfn) => frameRefs(memory).references(gfn)),
  }
}

/** Everything about a host. RAM is compared by a digest of every byte, wallclock included. */
function hostFacts(xen: Hypervisor) {
  return {
    domains: xen.domids().map((domid) => domainFacts(xen.domain(domid)!)),
    ram: xen.domids().map((domid) => createHash('sha1').update(xen.domain(domid)!.memory.view()).digest('hex')),
    lines: Array.from({ length: 32 }, (_, irq) => [worldOf(xen).irqs.guests(irq), worldOf(xen).irqs.isShared(irq)]),
    handlers: Array.from({ length: NR_VIRQS }, (_, virq) => worldOf(xen).virqs.handler(virq)?.domid),
    timer: xen.nextTimerNs,
    dump: [...xen.dump()],
  }
}

/** The host's facts as text: quick to compare, for the many times that nothing differs. */
export function hostText(xen: Hypervisor): string {
  return JSON.stringify(hostFacts(xen), (_, value) => (typeof value === 'bigint' ? `${value}n` : value))
}

/** The host is as it was; what differs is shown. */
export function expectSame(xen: Hypervisor, before: string, message: string): void {
  const now = hostText(xen)
  if (now !== before) expect(JSON.parse(now), message).toEqual(JSON.parse(before))
}

/** A state as it arrives: through JSON, as from a file. */
export const throughJson = <T extends SavedDomain>(state: T): T => JSON.parse(JSON.stringify(state)) as T
