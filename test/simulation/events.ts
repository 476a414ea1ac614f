/**
 * Guests on every ABI, on two hosts: they come and go, connect, signal, mask, move events between vCPUs, take vCPUs down,
 * suspend, and move from host to host in both modes. Handlers throw now and then, and hypercalls are refused.
 */

import { type Bits, HYPERVISOR, VCPUOP, VIRQ } from '../../src/abi/index.js'
import { ManualClock } from '../../src/clock.js'
import { type BindOptions, XenError } from '../../src/index.js'
import { checkHypervisor } from './checks.js'
import { SimulatedHost } from './host.js'
import { Moves } from './moves.js'
import { End, FORMS, Party } from './party.js'
import { choose, Injected, must, type Step } from './step.js'

const MOST_GUESTS = 6
const FRAMES = 128
const MOST_ENDS = 24
/** Calls that are refused now and then. */
const REFUSABLE = ['alloc_unbound', 'bind_interdomain', 'bind_vcpu', 'close', 'bind_ipi', 'register_nlevel']

type Numbers = Step['numbers']

/** All guests and what they owe one another. */
export class Events {
  readonly clock = new ManualClock()
  readonly hosts = [new SimulatedHost('home', this.clock), new SimulatedHost('away', this.clock)] as const
  readonly parties: Party[] = []
  readonly #moves = new Moves(this)
  /** The next handler that runs throws. */
  #throws = false
  /** The next handler that runs masks this one of its guest's ends. */
  #masks: number | undefined

  /** The steps, and how often each comes. */
  static readonly weights = {
    boot: 4,
    destroy: 1,
    connect: 10,
    ipi: 3,
    virq: 2,
    closeEnd: 3,
    send: 40,
    sendVirq: 4,
    mask: 5,
    unmask: 8,
    move: 4,
    priority: 2,
    down: 2,
    up: 3,
    pause: 2,
    unpause: 3,
    suspend: 1,
    wake: 2,
    throwing: 2,
    burst: 5,
    refuse: 2,
    time: 2,
    transparent: 1,
    cooperative: 1,
    replace: 1,
    damaged: 1,
    dump: 1,
  } as const

  /** Does a step. What the hypervisor refuses changes nothing. */
  step({ kind, numbers }: Step): void {
    try {
      this.#do(kind as keyof typeof Events.weights, numbers)
    } catch (error) {
      if (!(error instanceof XenError)) throw error
    }
  }

