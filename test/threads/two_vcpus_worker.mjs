/** One vCPU of a guest with two, each on a thread of its own: boots it or joins it, and answers each event with one. */

import { parentPort, workerData } from 'node:worker_threads'

const { handle, shared, levels, rounds, ports } = workerData
const { VcpuThread } = await import(new URL('../../dist/vcpu/index.js', import.meta.url).href)
const { GuestKernel } = await import(new URL('../../dist/index.js', import.meta.url).href)
const [cpu] = VcpuThread.from(handle).vcpus
const guest = shared
  ? GuestKernel.join(cpu.platform, shared)
  : GuestKernel.boot(cpu.platform, { levels: [levels], upVcpus: [0, 1] })
const counts = ports.map(() => 0)
const locals = ports.map((port, i) =>
  guest.bindInterdomain(2, port, (local) => {
    counts[i]++
    // Masked and unmasked by hypercall, with arguments of its own.
    guest.mask(local)
    guest.unmask(local)
    guest.send(local)
  }),
)
parentPort.postMessage({ locals, shared: shared ? undefined : guest.share(1) })
while (cpu.safepoint() && counts.some((count) => count < rounds)) if (!cpu.upcall(() => guest.upcall())) cpu.block()
parentPort.postMessage({ counts })
