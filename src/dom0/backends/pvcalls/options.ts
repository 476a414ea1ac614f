/** What a backend is started with, and what it shares with its connections. */

import { MAX_RING_ORDER, PVCALLS_ERRNO } from '../../io/pvcalls_protocol.js'
import type { BackendHost } from '../host.js'
import type { Network } from './network.js'
import type { IoPolicy, IoPolicyOptions } from './policy.js'

/** Start-up options of the backend. */
export interface PvcallsOptions extends IoPolicyOptions {
  /** Where sockets go. Default: a LocalNetwork of its own. */
  readonly network?: Network
  /** Greatest order of a data ring, 1 to 9. Default 9 (PV-51). */
  readonly maxPageOrder?: number
  /** Sockets that one guest may have. Default 16,384: ENFILE beyond, so that no guest fills domain 0. */
  readonly maxSockets?: number
  /** The error for a socket of another family, type or protocol: Linux' EAFNOSUPPORT, or the document's ENOTSUP (PV-43). */
  readonly unsupported?: 'EAFNOSUPPORT' | 'ENOTSUP'
}

/** What connections work with. */
export interface PvcallsShared {
  readonly host: BackendHost
  readonly network: Network
  readonly policy: IoPolicy
  readonly maxPageOrder: number
  readonly maxSockets: number
  /** A negative error. */
  readonly unsupported: number
}

const MOST_SOCKETS = 16384

/** Checks the options. @throws RangeError that names the option and what is allowed. */
export function sharedOf(
  host: BackendHost,
  network: Network,
  policy: IoPolicy,
  options: PvcallsOptions,
): PvcallsShared {
  const { maxPageOrder = MAX_RING_ORDER, maxSockets = MOST_SOCKETS, unsupported = 'EAFNOSUPPORT' } = options
  if (!Number.isInteger(maxPageOrder) || maxPageOrder < 1 || maxPageOrder > MAX_RING_ORDER)
    throw new RangeError(`pvcalls: maxPageOrder is ${maxPageOrder}; allowed: 1 to ${MAX_RING_ORDER}`)
  if (!Number.isInteger(maxSockets) || maxSockets < 1)
    throw new RangeError(`pvcalls: maxSockets is ${maxSockets}; allowed: a whole number of at least 1`)
  if (unsupported !== 'EAFNOSUPPORT' && unsupported !== 'ENOTSUP')
    throw new RangeError(`pvcalls: unsupported is ${JSON.stringify(unsupported)}; allowed: EAFNOSUPPORT, ENOTSUP`)
  return { host, network, policy, maxPageOrder, maxSockets, unsupported: PVCALLS_ERRNO[unsupported] }
}
