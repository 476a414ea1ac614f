/**
 * A vCPU that does one thing until it is told to stop, and says how often it did.
 *
 *     words   0 told to stop · 1 the loop has ended · 2 how often · 3 longest time in µs · 4 … a word for each port
 */

import { parentPort, workerData } from 'node:worker_threads'
import { random } from './stress_run.mjs'

const { role, words, handle, ports = [], seed = 1 } = workerData
const { VcpuThread } = await import(new URL('../../dist/vcpu/index.js', import.meta.url).href)
const thread = VcpuThread.from(handle)
const [cpu] = thread.vcpus
const next = random(seed)
const PORT_WORDS = 4
const ARGUMENT = 2 * 4096

const LOOPS = {
  /** Sends on random ports. */
  send() {
    const i = next(ports.length)
    Atomics.store(words, PORT_WORDS + i, 1)
    const rc = cpu.send(ports[i])
    if (rc < 0 && rc !== -11 && rc !== -3) throw new Error(`send returned ${rc}`)
    if (rc >= 0) Atomics.store(words, PORT_WORDS + i, 2)
  },
  /** Opens a port, by a call that is forwarded, and closes it. */
  bind() {
    cpu.memory.data.setUint32(ARGUMENT, 0x7ff0, true)
    const opened = cpu.hypercall(32, [6, ARGUMENT])
    cpu.memory.data.setUint32(ARGUMENT, cpu.memory.data.getUint32(ARGUMENT + 4, true), true)
    const closed = cpu.hypercall(32, [3, ARGUMENT])
    if (opened || closed) throw new Error(`alloc_unbound returned ${opened}, close ${closed}`)
  },
  sleep: () => cpu.block(),
  idle: () => cpu.idle(),
  /** Makes hypercalls of all kinds with what is in its memory, which another thread writes to. */
  call() {
    const rc = cpu.hypercall([32, 29, 24, 34, 13, 17][next(6)], [next(20), ARGUMENT + 4 * next(64), next(4)])
    if (rc < -200 || !Number.isInteger(rc)) throw new Error(`a hypercall returned ${rc}`)
  },
  /** Writes to the memory of its domain, whatever is there: arguments, shared_info, event words. */
  scribble() {
    const view = cpu.memory.data
    for (let i = 0; i < 100; i++)
      view.setUint32(4 * next(cpu.memory.bytes / 4), next(2) ? next(64) : next(2 ** 32 - 1), true)
    for (let i = 0; i < 100; i++) view.setUint32(ARGUMENT + 4 * next(64), next(64), true)
  },
  /** Runs guest code that has no safepoint. */
  deaf() {
    while (!Atomics.load(words, 0));
  },
}

while (cpu.safepoint() && !Atomics.load(words, 0)) {
  const start = performance.now()
  LOOPS[role]()
  const us = Math.round((performance.now() - start) * 1000)
  if (us > Atomics.load(words, 3)) Atomics.store(words, 3, us)
  Atomics.add(words, 2, 1)
}
Atomics.store(words, 1, 1)
Atomics.notify(words, 1)
parentPort.postMessage('ended')
