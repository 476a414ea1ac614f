/** What abi_parts.ts asks of each ABI's part of a saved domain. */

import type { Bits } from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import type { World } from '../host/world.js'
import type { Fields } from './fields.js'

/** Sets up a domain that is not on the host yet. @throws RestoreError where the ABI's own operation would refuse. */
export type Install = (world: World, domain: Domain) => void

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
