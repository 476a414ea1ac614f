/** Two guests and a channel between them. Each end is a handle like those of libxenevtchn. */
import { EvtchnDevice, Hypervisor } from 'evtchn'

const ROUNDS = 1000

const xen = Hypervisor.create()
const ping = new EvtchnDevice(xen.boot({ domid: 1 })).open()
const pong = new EvtchnDevice(xen.boot({ domid: 2 })).open()
const pingPort = ping.bindUnboundPort(2)
pong.bindInterdomain(1, pingPort)

async function serve(): Promise<void> {
  for await (const port of pong) {
    pong.unmask(port)
    pong.notify(port)
  }
}

const serving = serve()
let received = 0
ping.notify(pingPort)
for await (const port of ping) {
  ping.unmask(port)
  if (++received === ROUNDS) break
  ping.notify(port)
}
ping.close()
pong.close()
await serving
console.log(`${received} replies`)
