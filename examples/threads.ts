/** Two guests, each on a thread of its own, and a channel between them: they send and sleep there, the rest is asked here. */
import { once } from 'node:events'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { GuestKernel, Hypervisor } from 'evtchn'
import { VcpuThread } from 'evtchn/vcpu'

const ROUNDS = 1000

if (isMainThread) {
  const xen = Hypervisor.create({ threads: 2 })
  const [ping, pong] = [1, 2].map((domid) => {
    const handle = xen.attach([xen.createDomain({ domid, shared: true }).vcpu(0)])
    return new Worker(new URL(import.meta.url), { workerData: { handle } })
  })
  const [port] = await once(ping!, 'message')
  pong!.postMessage(port)
  await Promise.all([once(ping!, 'exit'), once(pong!, 'exit')])
  console.log(`${ROUNDS} round trips between two threads`)
} else {
  const [cpu] = VcpuThread.from(workerData.handle).vcpus
  const guest = GuestKernel.boot(cpu!.platform)
  let events = 0
  const count = () => {
    events++
  }
  /** Guest code, until there were that many events. */
  const until = (wanted: number) => {
    while (events < wanted && cpu!.safepoint()) if (!cpu!.upcall(() => guest.upcall(0))) cpu!.block()
  }
  if (cpu!.domid === 1) {
    const port = guest.allocUnbound(2, count)
    parentPort!.postMessage(port)
    until(1) // the other side is there: it sends first
    for (let round = 1; round <= ROUNDS; round++) {
      guest.send(port)
      until(1 + round)
    }
  } else {
    const [port] = await once(parentPort!, 'message')
    const local = guest.bindInterdomain(1, port, count)
    until(1) // a bind raises the own end once (EC-inter-8)
    for (let round = 1; round <= ROUNDS; round++) {
      guest.send(local)
      until(1 + round)
    }
    guest.send(local)
  }
}
