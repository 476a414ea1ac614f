/**
 * Hypercalls that go through a VcpuThread: each vCPU has a worker, which makes the call, while this thread serves and waits for it. A
 * call that sleeps, a poll, is over for the caller when its vCPU sleeps, as it is for one thread.
 */

import { Worker } from 'node:worker_threads'
import { inside } from '../../src/domain/handles.js'
import type { Domain, Hypervisor, Vcpu } from '../../src/index.js'

/** How long a vCPU must be seen asleep before it counts as such: its marks come before its first look. */
const ASLEEP_MS = 20

interface Line {
  readonly words: Int32Array
  readonly numbers: Float64Array
  readonly worker: Worker
  calls: number
}

/** The vCPUs of one host, each on a worker. */
export class Relay {
  readonly #xen: Hypervisor
  readonly #walk: { vanishing: number; nowhere: number }
  readonly #lines = new Map<Vcpu, Line>()
  readonly #lookUps = new Int32Array(new SharedArrayBuffer(4))

  constructor(xen: Hypervisor, walk: { vanishing: number; nowhere: number }) {
    this.#xen = xen
    this.#walk = walk
  }

  /** Gives each vCPU of a domain a worker. */
  attach(domain: Domain): void {
    for (const vcpu of domain.vcpus) {
      const buffer = new SharedArrayBuffer(16 + 64)
      const [words, numbers] = [new Int32Array(buffer, 0, 4), new Float64Array(buffer, 16)]
      const workerData = { words, numbers, handle: this.#xen.attach([vcpu]), ...this.#walk }
      const worker = new Worker(new URL('relay_worker.mjs', import.meta.url), { workerData })
      this.#lines.set(vcpu, { words, numbers, worker, calls: 0 })
    }
  }

  /** How many look-ups in the vanishing frame succeed in the next call. */
  set lookUps(count: number) {
    this.#lookUps[0] = count
  }

  /** A hypercall by the vCPU's own thread. */
  hypercall(vcpu: Vcpu, nr: number, args: readonly number[]): number {
    const line = this.#lines.get(vcpu)!
    // A vCPU that calls runs: an earlier poll is over (EC-poll-14).
    if (!this.#done(line)) {
      inside(this.#xen.domain(vcpu.domid)!).unblock(inside(vcpu))
      while (!this.#done(line)) this.#xen.service()
    }
    line.numbers.fill(0)
    line.numbers.set([nr, ...args])
    line.words[2] = this.#lookUps[0]!
    Atomics.store(line.words, 0, ++line.calls)
    Atomics.notify(line.words, 0)
    let asleepSince = Number.POSITIVE_INFINITY
    while (!this.#done(line)) {
      this.#xen.service()
      const now = performance.now()
      asleepSince = vcpu.polling && vcpu.blocked ? Math.min(asleepSince, now) : Number.POSITIVE_INFINITY
      if (now - asleepSince > ASLEEP_MS) return 0
    }
    return line.numbers[7]!
  }

  #done({ words, calls }: Line): boolean {
    return Atomics.load(words, 1) === calls
  }

  async end(): Promise<void> {
    await Promise.all([...this.#lines.values()].map(({ worker }) => worker.terminate()))
  }
}
