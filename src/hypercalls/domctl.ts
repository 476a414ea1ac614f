/**
 * What the toolstack asks Xen to do to a domain, by domctl in Xen itself: pause, kill, soft reset, resume, target, suspend
 * event channel (xen/common/domctl.c, domain.c; spec part 7).
 *
 *     alive ──kill──▶ dying ──(each step may be preempted)──▶ dead ──destroy──▶ its number is free again
 */

import { SHUTDOWN } from '../abi/index.js'
import { bigWithin } from '../check.js'
import { frozenText } from '../domain/config.js'
import type { Domain } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Errno, XenError } from '../errno.js'
import type { Domains } from '../host/domains.js'
import type { PollTimers } from '../host/poll_timers.js'
import type { Softirqs } from '../host/softirq.js'
import type { UpcallQueue } from '../host/upcall_queue.js'
import type { Virqs } from '../host/virq.js'
import { frameRefs } from '../machine/memory.js'
import { continueReset, destroyChannels, PREEMPTED, resetDomain } from './evtchn/close.js'
import { sendPort } from './evtchn/send.js'
import { storeParam } from './hvm_op.js'
import type { SchedWorld } from './sched_op.js'

const bigint = bigWithin(0n, 2n ** 64n - 1n)

/** The parts of a host that life and death touch. */
export interface DomctlHost {
  readonly domains: Domains
  readonly queue: UpcallQueue
  readonly timers: PollTimers
  readonly softirqs: Softirqs
  readonly virqs: Virqs
  readonly world: SchedWorld
  /** A domain died: its migration, if there is one, has no source any more. */
  died(domain: Domain): void
  /** A vCPU that runs on a thread of its own now, if the domain has one. */
  runningVcpu(domain: Domain): Vcpu | undefined
  /** Tells the trace what happened to a domain. */
  tell(domain: Domain, what: string): void
}

/** Life and death of the domains of one host. */
export class Domctl {
  readonly #host: DomctlHost

  constructor(host: DomctlHost) {
    this.#host = host
  }

  /** Domains in the middle of a soft reset. A guest's own reset is not one. */
  readonly #resetting = new WeakSet<Domain>()

  /** Takes one pause back. @throws XenError EINVAL if the domain is not paused */
  unpause(domain: Domain): void {
    if (!domain.pauseCount) throw new XenError('unpauseDomain', Errno.EINVAL, `d${domain.domid} is not paused`)
    domain.pauseCount--
    this.#host.queue.resume(domain)
  }

  /** One step of killing a domain: true when it is dead, false when preemption was due (EC-die-1, EC-die-3). */
  killStep(domain: Domain): boolean {
    const { queue, world, timers, virqs } = this.#host
    return queue.around(() => {
      if (domain.dying === 'dead') return true
      domain.dying = 'dying'
      if (destroyChannels(world, domain) === PREEMPTED) return false
      domain.hostCore.lock.exclude()
      for (const vcpu of domain.vcpus) {
        if (vcpu.infoGfn >= 0) frameRefs(domain.memory).release(vcpu.infoGfn)
        vcpu.infoGfn = -1
        vcpu.loseInfo()
        domain.endPoll(vcpu)
        timers.disarm(vcpu)
        vcpu.down = true
      }
      domain.grants.releaseHeld()
      domain.hostCore.lock.admit()
      domain.pirqs.dropEoiMap(domain.memory)
      domain.dying = 'dead'
      this.#host.died(domain)
      this.#host.tell(domain, 'is dead')
      virqs.domainChanged(domain.domid)
      return true
    })
  }

  /** Kills a domain, continuing after each preemption. */
  kill(domain: Domain): void {
    while (!this.killStep(domain)) this.#host.softirqs.processPending()
  }

  /** Kills a domain if it is not dead yet, and forgets its number. */
  destroy(domain: Domain): void {
    const { queue, domains, virqs } = this.#host
    this.kill(domain)
    queue.around(() => {
      domains.remove(domain.domid)
      this.#host.tell(domain, 'is gone')
      if (domain.stubs) for (const other of domains) if (other.target === domain) other.target = undefined
      virqs.domainChanged(domain.domid)
    })
  }

  /**
   * One step of a soft reset: closes the channels of a domain that was shut down, and puts its vcpu_info back into the
   * legacy place (EC-die-6). True when that is done and the domain runs, false when preemption was due.
   * @throws XenError EINVAL unless the domain was shut down; any refusal of the reset.
   */
  softResetStep(domain: Domain): boolean {
    const { queue, world } = this.#host
    if (domain.shutdownCode < 0) throw new XenError('softReset', Errno.EINVAL, `d${domain.domid} is not shut down`)
    const running = this.#host.runningVcpu(domain)
    if (running)
      throw new XenError('softReset', Errno.EBUSY, `d${domain.domid}v${running.vcpuId} has a thread; quiesce it first`)
    const done = queue.around(() => {
      const outcome = (this.#resetting.delete(domain) ? continueReset : resetDomain)(world, domain, domain)
      if (outcome === PREEMPTED) {
        this.#resetting.add(domain)
        return false
      }
      if (outcome) throw XenError.of('softReset', outcome)
      for (const vcpu of domain.vcpus) domain.useLegacyInfo(vcpu)
      domain.shutdownCode = -1
      return true
    })
    if (done) queue.resume(domain)
    return done
  }

  /** Resets a domain softly, continuing after each preemption. @throws as softResetStep */
  softReset(domain: Domain): void {
    while (!this.softResetStep(domain)) this.#host.softirqs.processPending()
  }

  /** Shuts a domain down. The first reason counts until the domain is resumed, reset or dead. */
  shutdown(domain: Domain, reason: number): void {
    const { world, virqs } = this.#host
    if (domain.shutdownCode >= 0) return
    domain.shutdownCode = reason & 0xff
    this.#host.tell(domain, `is shut down: ${domain.shutdownCode}`)
    // A suspend goes to the suspend event channel, anything else to the handler of VIRQ_DOM_EXC (EC-vclass-6). The port
    // was stored unchecked, so a send that fails is harmless (EC-xsm-7).
    if (domain.shutdownCode === SHUTDOWN.suspend && domain.suspendEvtchn) sendPort(world, domain, domain.suspendEvtchn)
    else virqs.domainChanged(domain.domid)
  }

  /** Sets an HVM parameter. @throws XenError EINVAL for a PV domain, EAGAIN while it is saved, EEXIST */
  setHvmParam(domain: Domain, index: number, value: bigint): void {
    const call = 'setHvmParam'
    if (domain.type !== 'hvm') throw new XenError(call, Errno.EINVAL, `d${domain.domid} is not an HVM guest`)
    bigint(call, 'value', value)
    if (domain.frozen === 'saved') throw new XenError(call, Errno.EAGAIN, frozenText(domain))
    const outcome = this.#host.queue.around(() => storeParam(domain, index, value))
    if (outcome) throw XenError.of(call, outcome)
  }

  /** Lets a domain run that was shut down: after a cancelled suspend. @throws XenError EAGAIN while it is frozen */
  resume(domain: Domain): void {
    if (domain.frozen) throw new XenError('resumeDomain', Errno.EAGAIN, frozenText(domain))
    domain.shutdownCode = -1
    this.#host.queue.resume(domain)
  }
}
