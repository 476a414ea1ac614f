/** What the workers of a policy did: the figures by which two policies are compared. */

import { type ActiveSocket, serviceOf, type Turn } from './active_socket.js'

/** The counters as they were when they were asked for, all since the start. */
export interface IoCounters {
  /** Workers that were made. */
  readonly workersMade: number
  /** Most workers at a time. */
  readonly workersPeak: number
  /** Wake-ups of sockets that turns have handled: by the network, by the event channel, or by itself for more. */
  readonly wakeups: number
  /** Times that a worker's thread was woken from its sleep. */
  readonly workerWakeups: number
  /** Turns of sockets. */
  readonly turns: number
  /** Turns that found nothing to do. */
  readonly spurious: number
  /** Steps that copied bytes. */
  readonly copies: number
  /** Those on the CPU of the same socket's copy before: its cache lines are there (PV-4). A socket's first is none. */
  readonly copiesOnOwnCpu: number
  /** Those on another CPU. */
  readonly copiesElsewhere: number
  /** Bytes from the network to guests. */
  readonly bytesIn: number
  /** Bytes from guests to the network. */
  readonly bytesOut: number
  /** Sockets that went to another worker because a CPU went offline. */
  readonly moves: number
}

/** Counters of a policy at work. */
export class IoStats implements IoCounters {
  workersMade = 0
  workersPeak = 0
  wakeups = 0
  workerWakeups = 0
  turns = 0
  spurious = 0
  copies = 0
  copiesOnOwnCpu = 0
  copiesElsewhere = 0
  bytesIn = 0
  bytesOut = 0
  moves = 0

  /** A copy. */
  get counters(): IoCounters {
    return Object.freeze({ ...this })
  }

  /** Takes down a turn on a CPU. */
  turn(socket: ActiveSocket, { bytesIn, bytesOut }: Turn, cpu: number): void {
    this.turns++
    this.bytesIn += bytesIn
    this.bytesOut += bytesOut
    const copies = (bytesIn ? 1 : 0) + (bytesOut ? 1 : 0)
    if (!copies) {
      this.spurious++
      return
    }
    this.copies += copies
    const service = serviceOf(socket)
    if (service.lastCpu >= 0) {
      if (service.lastCpu === cpu) this.copiesOnOwnCpu += copies
      else this.copiesElsewhere += copies
    }
    service.lastCpu = cpu
  }

  /** A worker was made; `now` is how many there are. */
  made(now: number): void {
    this.workersMade++
    this.workersPeak = Math.max(this.workersPeak, now)
  }
}
