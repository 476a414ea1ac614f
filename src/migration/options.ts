/** Options of a restore: the terms of the new host. */

import type { DomainOptions } from '../host/options.js'
import type { Migration } from './handle.js'

/** Options of a restore: the new host's terms, and what the caller grants the domain. A state by itself grants nothing. */
export interface RestoreOptions extends Partial<Omit<DomainOptions, 'frames' | 'vcpus' | 'type'>> {
  /** The frozen source that the restored domain replaces, on this host: its peers stay connected. */
  replaces?: Migration
  /** PIRQs that it may bind. Default none, or those of the source that it replaces. */
  pirqs?: readonly number[]
  /** Global VIRQs whose handler domain it becomes. Default none, or those of the source that it replaces. */
  globalVirqs?: readonly number[]
}
