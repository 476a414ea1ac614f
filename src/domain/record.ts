/**
 * The record of a domain in the host core's private memory, as the hypervisor writes it: what stays as it is for the
 * domain's life, and the status bits that a send looks at first. The layout: machine/host_layout.ts.
 */

import type { HostCore, Slots } from '../machine/host_core.js'
import { DOMAIN, STATUS_POLICY, VCPU, VCPU_SHIFT } from '../machine/host_layout.js'
import type { DomainConfig } from './config.js'
import { decodeCallbackVia } from './upcall.js'
import type { Vcpu } from './vcpu.js'

/**
 * Fills the record of a new domain and takes the records of its vCPUs. `slots`: where its guest core is in the host core's
 * table. `policyOnSend`: a policy is asked about its sends. Returns where the vCPUs' records are.
 */
export function describeDomain(
  core: HostCore,
  record: number,
  { domid, vcpus }: DomainConfig,
  slots: Slots,
  policyOnSend: boolean,
): number {
  const { memory } = core
  const at = memory.take(vcpus << VCPU_SHIFT)
  const put = (offset: number, value: number) => {
    memory.words[(record + offset) >>> 2] = value
  }
  put(DOMAIN.DOMID, domid)
  put(DOMAIN.GENERATION, core.nextGeneration())
  put(DOMAIN.VCPUS, at)
  put(DOMAIN.NR_VCPUS, vcpus)
  put(DOMAIN.FUNCTIONS, slots.first)
  put(DOMAIN.RUN, slots.run)
  put(DOMAIN.MEMORY, slots.memory)
  put(DOMAIN.STATUS, policyOnSend ? STATUS_POLICY : 0)
  return at
}

/** Sets or clears one status bit. */
export function setDomainStatus({ memory, lock }: HostCore, record: number, bit: number, on: boolean): void {
  // When this returns, no vCPU of the domain is in the middle of a send that did not see the bit.
  lock.write(() => {
    const at = (record + DOMAIN.STATUS) >>> 2
    const { words } = memory
    words[at] = on ? words[at]! | bit : words[at]! & ~bit
  })
}

/** What of a domain decides whether an upcall can enter its vCPUs. */
interface Callable {
  readonly hostCore: HostCore
  readonly type: 'pv' | 'hvm'
  readonly callbackVia: bigint
  readonly vcpus: readonly Vcpu[]
}

/** Says in the records of its vCPUs whether an event wakes them: PV, or HVM with a way to be called (EC-up-3). */
export function publishCallable({ hostCore, type, callbackVia, vcpus }: Callable): void {
  const via = decodeCallbackVia(callbackVia).type
  for (const vcpu of vcpus) {
    const hvm = vcpu.upcallVector !== 0 || via === 'vector' || (via !== 'none' && vcpu.vcpuId === 0)
    Atomics.store(hostCore.memory.words, (vcpu.at + VCPU.CALLABLE) >>> 2, Number(type === 'pv' || hvm))
  }
}
