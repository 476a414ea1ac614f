/** One guest that registers its event channels: the host's limits, every call with its reason, and what the guest holds then. */

import { type Bits, DOMID_SELF, type Out, PAGE_SIZE } from '../../abi/index.js'
import {
  type Attempt,
  type DomainOptions,
  formatEvent,
  GuestKernel,
  type HypercallEvent,
  Hypervisor,
  type HypervisorOptions,
  Trace,
} from '../../index.js'
import { abiName, type Form } from '../abi.js'
import { CheckError } from '../errors.js'
import { type Level, levelsOf } from './tree.js'

/** What is asked for, and of which host. */
export interface Wish {
  readonly bits: Bits
  readonly form: Form
  readonly pages: number | undefined
  readonly vcpus: number
  /** The last vCPU comes up after the channels were registered. */
  readonly late: boolean
  readonly host: HypervisorOptions
  readonly domain: Pick<DomainOptions, 'maxEvtchnPort' | 'nlevelAllowed'>
}

/** A call, and the line that strace would print. */
export interface Call {
  readonly call: string
  readonly result: number
  readonly reason?: string
  readonly line: string
}

/** What came of it. */
export interface Registration {
  /** What EVTCHNOP_query_nlevel2 says before anything is registered; undefined: this host knows no N levels. */
  readonly granted: Out<'query_nlevel2'> | undefined
  readonly calls: readonly Call[]
  readonly attempts: readonly Attempt[]
  readonly levels: number | 'fifo'
  readonly channels: number
  /** Leaf pages of each bitmap; 0 without a tree. */
  readonly nrPages: number
  /** Guest frames that the form holds beyond two levels: bitmaps, selectors or queues, and the driver's descriptors. */
  readonly frames: number
  readonly tree: readonly Level[]
  readonly lateVcpu?: { readonly vcpu: number; readonly before: number; readonly after: number }
}

/** Operations that register a form or bring up a vCPU, and those that ask. */
const SHOWN = /nlevel|init_control|VCPUOP_(up|register)/

const isShown = (event: { kind: string }): event is HypercallEvent =>
  event.kind === 'hypercall' && SHOWN.test((event as HypercallEvent).call)

/** Frames for the largest tree of each vCPU, its two bitmaps, and a few more. */
const framesFor = (vcpus: number) => 2 * 1024 + vcpus * 40 + 256

/** A host and its guest, which has not booted. */
function machine({ bits, vcpus, host, domain: given }: Wish, trace?: Trace) {
  const upcalls: { kernel?: GuestKernel } = {}
  const xen = Hypervisor.create({
    ...host,
    ...(trace && { trace }),
    onUpcall: ({ vcpuId }) => void upcalls.kernel?.upcall(vcpuId),
  })
  const domain = xen.createDomain({ domid: 1, bits, vcpus, frames: framesFor(vcpus), ...given })
  return { xen, domain, upcalls }
}

/** Free frames of a guest on two levels: what a form holds is what is missing from them. */
function freeOnTwoLevels(wish: Wish): number {
  const { xen, domain } = machine(wish)
  return GuestKernel.boot(xen.platform(domain), { levels: 2 }).frames.available
}

/** What the host would grant, asked as the guest itself asks. */
function ask(wish: Wish): Registration['granted'] {
  const { domain } = machine(wish)
  try {
    return domain.eventChannelOp('query_nlevel2', { dom: DOMID_SELF })
  } catch {
    return undefined
  }
}

/** Registers. @throws CheckError if an event for the late vCPU is lost */
export function register(wish: Wish): Registration {
  const trace = new Trace({ limit: 100_000 })
  const { xen, domain, upcalls } = machine(wish, trace)
  const { vcpus, late, pages } = wish
  const last = vcpus - 1
  const up = Array.from({ length: late ? last : vcpus }, (_, vcpu) => vcpu)
  trace.clear()
  const kernel = GuestKernel.boot(xen.platform(domain), {
    levels: wish.form,
    upVcpus: up,
    ...(pages !== undefined && { nrPages: pages }),
  })
  upcalls.kernel = kernel
  const lateVcpu = late ? bringUp(kernel, last) : undefined
  const { levels, channels, attempts } = kernel
  const { nrPages } = attempts.at(-1)!
  return {
    granted: ask(wish),
    calls: trace.events().filter(isShown).map(callOf),
    attempts,
    levels,
    channels,
    nrPages,
    frames: freeOnTwoLevels(wish) - kernel.frames.available,
    tree: levels === 'fifo' ? [] : levelsOf(wish.bits, levels, nrPages),
    ...(lateVcpu && { lateVcpu }),
  }
}

/** An event for a vCPU that is not up yet: it waits in the leaf, and comes once. */
function bringUp(kernel: GuestKernel, vcpu: number): NonNullable<Registration['lateVcpu']> {
  let handled = 0
  const port = kernel.bindIpi({ vcpu, name: 'late', handler: () => void handled++ })
  kernel.send(port)
  const before = handled
  kernel.bringUp(vcpu)
  if (before !== 0 || handled !== 1)
    throw new CheckError(
      `an event for vCPU ${vcpu} was handled ${before} times before it came up, and ${handled} in all`,
    )
  return { vcpu, before, after: handled }
}

function callOf(event: HypercallEvent): Call {
  const { call, result, reason } = event
  return { call, result, line: formatEvent(event), ...(reason !== undefined && { reason }) }
}

/** What was wanted, in words. */
export const wishName = ({ form, bits }: Wish): string => `${abiName(form)}, ${bits} bits`

/** Bytes of the frames. */
export const bytesOf = (frames: number): number => frames * PAGE_SIZE
