/**
 * One thread with vCPUs, seen from the hypervisor's: its mailbox, what its vCPUs are to do, and what it leaves behind when its
 * worker is terminated.
 */

import type { Callouts } from '../callout.js'
import type { Domain } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Errno, type OnRefusal, type Refusal } from '../errno.js'
import type { HostCore } from '../machine/host_core.js'
import {
  ASLEEP,
  ASLEEP_CALLED,
  CONTROL_PARK,
  CONTROL_RUN,
  CONTROL_STOP,
  THREAD_SHIFT,
  VCPU,
} from '../machine/host_layout.js'
import {
  ANSWERED,
  ASKED,
  CALL_ARM,
  CALL_HYPERCALL,
  CALL_SEND,
  CALL_VIRQ,
  IDLE,
  Mailbox,
  type MailRegister,
  QUESTION,
  REPLIED,
  SERVING,
} from '../machine/mailbox.js'
import type { Domains } from './domains.js'
import { freeLocks, lastEvent } from './mend.js'
import type { PollTimers } from './poll_timers.js'
import type { UpcallQueue } from './upcall_queue.js'

/** What of the host this needs. */
export interface ThreadsHost {
  readonly core: HostCore
  readonly domains: Domains
  readonly queue: UpcallQueue
  readonly timers: PollTimers
  readonly callouts: Callouts
  /** A raw hypercall: 0 or more, or -errno. */
  raw(vcpu: Vcpu, nr: number | bigint, args: readonly (number | bigint)[], onRefusal: OnRefusal): number
  virq(vcpu: Vcpu, virq: number): void
  /** EVTCHNOP_send of a port at hand: 0, or -errno. */
  send(vcpu: Vcpu, port: number): number
}

/** How long a thread may take for a page walk that it is asked for. */
const PATIENCE_MS = 1000

/** Values of PARKED. */
const RUNS = 0
const STOPPED = 2

/** Where the thread's blocks are. */
interface Blocks {
  readonly known: number
  readonly mailbox: number
}

/** A thread. */
export class AttachedThread {
  readonly number: number
  readonly serial: number
  readonly blocks: Blocks
  readonly vcpus: readonly Vcpu[]
  /** The domain of each vCPU. */
  readonly domains: readonly Domain[]
  readonly #host: ThreadsHost
  readonly #mail: Mailbox
  #leaving = false

  constructor(
    host: ThreadsHost,
    number: number,
    serial: number,
    blocks: Blocks,
    vcpus: readonly Vcpu[],
    domains: readonly Domain[],
  ) {
    this.#host = host
    this.number = number
    this.serial = serial
    this.blocks = blocks
    this.vcpus = vcpus
    this.domains = domains
    this.#mail = new Mailbox(host.core.memory, blocks.mailbox)
  }

  /** Its vCPUs are the thread's from here on. */
  begin(): void {
    const { core } = this.#host
    core.lock.write(() => {
      for (const [i, vcpu] of this.vcpus.entries()) {
        vcpu.thread = this.number
        this.#put(vcpu, VCPU.HOME, this.number << THREAD_SHIFT)
        this.#put(vcpu, VCPU.PARKED, RUNS)
        const domain = this.domains[i]!
        vcpu.onChange = () => this.#control(domain, vcpu)
        vcpu.onChange()
      }
    })
  }

  /** Has the thread page tables of its own? */
  get hasTables(): boolean {
    return this.#mail.hasTables
  }

  /** Asks the thread, which waits for the call that needs the walk. A call that is not its own finds nobody. */
  walk(gva: number, write: boolean): number {
    const mail = this.#mail
    if (mail.state !== SERVING) return -1
    mail.ask(gva, write)
    mail.state = QUESTION
    while (mail.state === QUESTION) if (!mail.sleep(QUESTION, PATIENCE_MS)) return -1
    if (!mail.move(REPLIED, SERVING)) return -1
    return mail.walked
  }

  #put(vcpu: Vcpu, offset: number, value: number): void {
    Atomics.store(this.#host.core.memory.words, (vcpu.at + offset) >>> 2, value)
  }
  #get(vcpu: Vcpu, offset: number): number {
    return Atomics.load(this.#host.core.memory.words, (vcpu.at + offset) >>> 2)
  }

