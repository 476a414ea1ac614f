/**
 * The reference: what event-channels.md parts 2 and 3 and nlevel.md sections 2 to 4 say of one domain, with sets instead
 * of words. There is no tree here at all: a scan delivers what is pending, unmasked and bound to its vCPU, in cyclic
 * order, and the tree is right if that is what it does.
 *
 * Peers are a second domain's ports by number; of them the reference knows only which port of ours each is joined to.
 */

import BitSet from 'bitset'

const ENOENT = -2
const EBUSY = -16
const EEXIST = -17
const EINVAL = -22
const ENOSPC = -28

export type Kind = 'unbound' | 'interdomain' | 'virq' | 'ipi'

interface Port {
  kind: Kind
  vcpu: number
  /** INTERDOMAIN: the peer's port. */
  remote: number
}

interface VcpuState {
  /** Its selectors are active; if not, events latch (NL-sel-4). */
  active: boolean
  recorded: boolean
  /** Port that the next scan begins with (NL-scan-3). */
  next: number
  /** Port of its VIRQ_TIMER, 0 = none. */
  timer: number
}

export class Reference {
  readonly bits: number
  levels = 2
  channels: number
  valid = 64
  readonly ports = new Map<number, Port>()
  pending = new BitSet()
  /** The complement of the mask: most ports are masked. */
  unmasked = new BitSet()
  /** What the mask words of shared_info say while they are not in use (NL-reg-4). */
  oldUnmasked = new BitSet()
  readonly vcpus: VcpuState[]
  /** vCPUs whose upcall flag the operation at hand may raise, and those that it must tell, flag or not (NL-sel-3). */
  readonly raised = new Set<number>()
  readonly activated = new Set<number>()
  #lowestFree = 1

  constructor(bits: number, vcpus: number) {
    this.bits = bits
    this.channels = bits * bits
    this.vcpus = Array.from({ length: vcpus }, () => ({ active: true, recorded: false, next: 1, timer: 0 }))
    for (let port = 0; port < this.channels; port++) this.unmasked.set(port, 1)
  }

  /** EC-port-17: the lowest free number, or ENOSPC. */
  open(kind: Kind, vcpu: number, remote = 0): number {
    while (this.ports.has(this.#lowestFree)) this.#lowestFree++
    const port = this.#lowestFree
    if (port >= this.channels) return ENOSPC
    while (this.valid <= port) this.valid += 64
    this.ports.set(port, { kind, vcpu, remote })
    return port
  }

  bindIpi(vcpu: number): number {
    return this.vcpus[vcpu] ? this.open('ipi', vcpu) : ENOENT
  }

  bindTimer(vcpu: number): number {
    const state = this.vcpus[vcpu]
    if (!state) return ENOENT
    if (state.timer) return EEXIST
    const port = this.open('virq', vcpu)
    if (port > 0) state.timer = port
    return port
  }

  /** Binds to a peer's port: one event to be safe (EC-inter-8). */
  bindInterdomain(remote: number): number {
    const port = this.open('interdomain', 0, remote)
    if (port > 0) this.raise(port)
    return port
  }

  close(port: number): number {
    const found = this.ports.get(port)
    if (!found) return EINVAL
    if (found.kind === 'virq') this.vcpus[found.vcpu]!.timer = 0
    this.ports.delete(port)
    this.pending.set(port, 0)
    this.#lowestFree = Math.min(this.#lowestFree, port)
    return 0
  }

  /** A peer that joins an unbound port of ours, or leaves (EC-close-8): pending, mask and vCPU stay. */
  joined(port: number, remote: number): void {
    Object.assign(this.ports.get(port)!, { kind: remote ? 'interdomain' : 'unbound', remote })
  }

  /** NL-set-1. */
  raise(port: number): void {
    if (this.pending.get(port)) return
    this.pending.set(port, 1)
    this.#mayRaise(port)
  }

  #mayRaise(port: number): void {
    const { vcpu } = this.ports.get(port)!
    if (this.pending.get(port) && this.unmasked.get(port) && this.vcpus[vcpu]!.active) this.raised.add(vcpu)
  }

  send(port: number): number {
    const found = this.ports.get(port)
    if (!found || found.kind === 'virq') return EINVAL
    if (found.kind === 'ipi') this.raise(port)
    return 0
  }

  /** NL-unmask-1: only a port that was masked. */
  unmask(port: number): number {
    if (port >= this.valid) return EINVAL
    if (!this.ports.has(port) || this.unmasked.get(port)) return 0
    this.unmasked.set(port, 1)
    this.#mayRaise(port)
    return 0
  }

  /** NL-vcpu-1; at two levels nothing is raised (EC-vcpu-6). */
  bindVcpu(port: number, vcpu: number): number {
    if (!this.vcpus[vcpu]) return ENOENT
    const found = this.ports.get(port)
    if (!found || found.kind === 'ipi' || found.kind === 'virq') return EINVAL
    found.vcpu = vcpu
    if (this.levels > 2) this.#mayRaise(port)
    return 0
  }

  /** What a scan of a vCPU delivers: at most `max`, cyclic from `next` (NL-scan-1, NL-scan-3). */
  scan(vcpu: number, max: number): number[] {
    const state = this.vcpus[vcpu]!
    const due = this.pending
      .and(this.unmasked)
      .toArray()
      .filter((port) => this.ports.get(port)?.vcpu === vcpu)
    const first = due.findIndex((port) => port >= state.next)
    const cyclic = first < 0 ? due : [...due.slice(first), ...due.slice(0, first)]
    const taken = cyclic.slice(0, max)
    for (const port of taken) this.pending.set(port, 0)
    if (taken.length) state.next = (taken.at(-1)! + 1) % this.channels
    return taken
  }

  /** Ports that nobody would ever be told of if the tree had forgotten them. */
  reachable(): { port: number; vcpu: number }[] {
    return this.pending
      .and(this.unmasked)
      .toArray()
      .flatMap((port) => {
        const vcpu = this.ports.get(port)?.vcpu
        return vcpu !== undefined && this.vcpus[vcpu]!.active ? [{ port, vcpu }] : []
      })
  }

  setSelectors(vcpu: number): number {
    const state = this.vcpus[vcpu]
    if (!state) return ENOENT
    if (this.levels > 2 && state.recorded) return EBUSY
    state.recorded = true
    if (this.levels > 2) this.#activate(vcpu)
    return 0
  }

  #activate(vcpu: number): void {
    this.vcpus[vcpu]!.active = true
    this.raised.add(vcpu)
    this.activated.add(vcpu)
  }

  /** NL-reg-4: the masks of the first W² ports come along, the others are as the guest made them: set. */
  register(caller: number, levels: number, channels: number): number {
    if (this.levels > 2) return EBUSY
    if (!this.vcpus[caller]!.recorded) return EINVAL
    this.oldUnmasked = this.unmasked.clone()
    this.levels = levels
    this.channels = channels
    for (const [vcpu, state] of this.vcpus.entries()) {
      state.active = false
      state.next = 1
      if (state.recorded) this.#activate(vcpu)
    }
    return 0
  }

  /** EC-reset-7, NL-reset-1. */
  reset(): number {
    for (const port of [...this.ports.keys()]) this.close(port)
    for (const state of this.vcpus) Object.assign(state, { active: true, recorded: false, next: 1 })
    if (this.levels > 2) {
      this.levels = 2
      this.channels = this.bits * this.bits
      this.unmasked = this.oldUnmasked
    }
    return 0
  }
}
