/**
 * The thread's side of attached vCPUs: the host core over the private memory, a core for each guest's memory, the mailbox.
 *
 *     handle ─▶ VcpuThread.from ─▶ vcpu(domid, vcpuId) ─▶ cpu.ts
 *                   │
 *                   ├─ host core (own instance, own table) ─ call_indirect ─▶ guests' cores (own instances)
 *                   └─ mailbox ─▶ the hypervisor's thread
 *
 * Nothing here waits but a vCPU that sleeps or is parked, a forwarded call, and a sender that the hypervisor shuts out.
 */

import { Callouts, type OnError } from '../callout.js'
import { options as checkOptions, func, having, integer, ParameterError, type Table } from '../check.js'
import { CheckedClock, type Clock } from '../clock.js'
import { type OnRefusal, refuse } from '../errno.js'
import { coreOf } from '../machine/core.js'
import { fillSlots, instance, newTable } from '../machine/host_core.js'
import { BELL, KNOWN_MEMORIES, THREAD_SHIFT } from '../machine/host_layout.js'
import { ANSWERED, ASKED, IDLE, Mailbox, type MailRegister, QUESTION, REPLIED } from '../machine/mailbox.js'
import { GuestMemory } from '../machine/memory.js'
import { HANDLE, NEWS, type SharedDomain, type SharedMemory, type VcpuThreadHandle } from '../machine/thread_handle.js'
import { ThreadVcpu } from './cpu.js'
import type { CallingVcpu, ThreadInside } from './inside.js'

/** What the embedder of a thread brings. */
export interface VcpuThreadOptions {
  /** System time for the time-outs of polls and of `idle`. Without it polls end by the hypervisor's timers. */
  clock?: Clock
  /** The emulator's page walk: a guest physical address, or -1. Default: identity, or what the domain was created with. */
  translate?: (vcpu: ThreadVcpu, gva: number, write: boolean) => number
  /**
   * The next message that has come for this worker, undefined if there is none: Node's `receiveMessageOnPort`. Asked when a
   * send meets a memory that the thread does not know, so that it learns of it without a turn of its event loop.
   */
  receive?: () => unknown
  /** Rings the hypervisor in its event loop, by a message for which it calls `service`. */
  wake?: () => void
  /** Gets what a function of the embedder's threw. Default: it is thrown again in a microtask. */
  onError?: OnError
}

const OPTIONS: Table<VcpuThreadOptions> = {
  clock: having('nowNs', 'wallclockNs'),
  translate: func,
  receive: func,
  wake: func,
  onError: func,
}

/** The vCPUs that were attached to this thread. */
export class VcpuThread {
  readonly #table = newTable()
  readonly #words: Int32Array
  readonly #known: number
  readonly #mail: Mailbox
  readonly #options: VcpuThreadOptions
  readonly #callouts: Callouts
  readonly #vcpus: readonly ThreadVcpu[]

