/**
 * Restoring a transparent state on a host (nlevel.md section 5). Two steps, and nothing on the host changes in the first:
 *
 *     prepare    sets up a domain that the host does not know yet; at every limit and for every port it makes the checks
 *                of the operation that would have made it, and ends with the first that is refused (NL-mig-3, NL-mig-6)
 *     carryOut   fills the RAM, retires the source that is replaced, puts the domain on the host, connects the ends
 *
 * A state grants nothing: the host (limits, policy) and the caller (RestoreOptions) decide what it may have. An
 * interdomain end is connected only to a peer that is connected to the replaced source, or that waits, UNBOUND, for the
 * restored domain's number. Xen-attached ports are never made.
 */

import {
  ECS,
  EVTCHN_FIFO_MAX_QUEUES,
  FIRST_UPCALL_VECTOR,
  PAGE_SIZE,
  sharedInfo,
  VCPU_INFO_SIZE,
  VIRQ,
  XEN_LEGACY_MAX_VCPUS,
} from '../abi/index.js'
import type { RestoreReport } from '../domain/config.js'
import type { Domain } from '../domain/domain.js'
import { linkPirqPort } from '../domain/pirq_list.js'
import { EVTCHNS_PER_BUCKET } from '../domain/port_table.js'
import { publishCallable } from '../domain/record.js'
import { Errno, type Outcome } from '../errno.js'
import { virqClass } from '../host/virq.js'
import type { World } from '../host/world.js'
import { awaits, mayAllocUnbound, mayBindInterdomain, mayBindVirq, mayUsePirq } from '../hypercalls/evtchn/may.js'
import { noPort } from '../hypercalls/parts.js'
import { frameRefs } from '../machine/memory.js'
import type { CheckedPort, CheckedTransparent } from './check.js'
import { RestoreError } from './fields.js'
import { isRaised, pendingPorts, type Source } from './handle.js'
import { loadRam, type RamSource } from './ram.js'

const { ENOMEM, EINVAL, ENOSPC } = Errno

/** An end to connect. */
interface End {
  port: number
  peer: Domain
  remotePort: number
}

/** @throws RestoreError if what stands at `field` is refused */
function must(field: string, outcome: Outcome): void {
  if (outcome) throw RestoreError.at(field, outcome)
}

/** One restore of a transparent state. */
export class Restore {
  readonly #world: World
  readonly #domain: Domain
  readonly #state: CheckedTransparent
  readonly #migration: Source | null
  /** Global VIRQs whose handler domain it becomes (EC-vclass-5). */
  readonly #roles: readonly number[]
  readonly #ends: End[] = []
  readonly #claimed = new Map<Domain, Set<number>>()
  readonly #report: RestoreReport
  /** Loopback ends of the state by port. */
  readonly #loops = new Map<number, number>()

  /**
   * `domain` is not on the host, and has what the caller grants it; `migration` is that of the source that it replaces,
   * `roles` the global VIRQs that will be its.
   */
  constructor(
    world: World,
    domain: Domain,
    state: CheckedTransparent,
    migration: Source | null,
    roles: readonly number[],
  ) {
    this.#world = world
    this.#domain = domain
    this.#state = state
    this.#migration = migration
    this.#roles = roles
    this.#report = { connected: [], unbound: [], xenPorts: [...state.xenPorts], raised: [] }
  }