  #do(kind: keyof typeof Events.weights, numbers: Numbers): void {
    const [a, b, c] = numbers
    const party = choose(this.parties, a)
    if (kind === 'boot') this.#boot(numbers)
    else if (kind === 'throwing') this.#throws = true
    else if (kind === 'time') this.clock.advance(c % 5 ? c : c * 1e9)
    else if (kind === 'refuse') this.#refuse(numbers)
    else if (kind === 'dump') for (const _ of choose(this.hosts, a)!.xen.dump());
    else if (!party) return
    else if (kind === 'transparent' || kind === 'cooperative' || kind === 'replace' || kind === 'damaged')
      this.#moves[kind](party, numbers)
    else if (kind === 'pause' || kind === 'unpause') this.#pause(party, kind === 'pause')
    else if (kind === 'destroy') this.#destroy(party)
    else if (kind === 'wake') this.#wake(party)
    else if (party.held) return
    else if (kind === 'connect') this.#connect(party, numbers)
    else if (kind === 'suspend') this.#suspend(party)
    else if (kind === 'burst') this.#burst(party, numbers)
    else if (kind === 'down' || kind === 'up') this.#vcpu(party, kind, b)
    else if (kind === 'sendVirq') party.host.xen.sendVirq(party.domain.vcpu(b % party.domain.vcpus.length), VIRQ.TIMER)
    else if (kind === 'ipi' || kind === 'virq') this.#own(party, kind, b)
    else this.#onEnd(kind, party, numbers)
  }

  // --- guests --------------------------------------------------------------------------------------------------------

  #boot([a, b, c, d]: Numbers): void {
    const host = choose(this.hosts, d)!
    const domid = host.free(MOST_GUESTS)
    if (domid === undefined) return
    const bits: Bits = b % 2 ? 64 : 32
    const levels = choose(FORMS, a)!
    if (levels === 4 && bits === 32 && c % 2) return
    const vcpus = 1 + (c % 3)
    const kernel = host.xen.boot({
      domid,
      bits,
      vcpus,
      frames: FRAMES,
      maxEvtchnPort: Infinity,
      levels,
      ...(levels !== 'fifo' && levels > 2 && { nrPages: 1 }),
    })
    this.parties.push(new Party(host, kernel, host.xen.domain(domid)!))
  }

  /** A guest is gone, with all that it had. */
  #destroy(party: Party): void {
    party.host.xen.destroyDomain(party.domain)
    this.forget(party)
  }

  forget(party: Party): void {
    for (const end of party.ends) party.drop(end)
    this.parties.splice(this.parties.indexOf(party), 1)
  }

  #pause(party: Party, on: boolean): void {
    const { xen } = party.host
    if (on) {
      xen.pauseDomain(party.domain)
      party.paused++
    } else if (party.paused) {
      party.paused--
      xen.unpauseDomain(party.domain)
    }
  }

  #suspend(party: Party): void {
    party.suspended = true
    party.kernel.suspend()
  }

  /** The suspend was cancelled: what came in meanwhile is handled. */
  #wake(party: Party): void {
    if (!party.suspended || party.paused) return
    party.host.xen.resumeDomain(party.domain)
    party.suspended = false
    party.kernel.cancelSuspend()
  }

  #vcpu(party: Party, kind: 'down' | 'up', number: number): void {
    // vCPU 0 makes the calls.
    const { length } = party.domain.vcpus
    if (length < 2) return
    const vcpu = 1 + (number % (length - 1))
    const { xen } = party.host
    // In this order: what waits for the vCPU runs before the call has returned.
    if (kind === 'down') party.down.add(vcpu)
    else party.down.delete(vcpu)
    const rc = xen.hypercall(party.domain.vcpu(0), HYPERVISOR.vcpu_op, [VCPUOP[kind], vcpu, 0])
    must(rc === 0, () => `VCPUOP_${kind} of d${party.domid}v${vcpu} is ${rc}`)
  }

  // --- channels ------------------------------------------------------------------------------------------------------

  /** How an end is bound: its handler settles what it is owed. */
  options(end: End): BindOptions {
    const handler = (port: number) => {
      must(!end.closed, () => `a handler of a closed end ran: ${end}`)
      must(port === end.port || end.port === 0, () => `${end}: the handler was given port ${port}`)
      const { party } = end
      // Another vCPU must not take it (NL-scan-4). On FIFO it stays on the queue that it was put on (EC-fifo-14).
      const elsewhere = party.kernel.levels !== 'fifo' && party.down.has(end.vcpu)
      must(!elsewhere, () => `${end}: its handler ran while its vCPU ${end.vcpu} is down`)
      end.owed = false
      this.#maskAnother(end)
      if (!this.#throws) return
      this.#throws = false
      throw new Injected(`handler of ${end}`)
    }
    return {
      handler,
      vcpu: end.vcpu,
      onRebound: (port) => {
        end.port = port
      },
      onLost: () => end.party.drop(end),
    }
  }

  #connect(a: Party, [, b, c, d]: Numbers): void {
    const others = this.parties.filter((each) => each.host === a.host && !each.held)
    const other = choose(others, b)!
    if (a.ends.size >= MOST_ENDS || other.ends.size >= MOST_ENDS) return
    const one = new End(a, 'interdomain', c % a.domain.vcpus.length)
    one.port = a.kernel.allocUnbound(other.domid, this.options(one))
    a.ends.add(one)
    const two = new End(other, 'interdomain', d % other.domain.vcpus.length)
    two.port = other.kernel.bindInterdomain(a.domid, one.port, this.options(two))
    other.ends.add(two)
    one.peer = two
    two.peer = one
  }

  #own(party: Party, kind: 'ipi' | 'virq', number: number): void {
    if (party.ends.size >= MOST_ENDS) return
    const vcpu = number % party.domain.vcpus.length
    const end = new End(party, kind, vcpu)
    const options = this.options(end)
    end.port = kind === 'ipi' ? party.kernel.bindIpi(options) : party.kernel.bindVirq(VIRQ.TIMER, options)
    party.ends.add(end)
  }

  #onEnd(kind: 'closeEnd' | 'send' | 'mask' | 'unmask' | 'move' | 'priority', party: Party, [, b, c]: Numbers): void {
    const end = choose([...party.ends], b)
    if (!end) return
    const { kernel } = party
    switch (kind) {
      case 'closeEnd':
        kernel.close(end.port)
        party.drop(end)
        break
      case 'send':
        this.#send(end)
        break
      case 'mask':
        kernel.mask(end.port)
        end.masked = true
        break
      case 'unmask':
        end.masked = false
        try {
          kernel.unmask(end.port)
        } catch (error) {
          end.masked = kernel.isMasked(end.port)
          throw error
        }
        break
      case 'move':
        this.#move(end, c % party.domain.vcpus.length)
        break
      case 'priority':
        kernel.setPriority(end.port, c % 16)
    }
  }

  /** Several events at once: a guest that was paused finds them in one round, and its first handler may mask another. */
  #burst(party: Party, [, b, c]: Numbers): void {
    const { xen } = party.host
    xen.pauseDomain(party.domain)
    try {
      for (const { peer } of [...party.ends].slice(b % 3, (b % 3) + 5))
        if (peer && peer.party !== party && !peer.party.held) this.#send(peer)
      this.#masks = c
    } finally {
      xen.unpauseDomain(party.domain)
    }
  }

  /** A handler holds back another of its guest's ports, which may be next in the same round. */
  #maskAnother(end: End): void {
    if (this.#masks === undefined) return
    const other = choose([...end.party.ends], this.#masks)
    this.#masks = undefined
    if (!other || other === end || !other.port) return
    end.party.kernel.mask(other.port)
    other.masked = true
  }

  #move(end: End, vcpu: number): void {
    const old = end.vcpu
    end.vcpu = vcpu
    try {
      end.party.kernel.moveToVcpu(end.port, vcpu)
    } catch (error) {
      end.vcpu = old
      throw error
    }
  }

  /** A VIRQ is not to be sent on by its guest (EC-send-3). */
  #send(end: End): void {
    if (end.what === 'virq') return
    const target = end.what === 'ipi' ? end : end.peer
    const before = target?.owed
    if (target) target.owed = true
    try {
      end.party.kernel.send(end.port)
    } catch (error) {
      if (target) target.owed = before!
      throw error
    }
  }

  #refuse([a, b, c]: Numbers): void {
    const { faults } = choose(this.hosts, a)!
    if (faults.armed < 3) faults.fail({ call: choose(REFUSABLE, b)!, errno: 'ENOMEM', nth: 1 + (c % 5) })
  }

  // --- what must hold ------------------------------------------------------------------------------------------------

  /** Nothing is owed that could be given; both hosts are sound. */
  check(): void {
    for (const host of this.hosts) must(host.errors.length === 0, () => `${host.name}: ${host.errors[0]}`)
    for (const party of this.parties)
      for (const end of party.ends) must(!end.owed || end.held, () => `an event was lost: ${end} has not run`)
    for (const host of this.hosts) {
      checkHypervisor(host.xen, host.name)
    }
  }

  /** Everybody runs on, then leaves. Nothing is left behind. */
  end(): void {
    for (const party of this.parties) {
      while (party.paused) this.#pause(party, false)
      this.#wake(party)
      for (const vcpu of [...party.down]) this.#vcpu(party, 'up', vcpu - 1)
      for (const end of party.ends) {
        end.masked = false
        for (let i = 0; i < 20 && party.kernel.isMasked(end.port); i++)
          this.step({ kind: 'noop', numbers: [0, 0, 0, 0] })
        unmask(end)
      }
    }
    this.check()
    for (const party of [...this.parties]) this.#destroy(party)
    for (const { xen, name, dom0 } of this.hosts) {
      must(xen.domids().join() === '0', () => `${name}: domains ${xen.domids()} are left`)
      must(xen.domain(0)!.openPorts === 0, () => `${name}: ${xen.domain(0)!.openPorts} ports of dom0 are left`)
      must(dom0.levels === 3, `${name}: dom0 has lost its tree`)
    }
    this.check()
  }
}

/** Unmasks an end, however often a refusal is still armed. */
function unmask(end: End): void {
  for (let i = 0; i < 20; i++)
    try {
      end.party.kernel.unmask(end.port)
      return
    } catch (error) {
      if (!(error instanceof XenError)) throw error
    }
}
