/** The worker with the hypervisor: two domains, a worker for the vCPU of each, and the calls that they forward. */
import { Hypervisor } from 'evtchn'

const xen = Hypervisor.create({ threads: 2 })
const [ping, pong] = [1, 2].map((domid) => {
  const worker = new Worker('/build/examples/browser/threads-guest.page.js', { type: 'module' })
  worker.postMessage({ handle: xen.attach([xen.createDomain({ domid, shared: true }).vcpu(0)]) })
  worker.onerror = ({ message }) => postMessage(`d${domid} failed: ${message}`)
  return worker
}) as [Worker, Worker]

// The first guest names its port, which the second binds to; then it counts round trips.
ping.onmessage = ({ data }) => {
  if (typeof data === 'number') pong.postMessage({ port: data })
  else {
    postMessage(data)
    postMessage('done')
  }
}
