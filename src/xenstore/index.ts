/** XenStore: the daemon, its wire protocol, its ring, and a client. No I/O of its own: it runs wherever bytes can be brought. */

export {
  type ClientOptions,
  type ClientTransaction,
  type ClientTransport,
  type RequestOptions,
  StoreAccess,
  type TransactionRunOptions,
  type WatchOptions,
  XenStoreClient,
} from './client.js'
export { RING_ERROR, type Transport } from './connection.js'
export { type DomainHost, type DomainState, NO_HYPERVISOR } from './domains.js'
export { XenStoreError, type XsErrorName } from './errors.js'
export type { Connection } from './handles.js'
export { connectInProcess, InProcessTransport } from './in_process.js'
export { type DumpListingOptions, dumpListing, ListingError, type LoadListingOptions, loadListing } from './listing.js'
export type { XenStoredOptions } from './options.js'
export { formatPermission, type Permission, type Permissions, type PermLetter, parsePermission } from './perms.js'
export { C_4_17, C_4_23, FEATURE, type Profile } from './profile.js'
export { DEFAULT_QUOTAS, type Quotas } from './quota.js'
export { StoreStateError } from './records.js'
export {
  type EventChannelEnd,
  REQUESTS,
  RESPONSES,
  RING_SIZE,
  Ring,
  type RingPage,
  type RingPeer,
  type RingQueue,
} from './ring.js'
export { RingClientTransport } from './ring_client.js'
export { checkStore, XenStored } from './server.js'
export { type RestoreOptions, restoreState, type SaveOptions, saveState } from './state.js'
export type { AbortSignalLike, StoreWatch, WatchEvent } from './watcher.js'
export {
  encodePacket,
  encodeText,
  HEADER_SIZE,
  PAYLOAD_MAX,
  type Packet,
  PacketReader,
  splitStrings,
  typeName,
  XS,
  type XsTypeName,
} from './wire.js'
