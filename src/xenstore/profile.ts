/**
 * In what the xenstore daemons differ. The default is the C daemon of Xen 4.17.7 (section 12 of the rules: XS-ox-*). The
 * OCaml daemon is not offered as a whole, for its transactions replay and its reply precedes the events of a request; what
 * differs otherwise may be set habit by habit.
 */

import type { XsErrorName } from './errors.js'

/** One daemon's habits. */
export interface Profile {
  /** A header that announces more than 4096 bytes (XS-ox-1). */
  readonly overLong: 'close' | 'E2BIG'
  /** Order of a DIRECTORY reply (XS-ox-2). */
  readonly childOrder: 'creation' | 'alphabetical'
  /** Order among the watches of one connection (XS-ox-3). */
  readonly watchOrder: 'registration' | 'newest'
  /** Which comes first when a subtree is removed (XS-ox-4). */
  readonly removalOrder: 'descendants' | 'top'
  /** An unknown transaction id (XS-ox-7). */
  readonly unknownTransaction: XsErrorName
  /** Who owns what a guest creates (XS-ox-8). */
  readonly newNodeOwner: 'creator' | 'inherited'
  /** A guest names another owner (XS-ox-9). */
  readonly giveAway: XsErrorName
  /** A node grows too large, and whether domain 0 is limited too (XS-ox-10). */
  readonly nodeTooLarge: XsErrorName
  readonly nodeSizeForAll: boolean
  /** One watch too many (XS-ox-11). */
  readonly tooManyWatches: XsErrorName
  /** How many more than the limit succeed: the daemons compare before or after counting (XS-quota-5). */
  readonly slack: { readonly nodes: number; readonly watches: number; readonly transactions: number }
  /** The path limit holds for domain 0 too (XS-path-3). */
  readonly pathMaxForAll: boolean
  /** RELEASE and RESUME of domain 0, and of a domain that is not connected (XS-ox-13). */
  readonly releaseDomain0: XsErrorName
  readonly releaseUnknown: XsErrorName
  /** The first INTRODUCE's frame and port stand: another one is EINVAL (XS-dom-3). */
  readonly introduceOnce: boolean
  /** DIRECTORY_PART is known (XS-ox-14). */
  readonly directoryPart: boolean
  /** `CONTROL help` is open to guests too (XS-ox-15). */
  readonly helpForAll: boolean
  /** READ and the like of an `@` name (XS-ox-16). */
  readonly readSpecial: XsErrorName
  /** GET_PERMS of a special name is allowed (XS-path-4). */
  readonly specialPermsReadable: boolean
  /** `@releaseDomain` may be watched by every guest (XS-perm-8). */
  readonly releaseDomainOpen: boolean
  /** WATCH takes a third string, the depth (XS-watch-14). */
  readonly watchDepth: boolean
  /** Entries of a dead domain are deleted rather than listed without effect (XS-dom-8). */
  readonly deadEntriesDeleted: boolean
  /** Ring field `server_features` (XS-ring-7). */
  readonly features: number
}

/** Bits of `server_features`. */
export const FEATURE = { reconnection: 1, error: 2, watchDepth: 4, domidAny: 8 } as const

/** C xenstored of Xen 4.17.7. */
export const C_4_17: Profile = {
  overLong: 'close',
  childOrder: 'creation',
  watchOrder: 'registration',
  removalOrder: 'descendants',
  unknownTransaction: 'ENOENT',
  newNodeOwner: 'creator',
  giveAway: 'EPERM',
  nodeTooLarge: 'ENOSPC',
  nodeSizeForAll: false,
  tooManyWatches: 'E2BIG',
  slack: { nodes: 0, watches: 1, transactions: 1 },
  pathMaxForAll: true,
  releaseDomain0: 'EINVAL',
  releaseUnknown: 'ENOENT',
  introduceOnce: false,
  directoryPart: true,
  helpForAll: false,
  readSpecial: 'EINVAL',
  specialPermsReadable: false,
  releaseDomainOpen: false,
  watchDepth: false,
  deadEntriesDeleted: false,
  features: 0,
}

/** C xenstored of Xen's development tree towards 4.23; its quota and feature requests (XS-ox-18) are not built. */
export const C_4_23: Profile = {
  ...C_4_17,
  tooManyWatches: 'ENOSPC',
  slack: { nodes: -1, watches: -1, transactions: -1 },
  pathMaxForAll: false,
  specialPermsReadable: true,
  releaseDomainOpen: true,
  watchDepth: true,
  deadEntriesDeleted: true,
  features: FEATURE.error | FEATURE.watchDepth | FEATURE.domidAny,
}
