/**
 * vCPUs on threads of their own, seen from the hypervisor's thread (docs/spec/threads.md): who is attached where, the calls
 * that they forward, who is to stand still.
 *
 *     attach ─▶ handle ─ postMessage ─▶ VcpuThread.from      sends, unmasks, sleeps by itself: assembly/host/threads.ts
 *     service ◀── mailbox, bell ─────── hypercall            everything else is carried out here
 *     CONTROL ─── park, stop ─────────▶ safepoint, block     and PARKED says that it has
 */

import { ParameterError } from '../check.js'
import type { Domain } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Errno, XenError } from '../errno.js'
import { hasSharedMemory } from '../machine/core.js'
import type { Slots } from '../machine/host_core.js'
import { BELL, DOMAIN, KNOWN_MEMORIES, MOST_THREADS, RUNG, THREAD, THREAD_SHIFT, VCPU } from '../machine/host_layout.js'
import { MAILBOX_BYTES } from '../machine/mailbox.js'
import { type PageWalk, rewalk } from '../machine/memory.js'
import { HANDLE, type MemoryNews, NEWS, type SharedMemory, type VcpuThreadHandle } from '../machine/thread_handle.js'
import { AttachedThread, type ThreadsHost } from './thread.js'

/** Sends a message to the worker of a thread. */
type Post = (message: MemoryNews) => void

/** The threads of one host. */
export class Threads {
  readonly #host: ThreadsHost
  readonly #most: number
  readonly #attached = new Map<number, AttachedThread>()
  readonly #posts = new Map<AttachedThread, Post>()
  /** The page walks that domains with threads had before. */
  readonly #walks = new Map<Domain, PageWalk | undefined>()
  #serial = 0
  #listening = false

  /** `most`: how many threads there may be at one time. */
  constructor(host: ThreadsHost, most: number) {
    this.#host = host
    this.#most = most
    host.core.onMemory = (core, slots) => {
      if (core.shared) this.#tell({ what: NEWS, memory: shared(core.memory, slots) })
    }
  }

  /** Threads that are attached at present. */
  get size(): number {
    return this.#attached.size
  }