  private constructor(handle: VcpuThreadHandle, options: VcpuThreadOptions) {
    const { memory, mailbox, known, thread, domains, vcpus, memories } = handle
    this.#options = options
    this.#callouts = new Callouts(options.onError)
    this.#words = new Int32Array(memory.buffer)
    this.#known = known
    this.#mail = new Mailbox({ words: this.#words }, mailbox)
    this.#mail.hasTables = options.translate !== undefined
    if (!options.translate)
      for (const { domid, tables } of domains)
        if (tables)
          throw new ParameterError(
            'VcpuThread.from',
            'translate',
            undefined,
            `the page walk of d${domid}, which has one`,
          )
    const inside: ThreadInside = {
      calls: instance(true, { memory, table: this.#table }),
      words: this.#words,
      line: thread << THREAD_SHIFT,
      callouts: this.#callouts,
      clock: options.clock && new CheckedClock(options.clock, this.#callouts),
      forward: (...args) => this.#forward(...args),
      receive: () => this.#receive(),
      ring: () => this.#ring(),
      stopAll: () => {
        for (const vcpu of this.#vcpus) vcpu.stopIfTold()
        this.#ring()
      },
    }
    for (const each of memories) this.#learn(each)
    const ram = new Map(domains.map((domain) => [domain.domid, { domain, memory: this.#memoryOf(domain) }]))
    this.#vcpus = Object.freeze(
      vcpus.map((each) => {
        const { domain, memory } = ram.get(each.domid)!
        return new ThreadVcpu(inside, each, domain, memory)
      }),
    )
  }

  /**
   * The thread of a handle that `Hypervisor.attach` made. Call it once, on the thread that runs the vCPUs; it must be one that
   * may wait, which a page's main thread may not.
   * @throws ParameterError for what is no handle, or an option of the wrong type.
   */
  static from(handle: VcpuThreadHandle, options: VcpuThreadOptions = {}): VcpuThread {
    if ((handle as Partial<VcpuThreadHandle> | null)?.what !== HANDLE)
      throw new ParameterError('VcpuThread.from', 'handle', handle, 'a handle that Hypervisor.attach returned')
    return new VcpuThread(handle, checkOptions('VcpuThread.from', options, OPTIONS))
  }

  /** The attached vCPUs. */
  get vcpus(): readonly ThreadVcpu[] {
    return this.#vcpus
  }

  /** One of them. @throws ParameterError if it is not attached to this thread. */
  vcpu(domid: number, vcpuId: number): ThreadVcpu {
    const found = this.#vcpus.find((vcpu) => vcpu.domid === domid && vcpu.vcpuId === vcpuId)
    if (found) return found
    integer('VcpuThread.vcpu', 'domid', domid, 0, 0x7fef)
    const names = this.#vcpus.map((vcpu) => `d${vcpu.domid}v${vcpu.vcpuId}`).join(', ')
    throw new ParameterError('VcpuThread.vcpu', 'vcpuId', vcpuId, `a vCPU of this thread: ${names}`)
  }

  /** Takes a message that came to the worker; false: it is not the hypervisor's. */
  accept(message: unknown): boolean {
    const news = message as { what?: unknown; memory?: SharedMemory } | null
    if (typeof news !== 'object' || news?.what !== NEWS || !news.memory) return false
    this.#learn(news.memory)
    return true
  }

  #memoryOf({ memory, base, frames }: SharedDomain): GuestMemory {
    const { translate } = this.#options
    const walk = (vcpuId: number, gva: number, write: boolean): number => {
      const gpa = this.#callouts.run('translate', -1, () => translate!(this.#byId(vcpuId, memory), gva, write))
      return typeof gpa === 'number' ? gpa : -1
    }
    return new GuestMemory({ memory, base, frames, translate: translate && walk }, 'VcpuThread.from')
  }

  #byId(vcpuId: number, memory: unknown): ThreadVcpu {
    return this.#vcpus.find((vcpu) => vcpu.vcpuId === vcpuId && vcpu.memory.memory === memory)!
  }

  /** Puts the core of a memory into the table, then says that it is there. Both are this thread's alone. */
  #learn({ run, first, number, memory }: SharedMemory): void {
    if (run >= KNOWN_MEMORIES) return
    fillSlots(this.#table, first, coreOf(memory))
    this.#words[(this.#known >> 2) + run] = number
  }

  #receive(): boolean {
    const { receive } = this.#options
    if (!receive) return false
    let learned = false
    for (;;) {
      const message = this.#callouts.run('receive', undefined, receive)
      if (message === undefined) return learned
      learned = this.accept(message) || learned
    }
  }

  #ring(): void {
    Atomics.add(this.#words, BELL >> 2, 1)
    Atomics.notify(this.#words, BELL >> 2)
    const { wake } = this.#options
    if (wake) this.#callouts.run('wake', undefined, wake)
  }

  #forward(call: number, vcpu: CallingVcpu, registers: readonly MailRegister[], onRefusal?: OnRefusal): number {
    const mail = this.#mail
    mail.write({ call, domid: vcpu.domid, vcpuId: vcpu.vcpuId, registers })
    mail.state = ASKED
    this.#ring()
    for (let state = mail.state; state !== ANSWERED; state = mail.state) {
      if (state !== QUESTION) {
        mail.sleep(state)
        continue
      }
      const { gva, write } = mail.question
      const gpa = this.#callouts.run(
        'translate',
        -1,
        () => this.#options.translate?.(this.vcpu(vcpu.domid, vcpu.vcpuId), gva, write) ?? gva,
      )
      mail.walked = typeof gpa === 'number' ? gpa : -1
      mail.move(QUESTION, REPLIED)
      mail.state = REPLIED
    }
    const { result, text } = mail
    mail.state = IDLE
    if (result < 0 && onRefusal) onRefusal(refuse(-result, text))
    return result
  }
}
