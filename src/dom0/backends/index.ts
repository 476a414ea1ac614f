/** Backends of dom0, the devices below them, and the injector of stalls. */

export { Blkback, type BlkifInfo } from './blkback.js'
export { type GrantedBytes, GrantTable, type MapGrant, type MappedPage } from './grants.js'
export type { BackendHost, EventChannels } from './host.js'
export { STALL_KINDS, StallInjector, type StallKind } from './injector.js'
export { LowerDevices } from './lower.js'
export { Netback, type VifInfo, type VifStats } from './netback.js'
export * from './pvcalls/index.js'
