/** Habits of oxenstored 4.17, each of which our daemon can take on; as a whole that daemon is not offered. */

import { C_4_17, DEFAULT_QUOTAS, FEATURE, type Profile, type Quotas } from '../../src/xenstore/index.js'

export const OCAML_4_17: Profile = {
  ...C_4_17,
  overLong: 'E2BIG',
  childOrder: 'alphabetical',
  watchOrder: 'newest',
  removalOrder: 'top',
  unknownTransaction: 'EIO',
  newNodeOwner: 'inherited',
  giveAway: 'EACCES',
  nodeTooLarge: 'E2BIG',
  nodeSizeForAll: true,
  tooManyWatches: 'EQUOTA',
  slack: { nodes: 0, watches: 1, transactions: 1 },
  releaseDomain0: 'ENOENT',
  releaseUnknown: 'EINVAL',
  introduceOnce: true,
  directoryPart: false,
  helpForAll: true,
  readSpecial: 'ENOENT',
  features: FEATURE.reconnection,
}

/** Its limits where they are others. */
export const OCAML_QUOTAS: Quotas = { ...DEFAULT_QUOTAS, watches: 100, pathMax: 1024 }