  /** Tells a vCPU what it is to do; one that sleeps is called to look, unseen by its guest. */
  #control(domain: Domain, vcpu: Vcpu): void {
    const { words } = this.#host.core.memory
    const control = this.#leaving ? CONTROL_STOP : controlOf(domain, vcpu, this.vcpus.length === 1)
    this.#put(vcpu, VCPU.CONTROL, control)
    Atomics.notify(words, (vcpu.at + VCPU.CONTROL) >>> 2)
    if (control === CONTROL_RUN) return
    const blocked = (vcpu.at + VCPU.BLOCKED) >>> 2
    Atomics.compareExchange(words, blocked, ASLEEP, ASLEEP_CALLED)
    Atomics.notify(words, blocked)
  }

  /** Tells all its vCPUs to stop for good. */
  stop(): void {
    this.#leaving = true
    for (const vcpu of this.vcpus) vcpu.onChange?.()
  }

  /** It runs no guest code: one of its vCPUs is parked. */
  get still(): boolean {
    return this.vcpus.some((vcpu) => this.#get(vcpu, VCPU.PARKED) !== RUNS)
  }

  /** It will never look at the private memory again: each vCPU has stopped, and no call waits. */
  get stopped(): boolean {
    return this.vcpus.every((vcpu) => this.#get(vcpu, VCPU.PARKED) === STOPPED) && this.#mail.state === IDLE
  }

  /** Its vCPUs are the hypervisor's thread's again. */
  end(terminated: boolean): void {
    const { core } = this.#host
    if (terminated) freeLocks(core, this.number, this.#host.domains)
    core.lock.remove(this.number)
    core.lock.write(() => {
      for (const vcpu of this.vcpus) {
        vcpu.thread = 0
        vcpu.onChange = undefined
        this.#put(vcpu, VCPU.HOME, 0)
        this.#put(vcpu, VCPU.CONTROL, CONTROL_RUN)
      }
    })
  }

  /** The event that a terminated thread was raising. */
  repair(domains: Domains): void {
    lastEvent(this.#host.core, this.number, domains)
  }

  // --- calls -----------------------------------------------------------------------------------------------------------

  /** Carries out the call that waits in the mailbox; false: there is none. */
  serve(): boolean {
    const mail = this.#mail
    if (!mail.move(ASKED, SERVING)) return false
    const { call, domid, vcpuId, registers } = mail.read()
    const i = this.vcpus.findIndex((vcpu) => vcpu.domid === domid && vcpu.vcpuId === vcpuId)
    try {
      if (i < 0) mail.answer(-Errno.ESRCH, `d${domid}v${vcpuId} is not this thread's`)
      else this.#carryOut(this.domains[i]!, this.vcpus[i]!, call, registers)
    } catch (error) {
      // A thread that does not leave the delivery lock: nothing was changed, and the call is carried out when it has gone.
      this.#host.callouts.report(error, `a call of thread ${this.number}`)
      mail.move(SERVING, ASKED)
      return false
    }
    mail.state = ANSWERED
    return true
  }

  #carryOut(domain: Domain, vcpu: Vcpu, call: number, registers: readonly MailRegister[]): void {
    const mail = this.#mail
    const [first = 0, ...rest] = registers
    switch (call) {
      case CALL_HYPERCALL: {
        let refusal: Refusal | undefined
        const result = this.#host.raw(vcpu, first, rest, (given) => {
          refusal = given
        })
        mail.answer(result, refusal?.text)
        return
      }
      case CALL_ARM:
        // The poll may be over already, and then so is its time-out.
        this.#host.timers.arm(vcpu, vcpu.blocked ? BigInt(first) : 0n)
        mail.answer(0)
        return
      case CALL_SEND:
        mail.answer(this.#host.send(vcpu, Number(first)))
        return
      case CALL_VIRQ:
        if (this.#host.domains.get(domain.domid) === domain) this.#host.virq(vcpu, Number(first))
        mail.answer(0)
        return
      default:
        mail.answer(-Errno.ENOSYS, `call ${call} does not exist`)
    }
  }
}

/** What a vCPU is to do. One that is offline parks only if the thread has no other: it is not called, but the others run. */
function controlOf(domain: Domain, vcpu: Vcpu, alone: boolean): number {
  if (domain.dying !== 'alive') return CONTROL_STOP
  const stands = domain.pauseCount || domain.frozen || domain.shutdownCode >= 0 || domain.quiesced
  return stands || (alone && vcpu.down) ? CONTROL_PARK : CONTROL_RUN
}
