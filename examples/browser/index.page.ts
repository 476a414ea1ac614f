/** Two domains in a page: channels of a guest with three levels, on plain and on shared memory. */
import { Hypervisor } from 'evtchn'

const out = document.getElementById('out')
const print = (text: string): void => {
  if (out) out.textContent += `${text}\n`
}

// Without cross-origin isolation a page has no shared memory. The build without atomics serves there.
for (const shared of crossOriginIsolated ? [false, true] : [false]) {
  const xen = Hypervisor.create()
  const dom0 = xen.boot({ domid: 0, shared, levels: 3 })
  const guest = xen.boot({ domid: 1, shared, levels: 3, maxEvtchnPort: Infinity })
  let handled = 0
  const port = guest.allocUnbound(0, () => void handled++)
  const peer = dom0.bindInterdomain(1, port)
  for (let i = 0; i < 1000; i++) dom0.send(peer)
  let lines = 0
  for await (const line of xen.dumpAsync()) lines += line ? 1 : 0
  print(`${shared ? 'shared' : 'plain'} memory: ${guest.channels} channels, ${handled} events, ${lines} lines of dump`)
}
print('done')