  get #source(): Domain | null {
    return this.#migration?.domain ?? null
  }

  /** The highest port that the domain may have. */
  get #highest(): number {
    const { maxEvtchnPort, maxEvtchns } = this.#domain
    // After a latch to 32 bits, 2-level ports that were opened at 64 bits still exist, though they are unusable.
    return Math.min(maxEvtchnPort, Math.max(maxEvtchns, 4096) - 1)
  }

  // --- prepare -------------------------------------------------------------------------------------------------------

  /** Every check. Touches nothing but the new domain. @throws RestoreError */
  prepare(): void {
    const domain = this.#domain
    const state = this.#state
    domain.shutdownCode = state.shutdownCode
    domain.suspendEvtchn = state.suspendEvtchn
    domain.callbackVia = state.callbackVia
    this.#vcpus()
    publishCallable(domain)
    state.installAbi(this.#world, domain)
    this.#pirqRecords()
    // Port objects beyond the domain's limit, or what its ABI can name, cannot be in use.
    const most = Math.ceil((this.#highest + 1) / EVTCHNS_PER_BUCKET) * EVTCHNS_PER_BUCKET
    if (!domain.ports.grow(Math.min(state.validEvtchns, most) - 1))
      throw new RestoreError('validEvtchns', ENOMEM, `there is no memory for ${state.validEvtchns} port objects`)
    this.#fifoPorts()
    for (const { state: of, values } of state.ports)
      if (of === 'interdomain' && values[2] === state.domid) this.#loops.set(values[0]!, values[3]!)
    for (const port of state.ports) this.#port(port)
  }

  #vcpus(): void {
    const domain = this.#domain
    for (const [i, each] of this.#state.vcpuState.entries()) {
      const vcpu = domain.vcpus[i]!
      if (each.infoGfn >= 0) {
        frameRefs(domain.memory).hold(each.infoGfn)
        vcpu.infoGfn = each.infoGfn
        vcpu.info = domain.memory.base + each.infoGfn * PAGE_SIZE + each.infoOffset
        vcpu.activeDepth = 2
      }
      if (each.upcallVector && (domain.type !== 'hvm' || each.upcallVector < FIRST_UPCALL_VECTOR))
        throw new RestoreError(
          `vcpuState[${i}].upcallVector`,
          EINVAL,
          `is ${each.upcallVector}; an HVM guest may have ${FIRST_UPCALL_VECTOR} to 255, a PV guest none`,
        )
      vcpu.upcallVector = each.upcallVector
      vcpu.down = each.down
      if (each.poll) domain.startPoll(vcpu, each.poll.port)
      vcpu.blocked = each.blocked
    }
  }

  /** Queue marks of the port objects, open or not. */
  #fifoPorts(): void {
    const { ports } = this.#domain
    for (const [port, priority, saved, vcpu, lastPriority] of this.#state.fifoPorts as [
      number,
      number,
      number,
      number,
      number,
    ][]) {
      if (!ports.isValid(port)) continue
      ports.setPriority(port, priority)
      if (saved) ports.setSavedPending(port)
      ports.setLastQueue(port, (vcpu << 16) | lastPriority)
    }
  }

  #pirqRecords(): void {
    const { pirqs, memory } = this.#domain
    for (const [i, { pirq, port, willShare, inFlight }] of this.#state.pirqs.entries()) {
      if (pirq >= pirqs.nrPirqs)
        throw new RestoreError(`pirqs[${i}].pirq`, ENOSPC, `is ${pirq}, and nrPirqs is ${pirqs.nrPirqs} here`)
      Object.assign(pirqs.get(pirq), { port, willShare, inFlight })
    }
    const { eoiMap } = this.#state
    if (!eoiMap) return
    frameRefs(memory).hold(eoiMap.gfn)
    pirqs.eoiMapGfn = eoiMap.gfn
    pirqs.eoiMap = memory.base + eoiMap.gfn * PAGE_SIZE
    pirqs.autoUnmask = eoiMap.autoUnmask
  }

  /** One port: the checks of the operation that makes such a port, then the port as that operation leaves it. */
  #port({ state, row, values }: CheckedPort): void {
    const domain = this.#domain
    const [port, notify, number, remotePort] = values as [number, number, number, number]
    const field = `ports.${state}[${row}]`
    const most = this.#highest
    if (port > most)
      throw new RestoreError(`${field}.port`, ENOSPC, `port ${port} is beyond ${most}, the limit here (maxEvtchnPort)`)
    domain.ports.take(port)
    domain.ports.setNotifyVcpu(port, notify)
    switch (state) {
      case 'unbound':
        this.#unbound(field, port, number)
        break
      case 'interdomain':
        this.#interdomain(field, { port, domid: number, remotePort })
        break
      case 'virq':
        this.#virq(field, port, notify, number)
        break
      case 'pirq':
        this.#pirq(field, port, notify, number)
        break
      case 'ipi':
        domain.ports.setState(port, ECS.IPI)
        break
    }
  }

  /** The number that a domain of the state has here: the restored one's own, or a peer's that was renamed meanwhile. */
  #domidHere(domid: number): number {
    return domid === this.#state.domid ? this.#domain.domid : (this.#migration?.renamed.get(domid) ?? domid)
  }

  /** EVTCHNOP_alloc_unbound. A peer that bound to it while the source was frozen is connected. */
  #unbound(field: string, port: number, domid: number): void {
    const remoteDomid = this.#domidHere(domid)
    this.#mayBeUnbound(field, remoteDomid)
    this.#domain.ports.setUnbound(port, remoteDomid)
    const peer = this.#peerOfSource(port)
    if (peer && peer.domid === remoteDomid && domid !== this.#state.domid) {
      const remotePort = this.#source!.ports.remotePort(port)
      this.#connect(field, { port, peer, remotePort }, domid)
    }
  }

  #mayBeUnbound(field: string, remoteDomid: number): void {
    const domain = this.#domain
    const remote = remoteDomid === domain.domid ? domain : this.#world.domainById(remoteDomid)
    must(field, mayAllocUnbound(this.#world, domain, domain, remoteDomid, remote))
  }

  /** The domain that the frozen source's own port is connected to, if it is. */
  #peerOfSource(port: number): Domain | null {
    const source = this.#source
    if (!source?.ports.isValid(port) || source.ports.consumer(port)) return null
    if (source.ports.state(port) !== ECS.INTERDOMAIN) return null
    const peer = this.#world.domainById(source.ports.remoteDomid(port))
    return peer && peer !== source ? peer : null
  }

  /** EVTCHNOP_bind_interdomain, for ends that exist; any other becomes UNBOUND, as when a peer dies (EC-die-5). */
  #interdomain(field: string, end: { port: number; domid: number; remotePort: number }): void {
    const { port, domid, remotePort } = end
    const domain = this.#domain
    if (domid === this.#state.domid && port !== remotePort && this.#loops.get(remotePort) === port) {
      this.#mayBind(field, domain)
      domain.ports.setInterdomain(port, domain.domid, remotePort)
      return
    }
    const remoteDomid = this.#domidHere(domid)
    const peer = domid === this.#state.domid ? undefined : this.#world.domainById(remoteDomid)
    const found = this.#otherEnd(port, domid, remotePort, peer)
    if (typeof found === 'number') {
      this.#connect(field, { port, peer: peer!, remotePort: found }, domid)
      return
    }
    this.#mayBeUnbound(field, remoteDomid)
    domain.ports.setUnbound(port, remoteDomid)
    this.#report.unbound.push({ ...end, reason: found })
  }

  /** The peer's port that may be connected, or why there is none. */
  #otherEnd(port: number, domid: number, remotePort: number, peer: Domain | undefined): number | string {
    if (domid === this.#state.domid) return `port ${remotePort} of the domain itself is not its other end`
    if (!peer || peer === this.#source) return `there is no domain ${this.#domidHere(domid)}`
    if (peer.dying !== 'alive') return `d${peer.domid} is dying`
    // While the source was frozen, the peer may have closed its end and made another; the source's own port says so.
    if (this.#peerOfSource(port) === peer && this.#migration!.wasConnected(port, domid, remotePort))
      return this.#source!.ports.remotePort(port)
    const refused = awaits(peer, remotePort, this.#domain.domid)
    return refused ? refused.text : remotePort
  }

  #connect(field: string, end: End, domid: number): void {
    const { port, peer, remotePort } = end
    this.#mayBind(field, peer)
    const claimed = this.#claimed.get(peer) ?? new Set()
    if (claimed.has(remotePort)) must(field, noPort(peer, remotePort))
    this.#claimed.set(peer, claimed.add(remotePort))
    this.#domain.ports.setInterdomain(port, peer.domid, remotePort)
    this.#ends.push(end)
    this.#report.connected.push({ port, domid, remotePort })
  }

  #mayBind(field: string, peer: Domain): void {
    must(field, mayBindInterdomain(this.#world, this.#domain, peer))
  }

  /** EVTCHNOP_bind_virq. */
  #virq(field: string, port: number, notify: number, virq: number): void {
    const domain = this.#domain
    const vcpu = domain.vcpus[virqClass(virq) === 'vcpu' ? notify : 0]!
    const handles =
      this.#roles.includes(virq) || this.#world.virqs.willHandle(virq, domain.domid, this.#source ?? undefined)
    must(`${field}.virq`, mayBindVirq({ domain, vcpu, virq, handles }))
    domain.ports.setIrq(port, ECS.VIRQ, virq)
    vcpu.setVirqPort(virq, port)
  }

  /** EVTCHNOP_bind_pirq. */
  #pirq(field: string, port: number, notify: number, pirq: number): void {
    const domain = this.#domain
    must(`${field}.pirq`, mayUsePirq(domain, pirq))
    if (domain.type === 'pv') {
      const { willShare } = domain.pirqs.get(pirq)
      must(`${field}.pirq`, this.#world.irqs.mayBind(pirq, willShare, this.#source?.domid))
    }
    domain.ports.setIrq(port, ECS.PIRQ, pirq)
    linkPirqPort(domain, port, notify)
  }

  // --- carry out -----------------------------------------------------------------------------------------------------

  /**
   * Every effect. `attach` puts the domain on the host, under its number. Nothing here can be refused.
   */
  carryOut(attach: () => void, ram: RamSource): RestoreReport {
    // Ends of channels pass from one domain to another, and events of the old one with them: nobody sends meanwhile.
    return this.#domain.hostCore.lock.write(() => this.#carryOut(attach, ram))
  }

  #carryOut(attach: () => void, ram: RamSource): RestoreReport {
    const domain = this.#domain
    const source = this.#source
    // The source keeps its events in its own RAM, and the same RAM may be filled next.
    const late = source ? [...pendingPorts(source)] : []
    loadRam(domain.memory, ram)
    if (ram === 'keep' && source) takeQueues(domain, source)
    for (const gfn of this.#state.readOnly) domain.memory.protect(gfn)
    if (source) retire(this.#world, source, new Set(this.#ends.map((end) => end.port)))
    attach()
    this.#takeInterrupts()
    for (const { port, peer, remotePort } of this.#ends) peer.ports.setInterdomain(remotePort, domain.domid, port)
    for (const port of late) {
      if (!domain.ports.isValid(port) || !domain.ports.isUsable(port) || isRaised(domain, port)) continue
      domain.setPending(port)
      this.#report.raised.push(port)
    }
    // Signals sent while an end was cut are lost, so each end gets one event to be safe (NL-mig-6).
    for (const { port, peer, remotePort } of this.#ends) {
      domain.setPending(port)
      peer.setPending(remotePort)
    }
    return this.#report
  }

  #takeInterrupts(): void {
    const world = this.#world
    const domain = this.#domain
    if (domain.vcpus[0]!.virqPort(VIRQ.DOM_EXC) && !world.virqs.ownsDomExc(domain))
      world.virqs.openDomExc(domain, world.domids())
    if (domain.type !== 'pv') return
    for (const { pirq, port, willShare } of this.#state.pirqs) if (port) world.irqs.bind(pirq, domain.domid, willShare)
  }
}

/**
 * RAM that stays in its place has the links of the events that came after the save, so the ends of those queues are the
 * source's as they are now, not as they were saved.
 */
function takeQueues(domain: Domain, source: Domain): void {
  const { fifo, ports, memory } = domain
  const old = source.memory
  if (!fifo || !source.fifo || memory.memory !== old.memory || memory.base !== old.base) return
  for (let vcpu = 0; vcpu < domain.vcpus.length; vcpu++)
    for (let priority = 0; priority < EVTCHN_FIFO_MAX_QUEUES; priority++)
      fifo.setTail(vcpu, priority, source.fifo.tail(vcpu, priority))
  for (let port = 1; port < Math.min(ports.validEvtchns, source.ports.validEvtchns); port++)
    ports.setLastQueue(port, source.ports.lastQueue(port))
}

/**
 * Ends a source whose channels pass to another domain: its peers' ends in `passed` are left alone, all others become
 * UNBOUND, silently (EC-die-5). Its memory is not touched: the restored domain may live in the same.
 */
export function retire(world: World, source: Domain, passed: ReadonlySet<number>): void {
  source.hostCore.lock.write(() => passOn(world, source, passed))
}

function passOn(world: World, source: Domain, passed: ReadonlySet<number>): void {
  const { ports, domid } = source
  for (let port = ports.nextUsed(1); port >= 0; port = ports.nextUsed(port + 1)) {
    const state = ports.state(port)
    if (state === ECS.PIRQ && source.type === 'pv') world.irqs.unbind(ports.irq(port), domid)
    if (state !== ECS.INTERDOMAIN || passed.has(port)) continue
    const peer = world.domainById(ports.remoteDomid(port))
    if (peer && peer !== source) peer.ports.setUnbound(ports.remotePort(port), domid)
  }
  source.dying = 'dead'
  for (const vcpu of source.vcpus) vcpu.down = true
}

/** Leaves the shared_info of a domain that starts anew as Xen's restorer does (EC-guest-6). */
export function clearChannels(domain: Domain): void {
  const view = domain.memory.view()
  const at = domain.sharedInfoGfn * PAGE_SIZE
  const { sel, pending, mask, words } = sharedInfo(domain.bits)
  const bitmap = (words * domain.bits) / 8
  view.fill(0, at + pending, at + pending + bitmap)
  view.fill(0xff, at + mask, at + mask + bitmap)
  for (let vcpu = 0; vcpu < XEN_LEGACY_MAX_VCPUS; vcpu++) {
    const word = at + vcpu * VCPU_INFO_SIZE + sel
    view.fill(0, word, word + domain.bits / 8)
  }
}
