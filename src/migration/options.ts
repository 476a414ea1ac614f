/** Options of a save, and of a restore: the terms of the new host. */

import type { DomainOptions } from '../host/options.js'
import type { SaveMode } from './format.js'
import type { Migration } from './handle.js'

/** Options of a save. */
export interface SaveOptions {
  /** Who makes the channels again. Default 'cooperative': the guest. */
  mode?: SaveMode
  /** False: the state has no RAM; the embedder carries it, as an emulator does. Default true. */
  ram?: boolean
}

/**
 * Options of a restore: the new host's terms, and what the caller grants the domain. A state by itself grants nothing: a
 * limit that is not given is that of the source that is replaced, or else that of a new domain. A state that names a lower
 * one gets the lower one.
 */
export interface RestoreOptions extends Partial<Omit<DomainOptions, 'frames' | 'vcpus' | 'type'>> {
  /** The frozen source that the restored domain replaces, on this host: its peers stay connected. */
  replaces?: Migration
  /**
   * 'keep': the given `memory` holds the guest's RAM already, and is left as it is. Default: it is filled from the state.
   */
  ram?: 'keep'
  /** Most frames that the state may have. Default: those of the source it replaces, the given `memory`, or 65536 (256 MiB). */
  maxFrames?: number
  /** Most vCPUs that the state may have. Default: those of the source that it replaces, or 128. */
  maxVcpus?: number
  /** PIRQs that it may bind. Default none, or those of the source that it replaces. */
  pirqs?: readonly number[]
  /** Global VIRQs whose handler domain it becomes. Default none, or those of the source that it replaces. */
  globalVirqs?: readonly number[]
}
