/** Workers with vCPUs that do one thing in a loop (loop_worker.mjs), for tests of what the hypervisor does to them. */

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { Domain, Hypervisor } from '../../src/index.js'
import type { VcpuThreadHandle } from '../../src/machine/thread_handle.js'

/** What a loop does. */
export type Role = 'send' | 'bind' | 'sleep' | 'idle' | 'call' | 'scribble' | 'deaf'

const PORT_WORDS = 4

/** One vCPU in its loop. */
export class Loop {
  readonly handle: VcpuThreadHandle
  readonly worker: Worker
  readonly #words: Int32Array
  #error: unknown

  constructor(
    xen: Hypervisor,
    domain: Domain,
    role: Role,
    options: { vcpu?: number; ports?: number[]; seed?: number } = {},
  ) {
    const { vcpu = 0, ports = [], seed = 1 } = options
    this.#words = new Int32Array(new SharedArrayBuffer(4 * (PORT_WORDS + ports.length)))
    this.handle = xen.attach([domain.vcpu(vcpu)])
    this.worker = new Worker(new URL('loop_worker.mjs', import.meta.url), {
      workerData: { role, words: this.#words, handle: this.handle, ports, seed },
    })
    this.worker.on('error', (error) => {
      this.#error = error
    })
  }

  /** How often it has done it. */
  get rounds(): number {
    if (this.#error) throw this.#error
    return Atomics.load(this.#words, 2)
  }
  get ended(): boolean {
    return Atomics.load(this.#words, 1) === 1
  }
  /** Longest time that it took once, in µs. */
  get longestUs(): number {
    return Atomics.load(this.#words, 3)
  }
  /** Of each port: 0 nothing was sent, 1 a send was begun, 2 one was done. */
  sent(i: number): number {
    return Atomics.load(this.#words, PORT_WORDS + i)
  }

  /** It has done it that often. */
  async reaches(rounds: number): Promise<void> {
    while (this.rounds < rounds) await turn()
  }

  /** Tells it to end its loop, and waits for its worker. A vCPU that sleeps does not hear of it. */
  async end(): Promise<void> {
    Atomics.store(this.#words, 0, 1)
    while (!this.ended) await turn()
    await this.worker.terminate()
  }

  /** Its worker is gone, wherever it was. */
  async terminate(): Promise<void> {
    const gone = once(this.worker, 'exit')
    await this.worker.terminate()
    await gone
  }
}

/** A turn of the event loop. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
