/**
 * The limits that a restored domain gets (NL-mig-9). They come from the caller, from the source that is replaced, or are
 * those of a new domain; what the state says of them can only lower them. Sizes that the state needs to have, frames and
 * vCPUs, are refused beyond what is granted, before anything is made of that size.
 */

import type { Domain } from '../domain/domain.js'
import { Errno } from '../errno.js'
import { DEFAULTS } from '../host/options.js'
import { RestoreError } from './fields.js'
import type { SavedCommon } from './format.js'
import type { RestoreOptions } from './options.js'

/** Frames and vCPUs of a state that nobody said more of: 256 MiB, and as many vCPUs as Xen gives an HVM guest. */
const MOST_FRAMES = 2 ** 16
const MOST_VCPUS = 128

/** Limits of a domain that is about to be restored. */
export interface Granted {
  readonly maxEvtchnPort: number
  readonly nrPirqs: number
}

/** @throws RestoreError ENOMEM for too many frames, ENOSPC for too many vCPUs */
export function granted(
  state: Pick<SavedCommon, 'frames' | 'vcpus' | 'maxEvtchnPort' | 'nrPirqs'>,
  domid: number,
  options: RestoreOptions,
  source: Domain | undefined,
): Granted {
  const { memory } = options
  const maxFrames = options.maxFrames ?? source?.memory.frames ?? (memory ? Infinity : MOST_FRAMES)
  const maxVcpus = options.maxVcpus ?? source?.vcpus.length ?? MOST_VCPUS
  if (state.frames > maxFrames)
    throw new RestoreError('frames', Errno.ENOMEM, `is ${state.frames}, and options.maxFrames is ${maxFrames}`)
  if (state.vcpus > maxVcpus)
    throw new RestoreError('vcpus', Errno.ENOSPC, `is ${state.vcpus}, and options.maxVcpus is ${maxVcpus}`)
  const { maxEvtchnPort = DEFAULTS.maxEvtchnPort(domid), nrPirqs = DEFAULTS.nrPirqs } = source
    ? { maxEvtchnPort: source.maxEvtchnPort, nrPirqs: source.pirqs.nrPirqs }
    : {}
  return {
    maxEvtchnPort: options.maxEvtchnPort ?? Math.min(state.maxEvtchnPort, maxEvtchnPort),
    nrPirqs: options.nrPirqs ?? Math.min(state.nrPirqs, nrPirqs),
  }
}
