/**
 * The public face of vCPUs on threads of their own: attached, served, made to stand still, detached. The work is done in
 * host/threads.ts; docs/threads.md says how to use it.
 */

import { options as checkOptions, flag, func, type Table, within } from '../check.js'
import { systemTime } from '../clock.js'
import type { Domain, Vcpu } from '../domain/handles.js'
import { Errno, XenError } from '../errno.js'
import { domainOn, vcpuBehind } from '../host/named.js'
import type { MemoryNews, VcpuThreadHandle } from '../machine/thread_handle.js'
import { Turns } from '../turns.js'
import type { Parts } from './parts.js'

/** Options of `Hypervisor.attach`. */
export interface AttachOptions {
  /**
   * Sends a message to the thread's worker, which passes it to `VcpuThread.accept`: memories of domains that are created
   * later. Without it, and until it arrives, sends to such domains are forwarded: slower, never wrong.
   */
  post?: (message: MemoryNews) => void
}

/** Options of `Hypervisor.detach`. */
export interface DetachOptions {
  /** The worker is gone: what it held is released, and the event that it was raising is raised again. Default false. */
  terminated?: boolean
}

/** Options of `Hypervisor.quiesce`. */
export interface QuiesceOptions {
  /** How many turns of the event loop the vCPUs may take to reach a safepoint. Default 100,000. */
  turns?: number
}

const ATTACH_OPTIONS: Table<AttachOptions> = { post: func }
const DETACH_OPTIONS: Table<DetachOptions> = { terminated: flag }
const QUIESCE_OPTIONS: Table<QuiesceOptions> = { turns: within(1, Number.MAX_SAFE_INTEGER) }

/** Longest sleep of `serve`: what `until` asks about may change without a bell. */
const LONGEST_SLEEP_MS = 100

/** A host as far as threads are concerned. `Hypervisor` is the whole. */
export abstract class ThreadedHost {
  readonly #parts: Parts

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  abstract runTimers(): void

  /**
   * Gives vCPUs to a thread: the handle goes to its worker by `postMessage`, and to `VcpuThread.from` there. From here on
   * `onUpcall` and `onUnblock` are not called for them. Their domains need `shared: true`.
   * @throws XenError EOPNOTSUPP without the host's option `threads`, ENOSPC if all threads are in use, EBUSY for a vCPU that
   * has a thread or is in its upcall; ParameterError for a memory that threads cannot share.
   */
  attach(vcpus: readonly Vcpu[], options: AttachOptions = {}): VcpuThreadHandle {
    const { post } = checkOptions('attach', options, ATTACH_OPTIONS)
    const inner = [...vcpus].map((vcpu) => vcpuBehind('attach', vcpu))
    const domains = inner.map((vcpu) => {
      const domain = this.#parts.domains.of(vcpu)
      if (domain?.dying === 'alive') return domain
      throw new XenError('attach', Errno.ESRCH, `d${vcpu.domid} is not on this host, or dying`)
    })
    return this.#parts.threads.attach(inner, domains, post)
  }

  /**
   * Takes the vCPUs of a thread back: they stop at their next safepoint or wake-up, and belong to the hypervisor's thread when
   * the promise resolves. With `terminated`, at once.
   * @throws ParameterError for what is no handle, or one that is detached.
   */
  async detach(handle: VcpuThreadHandle, options: DetachOptions = {}): Promise<void> {
    const { terminated = false } = checkOptions('detach', options, DETACH_OPTIONS)
    const { threads } = this.#parts
    const thread = threads.of('detach', handle)
    if (!terminated) {
      thread.stop()
      await this.#turns(() => thread.stopped)
    }
    threads.release(thread, terminated)
  }

  /**
   * Carries out the calls that threads have forwarded, and delivers what they raised for vCPUs of this thread. Returns how many
   * calls it were. It runs by itself where the engine has Atomics.waitAsync; elsewhere call it when `wake` of a thread rings.
   */
  service(): number {
    return this.#parts.threads.service()
  }

  /**
   * A hypervisor on a worker of its own: serves until `until()` is true, asleep between calls, time-outs of polls included.
   * `until` is asked after each call, and ten times a second.
   */
  serve(until: () => boolean): void {
    func('serve', 'until', until)
    const { threads, timers, time } = this.#parts
    const nextMs = () => {
      const due = timers.nextNs
      if (due === undefined) return LONGEST_SLEEP_MS
      return Math.min(LONGEST_SLEEP_MS, Math.max(0, Number(due - systemTime(time)) / 1e6))
    }
    threads.serve(() => {
      const { nextNs } = timers
      if (nextNs !== undefined && nextNs <= systemTime(time)) this.runTimers()
      return until()
    }, nextMs)
  }

  /**
   * Makes the vCPUs of a domain that have threads stand still: before `saveDomain` in transparent mode, and before a soft
   * reset. Resolves when each is parked, at its safepoint or where it sleeps, which its guest does not see; to a function
   * that lets them run again.
   * @throws XenError EBUSY if a vCPU comes to no safepoint; they run again then.
   */
  async quiesce(domain: Domain, options: QuiesceOptions = {}): Promise<() => void> {
    const { turns = 100_000 } = checkOptions('quiesce', options, QUIESCE_OPTIONS)
    const { domains, threads } = this.#parts
    const inner = domainOn(domains, 'quiesce', domain)
    inner.quiesced++
    let over = false
    const release = () => {
      if (!over) inner.quiesced--
      over = true
    }
    if (await this.#turns(() => !threads.running(inner), turns)) return release
    const running = threads.running(inner)
    release()
    const name = `d${inner.domid}v${running?.vcpuId}`
    throw new XenError('quiesce', Errno.EBUSY, `${name} has come to no safepoint in ${turns} turns`)
  }

  /** Serves, a turn of the event loop after the other, until `done`. False: it did not come to that. */
  async #turns(done: () => boolean, most = Number.POSITIVE_INFINITY): Promise<boolean> {
    const turns = new Turns()
    try {
      for (let turn = 0; !done(); turn++) {
        if (turn >= most) return false
        this.service()
        await turns.next()
      }
      return true
    } finally {
      turns.close()
    }
  }
}
