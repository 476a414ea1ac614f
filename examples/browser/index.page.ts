/** Two domains in a page: channels of a guest with three levels, on plain and on shared memory. */
import { GuestKernel, Hypervisor } from 'evtchn'

const out = document.getElementById('out')
const print = (text: string): void => {
  if (out) out.textContent += `${text}\n`
}

// Without cross-origin isolation a page has no shared memory. The build without atomics serves there.
for (const shared of crossOriginIsolated ? [false, true] : [false]) {
  const guests: GuestKernel[] = []
  const xen = Hypervisor.create({ onUpcall: (vcpu) => guests[vcpu.domid]?.upcall(vcpu.vcpuId) })
  const boot = (domid: number): GuestKernel => {
    const domain = xen.createDomain({ domid, shared, maxEvtchnPort: Infinity })
    const guest = GuestKernel.boot(xen.platform(domain), { levels: 3 })
    guests[domid] = guest
    return guest
  }
  const dom0 = boot(0)
  const guest = boot(1)
  let handled = 0
  const port = guest.allocUnbound(0, () => void handled++)
  const peer = dom0.bindInterdomain(1, port)
  for (let i = 0; i < 1000; i++) dom0.send(peer)
  let lines = 0
  for await (const line of xen.dumpAsync()) lines += line ? 1 : 0
  print(`${shared ? 'shared' : 'plain'} memory: ${guest.channels} channels, ${handled} events, ${lines} lines of dump`)
}
print('done')
