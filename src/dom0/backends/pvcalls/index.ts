/** pvcalls-back: socket calls executed for guests, its two policies, and what frontends and networks need of it. */

export { ActiveSocket, type SocketWorker, type Turn } from './active_socket.js'
export { BoundedPolicy } from './bounded_policy.js'
export type { PvcallsConnection } from './connection.js'
export type { IoWorker } from './io_worker.js'
export { LocalNetwork, LocalSocket } from './local_network.js'
export { MappedDataRing } from './mapping.js'
export type { NetListener, NetSocket, Network } from './network.js'
export { PVCALLS_OPTIONS, type PvcallsOptions } from './options.js'
export {
  IO_POLICIES,
  type IoPolicy,
  type IoPolicyName,
  type IoPolicyOptions,
  PLACEMENTS,
  type Placement,
} from './policy.js'
export { PvcallsBack } from './pvcalls_back.js'
export type { IoCounters } from './stats.js'
