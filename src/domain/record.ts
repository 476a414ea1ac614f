/**
 * The record of a domain in the host core's private memory, as the hypervisor writes it: what stays as it is for the
 * domain's life, and the status bits that a send looks at first. The layout: machine/host_layout.ts.
 */

import type { HostCore } from '../machine/host_core.js'
import { DOMAIN, STATUS_POLICY, VCPU_SHIFT } from '../machine/host_layout.js'
import type { DomainConfig } from './config.js'

/**
 * Fills the record of a new domain and takes the records of its vCPUs. `functions`: where its guest core begins in the
 * host core's table. `policyOnSend`: a policy is asked about its sends. Returns where the vCPUs' records are.
 */
export function describeDomain(
  core: HostCore,
  record: number,
  { domid, vcpus }: DomainConfig,
  functions: number,
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
  put(DOMAIN.FUNCTIONS, functions)
  put(DOMAIN.STATUS, policyOnSend ? STATUS_POLICY : 0)
  return at
}

/** Sets or clears one status bit. */
export function setDomainStatus({ memory: { words } }: HostCore, record: number, bit: number, on: boolean): void {
  const at = (record + DOMAIN.STATUS) >>> 2
  words[at] = on ? words[at]! | bit : words[at]! & ~bit
}
