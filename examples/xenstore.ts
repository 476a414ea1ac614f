/**
 * A guest's client of XenStore, as a kernel has it. Requests and watch events pass through a page of the guest's memory. An
 * event channel to domain 0, where the daemon runs, announces each turn.
 */
import { type EventHandler, type GuestKernel, Hypervisor } from 'evtchn'
import { connectInProcess, RingClientTransport, XenStoreClient, XenStored } from 'evtchn/xenstore'

const PAGE = 4096
type Binding = { name: string; handler: EventHandler }
const xen = Hypervisor.create()
const dom0Kernel = xen.boot({ domid: 0 })
const guestKernel = xen.boot({ domid: 1 })

/** One end of a ring: the page of `domid` at `gfn`, and the port of `owner` that `bind` makes. */
function ringEnd(owner: GuestKernel, domid: number, gfn: number, bind: (binding: Binding) => number) {
  let onEvent = (): void => {}
  const port = bind({ name: 'xenstore', handler: () => onEvent() })
  return {
    port,
    page: () => memoryOf(domid).subarray(gfn * PAGE, (gfn + 1) * PAGE),
    channel: {
      notify: () => owner.send(port),
      onEvent: (callback: () => void) => {
        onEvent = callback
      },
    },
    close: () => owner.close(port),
  }
}

function memoryOf(domid: number): Uint8Array {
  const domain = xen.domain(domid)
  if (!domain) throw new Error(`domain ${domid} does not exist`)
  return domain.memory.view()
}

// The daemon, and what it needs of the hypervisor.
const store = new XenStored({
  host: {
    state: (domid) => (xen.domain(domid) ? { shutdown: false, dying: false } : undefined),
    connect: (domid, gfn, port) =>
      ringEnd(dom0Kernel, domid, gfn, (binding) => dom0Kernel.bindInterdomain(domid, port, binding)),
  },
})

// The toolstack: a home that belongs to the guest.
const dom0 = connectInProcess(store)
await dom0.mkdir('/local/domain/1')
await dom0.setPermissions('/local/domain/1', ['n1'])
await dom0.write('/local/domain/1/name', 'guest')

// The guest: a page, a port that domain 0 may bind; INTRODUCE connects the two.
const [gfn = 0] = guestKernel.frames.allocate(1) ?? []
const end = ringEnd(guestKernel, 1, gfn, (binding) => guestKernel.allocUnbound(0, binding))
const guest = new XenStoreClient(new RingClientTransport(end))
await dom0.introduce(1, gfn, end.port)

// Relative paths begin at the guest's home.
console.log(`I am ${await guest.read('name')}`)
await guest.read('/tool').catch((error: Error) => console.log(error.message))

// A watch first reports its own path, then each change at or below it.
const watch = await guest.watch('device')
await dom0.write('/local/domain/1/device/vif/0/state', '1')
for await (const { path } of watch) {
  console.log(`changed: ${path}`)
  if (path.endsWith('state')) break
}

// A transaction runs again if somebody changes what it read. Here domain 0 interferes with the first attempt.
let attempts = 0
await guest.transaction(async (t) => {
  const state = Number(await t.read('device/vif/0/state'))
  if (++attempts === 1) await dom0.write('/local/domain/1/device/vif/0/state', '2')
  await t.write('device/vif/0/state', String(state + 1))
})
console.log(`state ${await dom0.read('/local/domain/1/device/vif/0/state')} at attempt ${attempts}`)
guest.close()
