/** pvcalls-back: socket calls executed for guests, its two policies, and what frontends and networks need of it. */

export { ActiveSocket, type SocketChannel, type SocketWorker, type Turn } from './active_socket.js'
export { BoundedPolicy } from './bounded_policy.js'
export { PvcallsConnection } from './connection.js'
export { IoWorker, type WorkerCpu } from './io_worker.js'
export { LocalNetwork, LocalSocket } from './local_network.js'
export { MappedDataRing } from './mapping.js'
export type { NetListener, NetSocket, Network } from './network.js'
export type { PvcallsOptions } from './options.js'
export { PassiveSocket } from './passive_socket.js'
export { PerSocketPolicy } from './per_socket_policy.js'
export {
  IO_POLICIES,
  type IoPolicy,
  type IoPolicyName,
  type IoPolicyOptions,
  MAX_IOWORKERS,
  PLACEMENTS,
  type Placement,
} from './policy.js'
export { PvcallsBack } from './pvcalls_back.js'
export type { SocketTable } from './socket_table.js'
export { type IoCounters, IoStats } from './stats.js'
