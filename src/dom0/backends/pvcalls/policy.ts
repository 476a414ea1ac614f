/**
 * Which worker serves which socket: two policies behind one interface, indistinguishable to guests (PV-30).
 *
 *     bounded      min(MAX_IOWORKERS, online CPUs) workers, each bound to a CPU, sockets spread evenly (PV-1 to PV-12)
 *     per-socket   a worker for each socket, bound to nothing (PV-20): what was merged into Linux
 */

import type { Kernel, Task } from '../../kernel/index.js'
import type { ActiveSocket } from './active_socket.js'
import type { IoWorker } from './io_worker.js'
import type { IoCounters } from './stats.js'

/** Names of the policies. */
export const IO_POLICIES = ['bounded', 'per-socket'] as const
/** One of them. */
export type IoPolicyName = (typeof IO_POLICIES)[number]

/** Where an unbound worker is put when it wakes; see `PerSocketPolicy`. */
export const PLACEMENTS = ['spread', 'last'] as const
/** One of them. */
export type Placement = (typeof PLACEMENTS)[number]

/** Workers that a host has at most unless told otherwise (PV-1). */
export const MAX_IOWORKERS = 64

/** Options of a policy. */
export interface IoPolicyOptions {
  /** Default 'bounded'. */
  readonly policy?: IoPolicyName
  /** `bounded`: most workers, at least 1. Default MAX_IOWORKERS. */
  readonly maxIoworkers?: number
  /** `bounded`: how long a worker without sockets stays, in ns. Default 0: it ends at once (PV-7). */
  readonly idleNs?: number
  /** `per-socket`: where a worker runs that is bound to nothing. Default 'spread'. */
  readonly placement?: Placement
  /** `per-socket`: picks one of `n` CPUs that are as good as one another. Default: each in turn. */
  readonly choose?: (n: number) => number
}

/** A policy at work. */
export interface IoPolicy {
  readonly name: IoPolicyName
  /** What its workers did since the start, as it is now. */
  readonly stats: IoCounters
  /** Living workers. */
  readonly workers: readonly IoWorker[]
  /** Gives a socket that was just connected its worker. */
  add(socket: ActiveSocket): void
  /** Takes a released socket from its worker; returns when no worker will touch it any more (PV-27). */
  remove(socket: ActiveSocket): Task
}

/** What a policy needs to be made. */
export interface IoPolicyContext {
  readonly kernel: Kernel
  readonly options: IoPolicyOptions
}
