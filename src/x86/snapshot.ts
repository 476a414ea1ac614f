/**
 * A guest as data: the emulator's processor, devices and RAM, the domain without its RAM, and the guest's part of the store.
 * All of it survives a structured clone.
 */

import { HVM_PARAMS, type HvmParamName } from '../abi/index.js'
import type { Domain } from '../domain/handles.js'
import type { Hypervisor } from '../hypervisor/index.js'
import type { SavedTransparent } from '../migration/format.js'

/** A guest that stood still when it was saved. */
export interface V86Snapshot {
  readonly format: 'evtchn-v86'
  readonly memoryMiB: number
  readonly perVcpuVector: boolean
  /** State of the emulator, RAM included: `save_state` of v86. */
  readonly emulator: Uint8Array
  /** Event channels: `saveDomain` in transparent mode, without RAM. */
  readonly domain: SavedTransparent
  /** Connection, watches, transactions and nodes of the guest: `saveState` of the store. */
  readonly store: Uint8Array
  /** HVM parameters that are set, as decimal text. */
  readonly hvmParams: Readonly<Partial<Record<HvmParamName, string>>>
}

const NAMES = (Object.keys(HVM_PARAMS) as HvmParamName[]).filter((name) => name !== 'CALLBACK_IRQ')

/** The parameters of a domain, but for the callback, which the saved domain has. */
export const saveParams = (domain: Domain): V86Snapshot['hvmParams'] =>
  Object.fromEntries(
    NAMES.flatMap((name) => {
      const value = domain.hvmParam(name)
      return value ? [[name, String(value)]] : []
    }),
  )

/** Sets them again. */
export function restoreParams(xen: Hypervisor, domain: Domain, params: V86Snapshot['hvmParams']): void {
  for (const name of NAMES) {
    const value = params[name]
    if (value !== undefined) xen.setHvmParam(domain, name, BigInt(value))
  }
}
