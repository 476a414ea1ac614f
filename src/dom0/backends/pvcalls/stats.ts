/** What the workers of a policy did: the figures by which two policies are compared. */

import { type ActiveSocket, serviceOf, type Turn } from './active_socket.js'

/** The counters as they were when they were asked for. */
export type IoCounters = Readonly<Omit<IoStats, 'turn' | 'made' | 'counters'>>

/** Counters of a policy. All since the start. */
export class IoStats {
  /** Workers that were made. */
  workersMade = 0
  /** Most workers at a time. */
  workersPeak = 0
  /** Wake-ups of sockets that turns have handled: by the network, by the event channel, or by itself for more. */
  wakeups = 0
  /** Times that a worker's thread was woken from its sleep. */
  workerWakeups = 0
  /** Turns of sockets. */
  turns = 0
  /** Turns that found nothing to do. */
  spurious = 0
  /** Steps that copied bytes. */
  copies = 0
  /** Those on the CPU of the same socket's copy before: its cache lines are there (PV-4). A socket's first is none. */
  copiesOnOwnCpu = 0
  /** Those on another CPU. */
  copiesElsewhere = 0
  /** Bytes from the network to guests. */
  bytesIn = 0
  /** Bytes from guests to the network. */
  bytesOut = 0
  /** Sockets that went to another worker because a CPU went offline. */
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
