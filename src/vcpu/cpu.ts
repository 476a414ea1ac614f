/**
 * One vCPU on a thread of its own: hypercalls, upcalls, sleep. What a guest does all the time, send and unmask, and what it
 * sleeps in, SCHEDOP_block and _poll, happens here; every other hypercall is forwarded to the hypervisor's thread.
 *
 * Sleeping, in the order that loses no wake-up (docs/spec/threads.md; test/models/smp.pml):
 *
 *     BLOCKED := 1, then look: upcall due? CONTROL? woken?      sleep on BLOCKED only if none
 *     a sender: flag 0 → 1, then BLOCKED → 0, notify            the hypervisor: CONTROL, then BLOCKED 1 → 2, notify
 */

import { EVTCHNOP, HYPERVISOR, POLL_MAX_PORTS, SCHEDOP, UPCALL_MASK, UPCALL_PENDING } from '../abi/index.js'
import { Errno, type OnRefusal, refuse } from '../errno.js'
import {
  ASLEEP,
  ASLEEP_CALLED,
  CONTROL_PARK,
  CONTROL_RUN,
  CONTROL_STOP,
  NONE,
  SLOW,
  VCPU,
} from '../machine/host_layout.js'
import { CALL_ARM, CALL_HYPERCALL, CALL_SEND, CALL_VIRQ, type MailRegister } from '../machine/mailbox.js'
import type { GuestMemory } from '../machine/memory.js'
import type { SharedDomain, SharedVcpu } from '../machine/thread_handle.js'
import type { ThreadInside } from './inside.js'
import { Poll } from './poll.js'

const { EFAULT, EINVAL, ESRCH } = Errno

/** Why a vCPU that slept runs again: an upcall is due; it was unblocked, or what it polls has come; time; it is to stop. */
export type WokenBy = 'upcall' | 'event' | 'time' | 'stop'

/** What `GuestKernel.boot` stands on, where all vCPUs of a guest are on one thread. */
export interface ThreadPlatform {
  readonly memory: GuestMemory
  readonly bits: 32 | 64
  readonly vcpus: number
  readonly sharedInfoGfn: number
  hypercall(vcpuId: number, op: number, args: readonly MailRegister[], onRefusal?: OnRefusal): number
}

/** A vCPU. Made by `VcpuThread.from`. */
export class ThreadVcpu {
  readonly domid: number
  readonly vcpuId: number
  /** Its domain's RAM. */
  readonly memory: GuestMemory
  readonly #thread: ThreadInside
  readonly #domain: SharedDomain
  /** Address of its record. */
  readonly #at: number
  readonly #poll: Poll
  #bytes: Uint8Array
  #stopped = false

  /** @internal */
  constructor(thread: ThreadInside, vcpu: SharedVcpu, domain: SharedDomain, memory: GuestMemory) {
    this.#thread = thread
    this.domid = vcpu.domid
    this.vcpuId = vcpu.vcpuId
    this.#at = vcpu.record
    this.#domain = domain
    this.memory = memory
    this.#bytes = new Uint8Array(memory.memory.buffer)
    this.#poll = new Poll(thread, domain, vcpu, memory)
  }

