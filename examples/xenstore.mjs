/**
 * A guest's client of XenStore, as a kernel has it: requests and watch events through a page of its own memory, each turn
 * announced over an event channel to domain 0, where the daemon is.
 */
import { GuestKernel, Hypervisor } from 'evtchn'
import { connectInProcess, RingClientTransport, XenStoreClient, XenStored } from 'evtchn/xenstore'

const PAGE = 4096
const kernels = []
const xen = Hypervisor.create({ onUpcall: (vcpu) => kernels[vcpu.domid]?.upcall(vcpu.vcpuId) })
for (const domid of [0, 1]) kernels[domid] = GuestKernel.boot(xen.platform(xen.createDomain({ domid })))

/** An end of a ring: the guest's page, and a port of the domain `owner` whose end it is. */
function ringEnd(owner, guest, gfn, bind) {
  let onEvent = () => {}
  const port = bind({ name: 'xenstore', handler: () => onEvent() })
  return {
    port,
    page: () =>
      xen
        .domain(guest)
        .memory.view()
        .subarray(gfn * PAGE, (gfn + 1) * PAGE),
    channel: {
      notify: () => kernels[owner].send(port),
      onEvent: (callback) => {
        onEvent = callback
      },
    },
    close: () => kernels[owner].close(port),
  }
}

// The daemon, and what it asks the hypervisor for.
const store = new XenStored({
  host: {
    state: (domid) => (xen.domain(domid) ? { shutdown: false, dying: false } : null),
    connect: (domid, gfn, port) =>
      ringEnd(0, domid, gfn, (binding) => kernels[0].bindInterdomain(domid, port, binding)),
  },
})

// The toolstack: a home that belongs to the guest.
const dom0 = connectInProcess(store)
await dom0.mkdir('/local/domain/1')
await dom0.setPermissions('/local/domain/1', ['n1'])
await dom0.write('/local/domain/1/name', 'guest')

// The guest: a page, a port that domain 0 may bind; INTRODUCE connects the two.
const [gfn] = kernels[1].frames.allocate(1)
const end = ringEnd(1, 1, gfn, (binding) => kernels[1].allocUnbound(0, binding))
const guest = new XenStoreClient(new RingClientTransport(end))
await dom0.introduce(1, gfn, end.port)

// Relative paths begin at the guest's home.
console.log(`I am ${await guest.read('name')}`)
await guest.read('/tool').catch((error) => console.log(error.message))

// A watch tells its own path first, then what changes at or below it.
const watch = await guest.watch('device')
await dom0.write('/local/domain/1/device/vif/0/state', '1')
for await (const { path } of watch) {
  console.log(`changed: ${path}`)
  if (path.endsWith('state')) break
}

// A transaction is run again if somebody changes what it looked at: here the first attempt meets domain 0.
let attempts = 0
await guest.transaction(async (t) => {
  const state = Number(await t.read('device/vif/0/state'))
  if (++attempts === 1) await dom0.write('/local/domain/1/device/vif/0/state', '2')
  await t.write('device/vif/0/state', String(state + 1))
})
console.log(`state ${await dom0.read('/local/domain/1/device/vif/0/state')} at attempt ${attempts}`)
guest.close()
