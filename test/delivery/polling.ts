import { type Bits, HYPERVISOR, PAGE_SIZE, SCHEDOP } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { ManualClock, type Vcpu } from '../../src/index.js'
import { ARGUMENT, END, FREE_GFN, type Guest, host, unchanged } from '../ops/raw.js'

export const LIST = FREE_GFN * PAGE_SIZE

/** What sched_poll holds; the rest by default. */
export interface Poll {
  ports?: readonly number[]
  nrPorts?: number
  timeoutNs?: bigint
  list?: number
  at?: number
  vcpu?: number
}

/** Writes struct and list; answers the address of the struct. */
export function write(
  { bits, view }: Guest,
  { ports = [], nrPorts = ports.length, timeoutNs = 0n, list = LIST, at = ARGUMENT }: Poll,
) {
  if (at + 24 <= END) {
    if (bits === 64) view.setBigUint64(at, BigInt(list), true)
    else view.setUint32(at, list, true)
    view.setUint32(at + (bits === 64 ? 8 : 4), nrPorts, true)
    view.setBigUint64(at + (bits === 64 ? 16 : 8), timeoutNs, true)
  }
  for (const [i, port] of ports.entries()) if (list + 4 * i + 4 <= END) view.setUint32(list + 4 * i, port, true)
  return at
}

/** Polls; after an error everything must be as before. */
export function poll(guest: Guest, what: Poll): string {
  const at = write(guest, what)
  return unchanged(guest.xen, () => guest.call(HYPERVISOR.sched_op, [SCHEDOP.poll, at], what.vcpu ?? 0))
}

export const marks = (vcpu: Vcpu) => {
  const { polling, pollEvtchn, blocked } = inside(vcpu)
  return [polling, pollEvtchn, blocked]
}
export const AWAKE = [false, 0, false]

/** A host whose clock tests move, and the vCPUs of d1 that went on. */
export function asleep(bits: Bits) {
  const clock = new ManualClock()
  const woken: number[] = []
  const all = host(bits, { clock, onUnblock: ({ domid, vcpuId }) => void (domid === 1 && woken.push(vcpuId)) })
  return { ...all, clock, woken, v0: all.d1.domain.vcpu(0), v1: all.d1.domain.vcpu(1) }
}
