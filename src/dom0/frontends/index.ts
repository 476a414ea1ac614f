/** A guest's frontends, small: enough to connect to the backends and to keep them busy. */

export { Blkfront } from './blkfront.js'
export { type Frontend, FrontendBus, type FrontendDriver, type GrantedPage, type GuestHost } from './frontend_bus.js'
export { Netfront } from './netfront.js'
export * from './pvcalls/index.js'
