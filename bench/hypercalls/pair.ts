/** Two domains with the library's driver on both: 0 sends, 1 receives. */

import type { Domain, EvtchnHandle, GuestKernel, Hypervisor, Vcpu } from '../../src/index.js'
import type { Library } from './builds.js'

/** What a row needs. */
export interface Wanted {
  readonly levels: 2 | 3 | 'fifo'
  /** Channels from the sender to the receiver. Default 1,000. */
  readonly channels?: number
  /** The receiver takes its upcalls at once; without, when it is drained. */
  readonly upcalls?: boolean
}

/** The sending end. */
export interface Sender {
  readonly kernel: GuestKernel
  readonly vcpu: Vcpu
  readonly ports: readonly number[]
  /** Guest-physical address for arguments, and the domain's RAM. */
  readonly argument: number
  readonly data: DataView
}

/** The receiving end. */
export interface Receiver {
  readonly domain: Domain
  readonly ports: readonly number[]
  /** Handles what is pending. @throws Error if it is not `count` events. */
  drain(count: number): void
  /** @throws Error if not `count` events were handled since the last time. */
  expect(count: number): void
}

/** Both. */
export interface Pair {
  readonly xen: Hypervisor
  readonly sender: Sender
  readonly receiver: Receiver
  /** A handle of the sender's, to which its ports are given. */
  handle(): EvtchnHandle
  /** Ports of the receiver that the sender may bind to. */
  offer(count: number): number[]
  /** Ports of the sender's without a peer. */
  allocate(count: number): number[]
  /** Closes all ports that were made after the pair. */
  closeAll(): void
}

const FRAMES = 256
const SELF = 0x7ff0
const FIRST = 1
/** Ports of a 64-bit guest with two levels. */
const END = 4096

/** Makes a host with both domains. */
export function pair({ main }: Library, { levels, channels = 1000, upcalls = false }: Wanted): Pair {
  const kernels: GuestKernel[] = []
  const xen = main.Hypervisor.create({
    onUpcall: ({ domid }: { domid: number }) => {
      if (upcalls) kernels[domid]!.upcall(0)
    },
  })
  const domains: Domain[] = [0, 1].map((domid) =>
    xen.createDomain({ domid, bits: 64, frames: FRAMES, maxEvtchnPort: END }),
  )
  const shape = levels === 3 ? { levels, nrPages: 1 } : { levels }
  for (const domain of domains) kernels.push(main.GuestKernel.boot(xen.platform(domain), shape))
  const [zero, one] = domains as [Domain, Domain]
  let handled = 0
  const handler = () => void handled++
  const offered = Array.from({ length: channels }, () => kernels[1]!.allocUnbound(0, { handler }))
  const device = new main.EvtchnDevice(kernels[0]!)
  const handle = device.open()
  const ports = offered.map((port) => handle.bindInterdomain(1, port))
  for (const kernel of kernels) kernel.upcall(0)
  handled = 0

  const expect = (count: number) => {
    if (handled !== count) throw new Error(`${handled} events were handled, not ${count}`)
    handled = 0
  }
  const { memory } = zero
  const first = FIRST + channels
  const closeAll = () => {
    for (const { vcpus } of domains)
      for (let port = first; port < END && isOpen(vcpus[0]!, port); port++) vcpus[0]!.eventChannelOp('close', { port })
    for (const kernel of kernels) kernel.upcall(0)
  }
  const alloc = (domain: Domain, dom: number, count: number) =>
    Array.from({ length: count }, () => {
      const args = { dom: SELF, remote_dom: dom }
      return domain.vcpus[0]!.eventChannelOp('alloc_unbound', args).port
    })
  return {
    xen,
    sender: {
      kernel: kernels[0]!,
      vcpu: zero.vcpus[0]!,
      ports,
      argument: (FRAMES - 2) * 4096,
      data: new DataView(memory.memory.buffer as ArrayBuffer, memory.base),
    },
    receiver: {
      domain: one,
      ports: offered,
      drain: (count) => {
        kernels[1]!.upcall(0)
        expect(count)
      },
      expect,
    },
    handle: () => handle,
    offer: (count) => alloc(one, 0, count),
    allocate: (count) => alloc(zero, 1, count),
    closeAll,
  }
}

function isOpen(vcpu: Vcpu, port: number): boolean {
  try {
    return vcpu.eventChannelOp('status', { dom: SELF, port }).status !== 0
  } catch {
    return false
  }
}
