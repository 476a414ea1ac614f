/** The threads of stress_run.mjs: a sender, or the receiver with the library's own driver. */

import { workerData } from 'node:worker_threads'
import { MOST_PORTS, random, WORDS } from './stress_run.mjs'

const { role, words, dist, handle, seed } = workerData
const { VcpuThread } = await import(new URL('vcpu/index.js', dist).href)
const thread = VcpuThread.from(handle)
const cpu = thread.vcpus[0]
const next = random(seed)

if (role === 'sender') send(workerData.mine)
else await receive(workerData)

/** Bursts on random ports, until told to rest or to stop. */
function send(mine) {
  while (cpu.safepoint() && !Atomics.load(words, WORDS.stop)) {
    const burst = 1 + next(200)
    for (let i = 0; i < burst; i++) {
      const { port, at } = mine[next(mine.length)]
      Atomics.add(words, WORDS.header + at, 1)
      const rc = cpu.send(port)
      if (rc < 0) throw new Error(`send on port ${port} returned ${rc}`)
    }
    Atomics.add(words, WORDS.sends, burst)
    if (!Atomics.load(words, WORDS.rest)) continue
    Atomics.add(words, WORDS.resting, 1)
    while (Atomics.load(words, WORDS.rest)) Atomics.wait(words, WORDS.rest, 1)
    Atomics.sub(words, WORDS.resting, 1)
  }
}

async function receive({ levels, ends }) {
  const { GuestKernel } = await import(new URL('index.js', dist).href)
  const guest = GuestKernel.boot(cpu.platform, { levels: [levels] })
  const masked = new Set()
  ends.forEach(({ domid, port }, at) => {
    const local = guest.bindInterdomain(domid, port, (own) => {
      Atomics.store(words, WORDS.header + MOST_PORTS + at, Atomics.load(words, WORDS.header + at))
      // Now and then a handler masks its port, and what comes meanwhile waits for the unmask.
      if (next(50) === 0) {
        guest.mask(own)
        masked.add(own)
      }
    })
    if (local !== at + 1) throw new Error(`port ${at + 1} is ${local}`)
  })
  Atomics.store(words, WORDS.ready, 1)
  while (cpu.safepoint() && !Atomics.load(words, WORDS.stop)) {
    const ran = cpu.upcall(() => guest.upcall(0))
    if (masked.size) {
      // Unmasking runs handlers, which may mask again.
      for (const port of [...masked]) {
        masked.delete(port)
        guest.unmask(port)
      }
    } else if (!ran) sleep()
  }
}

/** SCHEDOP_block, or SCHEDOP_poll of a port; both end when an upcall is due. */
function sleep() {
  const way = next(3)
  if (way === 0) return cpu.block()
  if (way === 1) return cpu.hypercall(29, [1, 0])
  const view = cpu.memory.data
  const gpa = 511 * 4096
  const wide = workerData.handle.domains[0].bits === 64
  view.setUint32(gpa + 64, 1, true)
  view.setUint32(gpa, gpa + 64, true)
  if (wide) view.setUint32(gpa + 4, 0, true)
  view.setUint32(gpa + (wide ? 8 : 4), 1, true)
  view.setBigUint64(gpa + (wide ? 16 : 8), 0n, true)
  const rc = cpu.hypercall(29, [3, gpa])
  if (rc) {
    // The port may be closed at this moment.
    if (rc !== -22) throw new Error(`SCHEDOP_poll returned ${rc}`)
  }
}
