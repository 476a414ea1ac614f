/**
 * Would an upcall be delivered to a vCPU now? (spec 3.2). The flag says that events are pending; whether and how the
 * guest hears of it depends on how it runs.
 */

import type { Vcpu } from './vcpu.js'

/** How an HVM guest asked to be called (HVM parameter 0, EC-up-9). */
export type CallbackVia =
  | { type: 'none' }
  | { type: 'gsi'; gsi: number }
  | { type: 'intx'; device: number; pin: number }
  | { type: 'vector'; vector: number }

/** Last GSI of the emulated machine. */
const NR_GSIS = 48

/** Decodes HVM parameter 0: bits 63:56 are the type, higher types than 2 mean none. */
export function decodeCallbackVia(value: bigint): CallbackVia {
  const low = Number(value & 0xffff_ffffn)
  if (value === 0n) return { type: 'none' }
  switch (Number(value >> 56n)) {
    case 0: {
      const gsi = low & 0xff
      return gsi === 0 || gsi >= NR_GSIS ? { type: 'none' } : { type: 'gsi', gsi }
    }
    case 1:
      return { type: 'intx', device: (low >> 11) & 31, pin: low & 3 }
    case 2:
      return { type: 'vector', vector: low & 0xff }
    default:
      return { type: 'none' }
  }
}

/** What of a domain decides how its vCPUs are called. */
interface Called {
  readonly type: 'pv' | 'hvm'
  readonly callbackVia: bigint
  readonly frozen: string | null
}

/**
 * True if the vCPU is to be upcalled when it next runs guest code. PV: flag set and mask 0 (EC-up-6). HVM: the flag, and
 * a way to call: its own vector, the callback vector, or, for vCPU 0, a line (EC-up-3). The HVM guest's own interrupt
 * flag and TPR are the embedder's to look at.
 */
export function upcallDeliverable(domain: Called, vcpu: Vcpu): boolean {
  if (domain.frozen || vcpu.down || !vcpu.upcallPending) return false
  if (domain.type === 'pv') return vcpu.upcallMask === 0
  if (vcpu.upcallVector) return true
  const via = decodeCallbackVia(domain.callbackVia)
  return via.type === 'vector' || (via.type !== 'none' && vcpu.vcpuId === 0)
}

/**
 * How an upcall enters the guest. `pv`: the event callback of CALLBACKOP_register. `vector`: an interrupt vector, the vCPU's
 * own (HVMOP_set_evtchn_upcall_vector) or the domain's callback vector. `gsi` and `intx`: a line, asserted for as long as the
 * vCPU's evtchn_upcall_pending is set.
 */
export type UpcallHow =
  | { readonly type: 'pv' }
  | { readonly type: 'vector'; readonly vector: number; readonly perVcpu: boolean }
  | { readonly type: 'gsi'; readonly gsi: number; readonly level: boolean }
  | { readonly type: 'intx'; readonly device: number; readonly pin: number; readonly level: boolean }

const PV: UpcallHow = Object.freeze({ type: 'pv' })

/** How a vCPU that `upcallDeliverable` lets in is entered. */
export function upcallHow(domain: Called, vcpu: Vcpu): UpcallHow {
  if (domain.type === 'pv') return PV
  if (vcpu.upcallVector) return { type: 'vector', vector: vcpu.upcallVector, perVcpu: true }
  const via = decodeCallbackVia(domain.callbackVia)
  const level = vcpu.upcallPending !== 0
  switch (via.type) {
    case 'gsi':
      return { ...via, level }
    case 'intx':
      return { ...via, level }
    case 'vector':
      return { ...via, perVcpu: false }
    case 'none':
      return PV
  }
}
