/** What save_abi.ts asks of each ABI's part of a saved domain. */

import type { Bits } from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import type { World } from '../host/world.js'
import type { Fields } from './fields.js'

/** The host as a part sees it. `found` tells why the last check failed. */
export interface Target {
  readonly world: World
  found(): string
}

/** Sets a domain up that is not on the host yet. @throws RestoreError as the ABI's own operations would answer. */
export type Install = (to: Target, domain: Domain) => void

/** What a part needs to know of the domain. */
export interface AbiShape {
  readonly bits: Bits
  readonly vcpus: number
  readonly frames: number
}

/** How one ABI is saved and read back. */
export interface AbiPart<S extends { name: string }> {
  readonly name: S['name']
  /** Is this the ABI that the domain is on? */
  inForce(domain: Domain): boolean
  save(domain: Domain): Omit<S, 'name'>
  /** @throws SavedStateError */
  read(fields: Fields, shape: AbiShape): Install
}
