/** What both ends of a device share: ring layouts and the pvcalls protocol, as data. Backends and frontends stand on it. */

export * from './console_ring.js'
export * from './pvcalls_command_ring.js'
export * from './pvcalls_data_ring.js'
export * from './pvcalls_protocol.js'
export { FrontRing } from './ring.js'
