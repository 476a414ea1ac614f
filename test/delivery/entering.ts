import { type Bits, HYPERVISOR, SCHEDOP, SHUTDOWN, sharedInfo, VCPU_INFO_SIZE } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { DomainOptions, Hypervisor } from '../../src/index.js'
import { ARGUMENT, END, type Guest, host, SHARED_INFO } from '../ops/raw.js'

const { hvm_op, sched_op } = HYPERVISOR
const SET_VECTOR = 23
export const SET_PARAM = 0
export const GET_PARAM = 1

/** A host that writes down whom it enters; `handler` is what the guest does there. */
export function entering(
  bits: Bits,
  each: Partial<DomainOptions> = {},
  handler: (vcpu: number, guest: Guest) => void = clear,
) {
  const entered: number[] = []
  const woken: number[] = []
  const reported: unknown[] = []
  const all = host(
    bits,
    {
      onUpcall: ({ domid, vcpuId }) => {
        if (domid !== 1) return
        entered.push(vcpuId)
        handler(vcpuId, all.d1)
      },
      onUnblock: ({ domid, vcpuId }) => void (domid === 1 && woken.push(vcpuId)),
      onError: (error) => reported.push(error),
    },
    each,
  )
  return { ...all, entered, woken, reported }
}

/** A handler that takes all events of its vCPU, the shortest way. */
export function clear(vcpu: number, guest: Guest): void {
  guest.setFlag(0, vcpu)
  const sel = SHARED_INFO + vcpu * VCPU_INFO_SIZE + sharedInfo(guest.bits).sel
  guest.bytes.fill(0, sel, sel + guest.bits / 8)
  const { ports } = inside(guest.domain)
  for (let port = 1; port < ports.validEvtchns; port++)
    if (ports.notifyVcpu(port) === vcpu) guest.setBit('pending', port, 0)
}
export const ignore = () => {}
/** d1 suspends itself, on its vCPU 1. */
export function suspend(xen: Hypervisor): void {
  const domain = xen.domain(1)!
  domain.memory.data.setUint32(ARGUMENT, SHUTDOWN.suspend, true)
  xen.hypercall(domain.vcpu(1), sched_op, [SCHEDOP.shutdown, ARGUMENT])
}

export const setVector = (guest: Guest, vcpu: number, vector: number, at = ARGUMENT) => {
  if (at < END - 8) {
    guest.view.setUint32(at, vcpu, true)
    guest.view.setUint8(at + 4, vector)
  }
  return guest.callAnswer(hvm_op, [SET_VECTOR, at])
}
export const setCallback = (guest: Guest, value: bigint) => {
  guest.view.setUint16(ARGUMENT, 0x7ff0, true)
  guest.view.setUint32(ARGUMENT + 4, 0, true)
  guest.view.setBigUint64(ARGUMENT + 8, value, true)
  return guest.callAnswer(hvm_op, [SET_PARAM, ARGUMENT])
}
export const GSI = 9n
export const INTX = (1n << 56n) | (3n << 11n) | 2n
export const VECTOR = (2n << 56n) | 0xf3n
