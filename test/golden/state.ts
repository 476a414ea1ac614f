/** A state line of a trace, built anew from the library's port tables and from the guest's bytes. */

import { CONTROL_BLOCK, ECS, EVTCHN_FIFO_PRIORITY_DEFAULT, UPCALL_PENDING } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { Domain } from '../../src/index.js'
import { FifoWords } from './fifo-guest.js'
import { SharedInfo } from './guest.js'

const DYING = { alive: 0, dying: 1, dead: 2 } as const

/** One entry of a state line. Members that are 0 or empty by default are absent, as in the trace. */
export function domainState(domain: Domain): object {
  const info = new SharedInfo(domain)
  const { ports, vcpus } = inside(domain)
  const polling = vcpus.filter((vcpu) => vcpu.polling).map((vcpu) => [vcpu.vcpuId, inside(vcpu).pollEvtchn])
  return {
    domid: domain.domid,
    abi: inside(domain).fifo ? 'fifo' : inside(domain).levels === 2 ? '2l' : `${inside(domain).levels} levels`,
    ...(domain.dying !== 'alive' && { dying: DYING[domain.dying] }),
    valid: ports.validEvtchns,
    active: ports.activeEvtchns,
    ...(ports.xenEvtchns && { xen: ports.xenEvtchns }),
    ...(inside(domain).nextEvtchn && { resetNext: inside(domain).nextEvtchn }),
    ...(domain.pauseCount && { paused: domain.pauseCount }),
    pending: info.ports(info.layout.pending, domain.bits ** 2),
    masked: info.ports(info.layout.mask, Math.min(ports.validEvtchns, domain.bits ** 2)),
    sel: vcpus.map(({ vcpuId }) => info.word(info.sel(vcpuId)).toString(16)),
    upcall: vcpus.map(({ vcpuId }) => info.byte(vcpuId, UPCALL_PENDING)),
    ...(polling.length && { polling }),
    ports: portStates(domain),
    ...fifoState(domain),
  }
}

/** What the hypervisor keeps private is compared as well: saved events and tails. */
function fifoState(domain: Domain): object {
  const { fifo, ports, vcpus } = inside(domain)
  const valid = Array.from({ length: ports.validEvtchns }, (_, port) => port)
  const saved = valid.filter((port) => ports.savedPending(port))
  const words = new FifoWords(domain)
  const queues = (of: (q: number) => number) =>
    Object.fromEntries(Array.from({ length: 16 }, (_, q) => [q, of(q)]).filter(([, port]) => port))
  return {
    ...(saved.length && { saved }),
    ...(fifo && {
      pages: fifo.nrPages,
      words: Object.fromEntries(
        valid.filter((port) => words.word(port)).map((port) => [port, words.word(port).toString(16)]),
      ),
      cb: vcpus.map(({ vcpuId }) => {
        const block = words.block(vcpuId)
        return (
          block && {
            ready: block.getUint32(0, true).toString(16),
            heads: queues((q) => block.getUint32(CONTROL_BLOCK.heads + 4 * q, true)),
            tails: queues((q) => fifo.tail(vcpuId, q)),
          }
        )
      }),
    }),
  }
}

function portStates(domain: Domain): object {
  const { ports, fifo } = inside(domain)
  const states: Record<string, object> = {}
  for (let port = 1; port < ports.validEvtchns; port++) {
    const s = ports.state(port)
    if (s === ECS.FREE) continue
    states[port] = {
      s,
      v: ports.notifyVcpu(port),
      ...((s === ECS.UNBOUND || s === ECS.INTERDOMAIN) && { d: ports.remoteDomid(port) }),
      ...(s === ECS.INTERDOMAIN && { p: ports.remotePort(port) }),
      ...((s === ECS.PIRQ || s === ECS.VIRQ) && { i: ports.irq(port) }),
      // Nothing is ever queued for a Xen-attached port, and no trace tells a priority of one.
      ...(ports.consumer(port)
        ? { x: 1 }
        : fifo && ports.priority(port) !== EVTCHN_FIFO_PRIORITY_DEFAULT && { q: ports.priority(port) }),
    }
  }
  return states
}
