/** What a backend is started with, and what it shares with its connections. */

import { among, between, func, having, type Table, within } from '../../../check.js'
import { MAX_RING_ORDER, PVCALLS_ERRNO } from '../../io/pvcalls_protocol.js'
import type { BackendHost } from '../host.js'
import type { Network } from './network.js'
import { IO_POLICIES, type IoPolicy, type IoPolicyOptions, PLACEMENTS } from './policy.js'

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

/** A check for each option. The host makes it before anything else. */
export const PVCALLS_OPTIONS: Table<PvcallsOptions> = {
  policy: among(...IO_POLICIES),
  maxIoworkers: within(1, Number.MAX_SAFE_INTEGER),
  idleNs: between(0, Number.MAX_VALUE),
  placement: among(...PLACEMENTS),
  choose: func,
  network: having('connect', 'bind'),
  maxPageOrder: within(1, MAX_RING_ORDER),
  maxSockets: within(1, Number.MAX_SAFE_INTEGER),
  unsupported: among<'EAFNOSUPPORT' | 'ENOTSUP'>('EAFNOSUPPORT', 'ENOTSUP'),
}

/** What connections share, with the defaults of options that were checked. */
export function sharedOf(
  host: BackendHost,
  network: Network,
  policy: IoPolicy,
  options: PvcallsOptions,
): PvcallsShared {
  const { maxPageOrder = MAX_RING_ORDER, maxSockets = MOST_SOCKETS, unsupported = 'EAFNOSUPPORT' } = options
  return { host, network, policy, maxPageOrder, maxSockets, unsupported: PVCALLS_ERRNO[unsupported] }
}
