/** A guest on a worker: the library's driver, whose vCPU sends and sleeps here. */
import { GuestKernel } from 'evtchn'
import { VcpuThread, type VcpuThreadHandle } from 'evtchn/vcpu'

const ROUNDS = 1000

type Told = { handle?: VcpuThreadHandle; port?: number }
const queue: Told[] = []
let arrived = () => {}
addEventListener('message', ({ data }: MessageEvent<Told>) => {
  queue.push(data)
  arrived()
})
const next = async (): Promise<Told> => {
  if (!queue.length) await new Promise<void>((resolve) => (arrived = resolve))
  return queue.shift()!
}

const [cpu] = VcpuThread.from((await next()).handle!).vcpus
const guest = GuestKernel.boot(cpu!.platform)
let events = 0
const count = () => {
  events++
}
/** Guest code, until there were that many events. */
const until = (wanted: number) => {
  while (events < wanted && cpu!.safepoint()) if (!cpu!.upcall(() => guest.upcall(0))) cpu!.block()
}

const first = cpu!.domid === 1
let port: number
if (first) {
  port = guest.allocUnbound(2, count)
  postMessage(port)
} else port = guest.bindInterdomain(1, (await next()).port!, count)
until(1) // a bind raises the own end once (EC-inter-8), and the second sends first
for (let round = 1; round <= ROUNDS; round++) {
  guest.send(port)
  until(1 + round)
}
if (first) postMessage(`${ROUNDS} round trips between two workers of a page`)
else guest.send(port)
