/**
 * The guest on this library, without a test runner: node guests/nlevel/try.mjs [FILE.wasm]
 *
 * Put your own driver in its place: a WebAssembly module that imports its memory and one function, `hypercall`.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Hypervisor } from 'evtchn'

const file = process.argv[2] ?? new URL('../../build/guests/nlevel-64.wasm', import.meta.url)

// The host, and a dom0 that has no code. The processor enters a guest when its upcall is due.
const xen = Hypervisor.create({ onUpcall: ({ domid }) => domid === 1 && guest.upcall() })
const dom0 = xen.createDomain({ domid: 0 })

// The guest's memory is the domain's RAM: 512 frames of 4 KiB, shared_info in frame 1.
const memory = new WebAssembly.Memory({ initial: 32, maximum: 32 })
const domain = xen.createDomain({
  domid: 1,
  memory,
  frames: 512,
  sharedInfoGfn: 1,
  maxEvtchnPort: Number.POSITIVE_INFINITY,
})
const hypercall = (op, ...args) => xen.hypercall(domain.vcpu(0), op, args)
const guest = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(file)), { env: { memory, hypercall } })
  .exports

// Three levels with one leaf page, laid out from frame 256 on.
assert.equal(guest.boot(1, 3, 1, 256), 32_768)
const port = guest.offer(0)
const { local_port: end } = dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port })

dom0.eventChannelOp('send', { port: end })
assert.equal(guest.handled(port), 1)

guest.mask(port)
dom0.eventChannelOp('send', { port: end })
dom0.eventChannelOp('send', { port: end })
assert.equal(guest.handled(port), 1, 'the mask holds it back')
guest.unmask(port)
assert.equal(guest.handled(port), 2, 'two sends behind a mask are one event')

console.log(`port ${port} of 32,768: 3 sends, ${guest.handled(port)} events, none lost`)
