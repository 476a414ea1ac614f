/** Two guests and a channel between them, each end a handle as libxenevtchn has them. */
import { EvtchnDevice, GuestKernel, Hypervisor } from 'evtchn'

const guests = []
const xen = Hypervisor.create({ onUpcall: (vcpu) => guests[vcpu.domid]?.upcall(vcpu.vcpuId) })
for (const domid of [0, 1, 2]) guests[domid] = GuestKernel.boot(xen.platform(xen.createDomain({ domid })))

const ping = new EvtchnDevice(guests[1]).open()
const pong = new EvtchnDevice(guests[2]).open()
const pingPort = ping.bindUnboundPort(2)
pong.bindInterdomain(1, pingPort)

const ROUNDS = 1000

async function serve() {
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