  #get(offset: number): number {
    return Atomics.load(this.#thread.words, (this.#at + offset) >>> 2)
  }
  #set(offset: number, value: number): void {
    const at = (this.#at + offset) >>> 2
    Atomics.store(this.#thread.words, at, value)
    Atomics.notify(this.#thread.words, at)
  }

  /** A byte of vcpu_info; `otherwise` on the dummy. */
  #info(offset: number, otherwise: number): number {
    const info = this.#get(VCPU.INFO)
    return info === NONE ? otherwise : Atomics.load(this.#bytes, (info >>> 0) + offset)
  }
  #setMask(value: number): void {
    const info = this.#get(VCPU.INFO)
    if (info !== NONE) Atomics.store(this.#bytes, (info >>> 0) + UPCALL_MASK, value)
  }

  /**
   * True if an upcall is to enter the guest now: the flag is set, and PV: the mask is 0; HVM: there is a way to call. A level,
   * not an edge: ask it before every piece of guest code. An HVM guest's own interrupt flag is the embedder's to look at.
   */
  get upcallDue(): boolean {
    if (!this.#info(UPCALL_PENDING, 0) || this.#get(VCPU.DOWN)) return false
    if (this.#get(VCPU.CONTROL) !== CONTROL_RUN) return false
    return this.#domain.type === 'pv' ? this.#info(UPCALL_MASK, 1) === 0 : this.#get(VCPU.CALLABLE) !== 0
  }

  /** Masks upcalls of a PV guest, as delivery does (EC-up-6). For embedders that inject the upcall themselves. */
  enterUpcall(): void {
    if (this.#domain.type === 'pv') this.#setMask(1)
  }

  /** Unmasks them again. */
  leaveUpcall(): void {
    if (this.#domain.type === 'pv') this.#setMask(0)
  }

  /** Runs the guest's handler if an upcall is due, masked around it. Returns whether it ran. What it throws is thrown on. */
  upcall(handler: () => void): boolean {
    if (!this.upcallDue) return false
    this.enterUpcall()
    try {
      handler()
    } finally {
      this.leaveUpcall()
    }
    return true
  }

  /**
   * A hypercall with the guest's registers. Returns 0 or more, or -errno, whose reason `onRefusal` gets. Nothing that a guest
   * passes makes it throw. SCHEDOP_block and _poll return when the vCPU runs again; ESRCH: the vCPU was stopped.
   */
  hypercall(op: MailRegister, args: readonly MailRegister[] = [], onRefusal?: OnRefusal): number {
    if (this.#stopped) return this.#refused(ESRCH, 'the vCPU was stopped', onRefusal)
    if (op === HYPERVISOR.event_channel_op) {
      const [cmd] = args
      if (cmd === EVTCHNOP.send || cmd === EVTCHNOP.unmask) return this.#onPort(cmd, args, onRefusal)
    } else if (op === HYPERVISOR.sched_op) {
      const [cmd] = args
      if (cmd === SCHEDOP.block) return this.block() === 'stop' ? -ESRCH : 0
      if (cmd === SCHEDOP.poll) return this.#pollFor(this.#address(args[1]), onRefusal)
      if (cmd === SCHEDOP.yield) return 0
    }
    return this.#thread.forward(CALL_HYPERCALL, this, [op, ...args], onRefusal)
  }

  #refused(errno: number, text: string, onRefusal: OnRefusal | undefined): number {
    onRefusal?.(refuse(errno, text))
    return -errno
  }

  /** A register as an address of the guest's width. */
  #address(register: MailRegister = 0): number {
    const wide = this.#domain.bits === 64
    if (typeof register === 'bigint') return Number(BigInt.asUintN(wide ? 64 : 32, register))
    return wide ? register : register >>> 0
  }

  /** Send and unmask: on this thread where it can decide, by the hypervisor's where it cannot. */
  #onPort(cmd: number, args: readonly MailRegister[], onRefusal: OnRefusal | undefined): number {
    const port = this.memory.readU32(this.vcpuId, this.#address(args[1]))
    if (port < 0) return this.#refused(EFAULT, 'the port cannot be read', onRefusal)
    const result = cmd === EVTCHNOP.send ? this.#send(port) : this.#unmask(port)
    if (result >= 0) return 0
    // Whatever is refused has a reason, which the hypervisor's thread can tell.
    if (result === SLOW || onRefusal)
      return this.#thread.forward(CALL_HYPERCALL, this, [HYPERVISOR.event_channel_op, ...args], onRefusal)
    return result
  }

  #send(port: number): number {
    const { calls, line } = this.#thread
    const { domid, generation } = this.#domain
    let result = calls.threadSend(line, domid, generation, port)
    if (result === SLOW && this.#thread.receive()) result = calls.threadSend(line, domid, generation, port)
    if (result > 0) this.#thread.ring()
    return result
  }

  #unmask(port: number): number {
    const { calls, line } = this.#thread
    const result = calls.threadUnmask(line, this.#domain.domid, this.#domain.generation, port)
    if (result > 0) this.#thread.ring()
    return result
  }

  /** EVTCHNOP_send without a struct in guest memory: for embedders that have the port at hand. 0, or -errno. */
  send(port: number): number {
    if (this.#stopped) return -ESRCH
    const result = this.#send(port >>> 0)
    if (result >= 0) return 0
    return result === SLOW ? this.#thread.forward(CALL_SEND, this, [port >>> 0]) : result
  }

  /** Raises a VIRQ of this vCPU's own: the emulator's timer. Dropped if it is not bound (EC-vclass-2). */
  raiseVirq(virq: number): void {
    if (this.#stopped || !Number.isInteger(virq) || virq < 0 || virq > 23) return
    const { calls, line } = this.#thread
    const result = calls.threadRaiseVirq(line, this.domid, this.#domain.generation, this.vcpuId, virq)
    if (result === SLOW) this.#thread.forward(CALL_VIRQ, this, [virq])
    else if (result > 0) this.#thread.ring()
  }

  // --- sleep -----------------------------------------------------------------------------------------------------------

  /** SCHEDOP_block: unmasks upcalls (PV) and sleeps until one is due, or somebody unblocks the vCPU (EC-up-7). */
  block(): WokenBy {
    if (this.#domain.type === 'pv') this.#setMask(0)
    return this.idle()
  }

  /**
   * Sleeps until an upcall is due, somebody unblocks the vCPU, or it is `deadlineNs` by the thread's clock: HLT of an emulator.
   * The PV mask stays as it is.
   */
  idle(deadlineNs = Number.POSITIVE_INFINITY): WokenBy {
    if (this.#stopped) return 'stop'
    this.#thread.calls.fallAsleep(this.#domain.record, this.vcpuId)
    return this.#sleep(deadlineNs)
  }

  /** BLOCKED is set. */
  #sleep(deadlineNs: number): WokenBy {
    const { calls, words, clock } = this.#thread
    const blocked = this.#at + VCPU.BLOCKED
    for (;;) {
      if (this.#get(VCPU.CONTROL) !== CONTROL_RUN) {
        if (this.#park()) continue
        return 'stop'
      }
      const state = this.#get(VCPU.BLOCKED)
      if (this.upcallDue) {
        this.#awake()
        return 'upcall'
      }
      if (state === 0) return 'event'
      if (state === ASLEEP_CALLED) {
        Atomics.compareExchange(words, blocked >>> 2, ASLEEP_CALLED, ASLEEP)
        continue
      }
      const leftNs = clock && deadlineNs !== Number.POSITIVE_INFINITY ? deadlineNs - clock.nowNs() : -1
      if (leftNs <= 0 && leftNs !== -1) {
        this.#awake()
        return 'time'
      }
      calls.sleepOn(blocked, ASLEEP, leftNs)
    }
  }

  /** It is awake, and polls no more. */
  #awake(): void {
    this.#thread.calls.wake(this.#domain.record, this.vcpuId)
  }

  /** SCHEDOP_poll: 0 for event, upcall and time-out alike (EC-poll-11). */
  #pollFor(gva: number, onRefusal: OnRefusal | undefined): number {
    const asked = this.#poll.read(gva, POLL_MAX_PORTS)
    if (typeof asked === 'string') return this.#refused(asked === 'too many ports' ? EINVAL : EFAULT, asked, onRefusal)
    const found = this.#poll.begin(asked, () => this.upcallDue)
    if (found !== 'sleep') {
      this.#awake()
      return typeof found === 'number' ? this.#refused(-found, 'a port of the list', onRefusal) : 0
    }
    const { timeoutNs } = asked
    const { clock } = this.#thread
    // Without a clock of its own the vCPU is woken by the hypervisor's timers.
    if (timeoutNs && !clock) this.#thread.forward(CALL_ARM, this, [timeoutNs])
    return this.#sleep(timeoutNs && clock ? Number(timeoutNs) : Number.POSITIVE_INFINITY) === 'stop' ? -ESRCH : 0
  }

  /**
   * To be called between pieces of guest code: parks while the domain is paused, frozen, shut down or being saved. False: leave
   * the loop, the domain is gone or the thread is being detached.
   */
  safepoint(): boolean {
    if (this.#stopped) return false
    return this.#get(VCPU.CONTROL) === CONTROL_RUN || this.#park()
  }

  /** Stands still while it is to; false: it is to stop for good. Guest code runs only if CONTROL was read after PARKED := 0. */
  #park(): boolean {
    const control = this.#at + VCPU.CONTROL
    for (;;) {
      const wanted = this.#get(VCPU.CONTROL)
      if (wanted === CONTROL_RUN) return true
      if (wanted === CONTROL_STOP) {
        this.#thread.stopAll()
        return false
      }
      this.#set(VCPU.PARKED, 1)
      this.#thread.ring()
      while (this.#get(VCPU.CONTROL) === CONTROL_PARK) this.#thread.calls.sleepOn(control, CONTROL_PARK, -1)
      this.#set(VCPU.PARKED, 0)
    }
  }

  /** @internal Stops for good, if it is to: nothing of the private memory is touched after that. */
  stopIfTold(): void {
    if (this.#stopped || this.#get(VCPU.CONTROL) !== CONTROL_STOP) return
    this.#stopped = true
    this.#awake()
    this.#set(VCPU.PARKED, 2)
  }

  /** The machine as the guest's kernel sees it. All its vCPUs that the kernel calls for must be on this thread. */
  get platform(): ThreadPlatform {
    const { bits, vcpus, sharedInfoGfn } = this.#domain
    return {
      memory: this.memory,
      bits,
      vcpus,
      sharedInfoGfn,
      hypercall: (_vcpuId, op, args, onRefusal) => this.hypercall(op, args, onRefusal),
    }
  }
}