  /**
   * Gives vCPUs to a thread. @throws XenError EOPNOTSUPP for a host without threads, ENOSPC if all are in use, EBUSY for a
   * vCPU that has one or is in its upcall; ParameterError for a domain whose memory threads cannot share.
   */
  attach(vcpus: readonly Vcpu[], domains: readonly Domain[], post: Post | undefined): VcpuThreadHandle {
    const refuse = (errno: number, found: string): never => {
      throw new XenError('attach', errno, found)
    }
    if (!this.#most) refuse(Errno.EOPNOTSUPP, 'this host has no threads: Hypervisor.create({ threads: n })')
    for (const [i, vcpu] of vcpus.entries()) {
      const name = nameOf(vcpu)
      if (vcpu.thread || vcpus.indexOf(vcpu) !== i) refuse(Errno.EBUSY, `${name} has a thread already`)
      if (vcpu.inUpcall) refuse(Errno.EBUSY, `${name} is in its upcall`)
      if (!domains[i]!.core.shared)
        throw new ParameterError('attach', `vcpus[${i}]`, name, 'a vCPU of a domain with shared: true')
    }
    const number = this.#freeNumber()
    if (!number) refuse(Errno.ENOSPC, `all ${this.#most} threads are in use`)
    const { core, queue } = this.#host
    const { memory } = core
    const known = memory.take(KNOWN_MEMORIES * 4)
    const mailbox = memory.take(MAILBOX_BYTES)
    const line = number << THREAD_SHIFT
    memory.words[(line + THREAD.MARK) >> 2] = 0
    memory.words[(line + THREAD.KNOWN) >> 2] = known
    memory.words[(line + THREAD.MAILBOX) >> 2] = mailbox
    const thread = new AttachedThread(this.#host, number, ++this.#serial, { known, mailbox }, vcpus, domains)
    this.#attached.set(number, thread)
    if (post) this.#posts.set(thread, post)
    core.lock.add(number, `thread ${number} (${vcpus.map(nameOf).join(', ')})`)
    for (const vcpu of vcpus) queue.forgetUnblock(vcpu)
    thread.begin()
    for (const domain of domains) this.#walkOnThreads(domain)
    this.#listen()
    return this.#handle(thread)
  }

  /** A walk for a vCPU whose thread has page tables is the thread's to make. */
  #walkOnThreads(domain: Domain): void {
    if (this.#walks.has(domain)) return
    rewalk(domain.memory, (before) => {
      this.#walks.set(domain, before)
      return (vcpuId, gva, write) => {
        const thread = this.#attached.get(domain.vcpus[vcpuId]?.thread ?? 0)
        if (thread?.hasTables) return thread.walk(gva, write)
        return before ? before(vcpuId, gva, write) : gva
      }
    })
  }

  #freeNumber(): number {
    for (let number = 1; number <= Math.min(this.#most, MOST_THREADS); number++)
      if (!this.#attached.has(number)) return number
    return 0
  }

  #handle(thread: AttachedThread): VcpuThreadHandle {
    const { core } = this.#host
    const { words } = core.memory
    const memories = [...core.memories].filter(([each]) => each.shared)
    return {
      what: HANDLE,
      thread: thread.number,
      serial: thread.serial,
      memory: core.memory.memory!,
      mailbox: thread.blocks.mailbox,
      known: thread.blocks.known,
      domains: [...new Set(thread.domains)].map((domain) => ({
        domid: domain.domid,
        generation: words[(domain.record + DOMAIN.GENERATION) >>> 2]!,
        record: domain.record,
        type: domain.type,
        bits: domain.bits,
        vcpus: domain.vcpus.length,
        sharedInfoGfn: domain.sharedInfoGfn,
        memory: domain.memory.memory,
        base: domain.memory.base,
        frames: domain.memory.frames,
        tables: this.#walks.get(domain) !== undefined,
      })),
      vcpus: thread.vcpus.map(({ domid, vcpuId, at }) => ({ domid, vcpuId, record: at })),
      memories: memories.map(([each, slots]) => shared(each.memory, slots)),
    }
  }

  /** The thread that a handle is of. @throws ParameterError */
  of(call: string, handle: VcpuThreadHandle): AttachedThread {
    const thread = this.#attached.get((handle as Partial<VcpuThreadHandle> | null)?.thread ?? 0)
    if (!thread || thread.serial !== handle.serial)
      throw new ParameterError(call, 'handle', handle, 'a handle that attach returned and that is attached')
    return thread
  }

  #tell(news: MemoryNews): void {
    for (const [thread, post] of this.#posts)
      this.#host.callouts.run(`post of thread ${thread.number}`, undefined, () => post(news))
  }

  /**
   * Takes vCPUs back from a thread that has stopped, or is gone. What a terminated one held is released, and the event that it
   * was raising is raised again.
   */
  release(thread: AttachedThread, terminated: boolean): void {
    const { core, domains, queue } = this.#host
    this.#attached.delete(thread.number)
    this.#posts.delete(thread)
    thread.end(terminated)
    core.memory.give(thread.blocks.known, KNOWN_MEMORIES * 4)
    core.memory.give(thread.blocks.mailbox, MAILBOX_BYTES)
    queue.around(() => {
      if (terminated) thread.repair(domains)
      for (const domain of new Set(thread.domains)) {
        if (!domain.onThreads) {
          rewalk(domain.memory, () => this.#walks.get(domain))
          this.#walks.delete(domain)
        }
        domains.leave(domain)
        if (domains.get(domain.domid) === domain) queue.resume(domain)
      }
    })
  }

  /** Carries out what threads have forwarded, and enters vCPUs of this thread that they woke. Returns how many calls it were. */
  service(): number {
    this.#takeRung()
    let served = 0
    for (const thread of this.#attached.values()) if (thread.serve()) served++
    return served
  }

  /** vCPUs of this thread that others kicked or woke. */
  #takeRung(): void {
    const { core, domains, queue } = this.#host
    const take = (at: number) => Atomics.exchange(core.memory.words, at >>> 2, 0) !== 0
    if (!take(RUNG)) return
    queue.around(() => {
      for (const domain of domains) {
        if (!take(domain.record + DOMAIN.CALLS)) continue
        for (const vcpu of domain.vcpus) {
          if (take(vcpu.at + VCPU.KICKED)) domain.kick(vcpu)
          if (take(vcpu.at + VCPU.WOKEN)) domain.wokenElsewhere(vcpu)
        }
      }
    })
  }

  /** Serves until `until` says so, asleep between calls; `nextMs` is when it has something else to do, at the latest. */
  serve(until: () => boolean, nextMs: () => number): void {
    while (!until()) {
      const { words } = this.#host.core.memory
      const bell = Atomics.load(words, BELL >> 2)
      if (!this.service() && !until()) Atomics.wait(words, BELL >> 2, bell, nextMs())
    }
  }

  /** Serves when the bell rings, where the engine tells of that. */
  #listen(): void {
    const { waitAsync } = Atomics as unknown as { waitAsync?: WaitAsync }
    if (this.#listening || !waitAsync) return
    this.#listening = true
    const turn = (): void => {
      const { words } = this.#host.core.memory
      const bell = Atomics.load(words, BELL >> 2)
      this.service()
      if (this.#attached.size === 0) {
        this.#listening = false
        return
      }
      const { async, value } = waitAsync(words, BELL >> 2, bell)
      if (async) value.then(turn)
      else queueMicrotask(turn)
    }
    queueMicrotask(turn)
  }

  /** Do all vCPUs of a domain that have threads stand still? The first that does not, or undefined. */
  running(domain: Domain): Vcpu | undefined {
    return domain.vcpus.find((vcpu) => vcpu.thread && !this.#attached.get(vcpu.thread)!.still)
  }
}

type WaitAsync = (
  words: Int32Array,
  index: number,
  value: number,
) => { async: true; value: Promise<unknown> } | { async: false; value: string }

const nameOf = ({ domid, vcpuId }: Vcpu): string => `d${domid}v${vcpuId}`

const shared = (memory: SharedMemory['memory'], { run, first, memory: number }: Slots): SharedMemory => ({
  run,
  first,
  number,
  memory,
})

/** The number of threads that an embedder asks for. @throws ParameterError where threads cannot be */
export function checkThreads(threads: number): number {
  if (!threads) return 0
  const call = 'Hypervisor.create'
  if (!hasSharedMemory())
    throw new ParameterError(
      call,
      'threads',
      threads,
      '0: there is no shared memory here. A page has it when it is cross-origin isolated (headers ' +
        'Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp)',
    )
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 1, 0)
  } catch {
    throw new ParameterError(call, 'threads', threads, '0 on this thread, which may not wait: use a worker of the page')
  }
  return threads
}
