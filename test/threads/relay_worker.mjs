/**
 * Makes the hypercalls of one vCPU on its own thread, one after another, as it is told.
 *
 *     words   0 the number of the call that is asked for · 1 that of the last that returned · 2 look-ups that still succeed
 *     numbers 0 hypercall · 1 … 6 registers · 7 result      in float64, behind the words
 */

import { workerData } from 'node:worker_threads'

const { words, numbers, handle, vanishing, nowhere } = workerData
const { VcpuThread } = await import(new URL('../../dist/vcpu/index.js', import.meta.url).href)
// The page walk of the traces: one frame has a second address, which is there for as many look-ups as the test says.
const translate = (_vcpu, gva) => {
  if (gva < vanishing || gva >= nowhere) return gva
  return Atomics.sub(words, 2, 1) > 0 ? gva - vanishing : -1
}
const [cpu] = VcpuThread.from(handle, { translate }).vcpus
for (let call = 1; ; call++) {
  while (Atomics.load(words, 0) < call) Atomics.wait(words, 0, call - 1)
  numbers[7] = cpu.hypercall(numbers[0], [...numbers.slice(1, 7)])
  Atomics.store(words, 1, call)
  Atomics.notify(words, 1)
}
