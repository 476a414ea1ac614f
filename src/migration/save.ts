/** Saving a domain: what format.ts describes, taken from a domain that stands still. */

import { ECS, PAGE_SIZE } from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import { abiPartOf, type SavedAbi } from './abi_parts.js'
import type { SavedTable } from './fields.js'
import {
  FIFO_COLUMNS,
  FORMAT,
  PIRQ_COLUMNS,
  PORT_COLUMNS,
  type PortState,
  SAVE_VERSION,
  type SavedCommon,
  type SavedCooperative,
  type SavedTransparent,
  type SavedVcpu,
} from './format.js'

function saveCommon(domain: Domain): Omit<SavedCommon, 'ram'> {
  return {
    format: FORMAT,
    version: SAVE_VERSION,
    domid: domain.domid,
    bits: domain.bits,
    type: domain.type,
    vcpus: domain.vcpus.length,
    frames: domain.memory.frames,
    sharedInfoGfn: domain.sharedInfoGfn,
    maxEvtchnPort: domain.maxEvtchnPort,
    nrPirqs: domain.pirqs.nrPirqs,
  }
}

/** Configuration of a domain; its RAM comes later, or its embedder carries that. */
export function saveCooperative(domain: Domain): SavedCooperative {
  return { ...saveCommon(domain), mode: 'cooperative', ram: null }
}

/**
 * All of a domain but its RAM. `leftNs` tells how long a vCPU's poll may still last, null = for ever.
 * @throws XenError EOPNOTSUPP for an ABI that has no part in the format.
 */
export function saveTransparent(domain: Domain, leftNs: (vcpu: Vcpu) => bigint | null): SavedTransparent {
  const abi = abiPartOf(domain)
  const { ports, pirqs, memory } = domain
  return {
    ...saveCommon(domain),
    mode: 'transparent',
    readOnly: [...memory.protectedFrames],
    shutdownCode: domain.shutdownCode,
    suspendEvtchn: domain.suspendEvtchn,
    callbackVia: String(domain.callbackVia),
    vcpuState: domain.vcpus.map((each) => saveVcpu(domain, each, leftNs)),
    validEvtchns: ports.validEvtchns,
    ...savePorts(domain),
    pirqs: {
      columns: Object.keys(PIRQ_COLUMNS),
      rows: [...pirqs.records()].map(([pirq, { port, willShare, inFlight }]) => [
        pirq,
        port,
        Number(willShare),
        Number(inFlight),
      ]),
    },
    eoiMap: pirqs.eoiMapGfn < 0 ? null : { gfn: pirqs.eoiMapGfn, autoUnmask: pirqs.autoUnmask },
    fifoPorts: { columns: Object.keys(FIFO_COLUMNS), rows: [...fifoPorts(domain)] },
    abi: { name: abi.name, ...abi.save(domain) } as SavedAbi,
    ram: null,
  }
}

function saveVcpu(domain: Domain, vcpu: Vcpu, leftNs: (vcpu: Vcpu) => bigint | null): SavedVcpu {
  const { infoGfn } = vcpu
  return {
    infoGfn,
    infoOffset: infoGfn < 0 ? 0 : vcpu.info - (domain.memory.base + infoGfn * PAGE_SIZE),
    upcallVector: vcpu.upcallVector,
    down: vcpu.down,
    blocked: vcpu.blocked,
    poll: vcpu.polling ? { port: vcpu.pollEvtchn, leftNs: leftNs(vcpu)?.toString() ?? null } : null,
  }
}

function savePorts({ ports }: Domain): Pick<SavedTransparent, 'ports' | 'xenPorts'> {
  const table = (state: PortState): SavedTable => ({ columns: Object.keys(PORT_COLUMNS[state]), rows: [] })
  const saved = {
    unbound: table('unbound'),
    interdomain: table('interdomain'),
    virq: table('virq'),
    pirq: table('pirq'),
    ipi: table('ipi'),
  }
  const xenPorts: number[] = []
  for (let port = ports.nextUsed(1); port >= 0; port = ports.nextUsed(port + 1)) {
    const notify = ports.notifyVcpu(port)
    if (ports.consumer(port)) xenPorts.push(port)
    else
      switch (ports.state(port)) {
        case ECS.UNBOUND:
          saved.unbound.rows.push([port, notify, ports.remoteDomid(port)])
          break
        case ECS.INTERDOMAIN:
          saved.interdomain.rows.push([port, notify, ports.remoteDomid(port), ports.remotePort(port)])
          break
        case ECS.VIRQ:
          saved.virq.rows.push([port, notify, ports.irq(port)])
          break
        case ECS.PIRQ:
          saved.pirq.rows.push([port, notify, ports.irq(port)])
          break
        case ECS.IPI:
          saved.ipi.rows.push([port, notify])
          break
      }
  }
  return { ports: saved, xenPorts }
}

function* fifoPorts({ ports }: Domain): Generator<number[], void, void> {
  for (let port = 1; port < ports.validEvtchns; port++) {
    const [priority, saved, last] = [ports.priority(port), ports.savedPending(port), ports.lastQueue(port)]
    if (priority || saved || last) yield [port, priority, Number(saved), last >>> 16, last & 0xff]
  }
}
