/** SCHEDOP_poll on the poller's own thread: the struct, the marks, and the first look at the ports (EC-poll-1…9). */

import { Errno } from '../errno.js'
import { SLOW } from '../machine/host_layout.js'
import type { GuestMemory } from '../machine/memory.js'
import type { SharedDomain, SharedVcpu } from '../machine/thread_handle.js'
import type { ThreadInside } from './inside.js'

/** Several ports, or none: the poller looks at them itself when it is woken. */
const ANY_PORT = -1

/** struct sched_poll, and how to read its list. */
export interface AskedPoll {
  readonly nrPorts: number
  /** Absolute system time; 0 = no time-out. */
  readonly timeoutNs: bigint
  /** The i-th port, -1: EFAULT. */
  readonly port: (i: number) => number
}

/** The polls of one vCPU. */
export class Poll {
  readonly #thread: ThreadInside
  readonly #domain: SharedDomain
  readonly #vcpuId: number
  readonly #memory: GuestMemory

  constructor(thread: ThreadInside, domain: SharedDomain, { vcpuId }: SharedVcpu, memory: GuestMemory) {
    this.#thread = thread
    this.#domain = domain
    this.#vcpuId = vcpuId
    this.#memory = memory
  }

  /** The struct at a guest address, or why it cannot be polled for. */
  read(gva: number, mostPorts: number): AskedPoll | string {
    const wide = this.#domain.bits === 64
    const bytes = new Uint8Array(wide ? 24 : 16)
    if (!this.#memory.copyIn(this.#vcpuId, gva, bytes, bytes.length)) return 'struct sched_poll cannot be read'
    const view = new DataView(bytes.buffer)
    const ports = wide ? view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true) : view.getUint32(0, true)
    const nrPorts = view.getUint32(wide ? 8 : 4, true)
    const timeoutNs = view.getBigUint64(wide ? 16 : 8, true)
    if (nrPorts > mostPorts) return 'too many ports'
    if (!this.#memory.accessible(this.#vcpuId, ports, nrPorts * 4, false)) return 'the ports cannot be read'
    return { nrPorts, timeoutNs, port: (i) => this.#memory.readU32(this.#vcpuId, ports + 4 * i) }
  }

  /**
   * Marks the vCPU as polling and asleep, then looks (EC-poll-4): 'sleep' if nothing is there, 'awake' if something is, -errno
   * for a port that cannot be polled. The caller ends the poll unless it sleeps.
   */
  begin({ nrPorts, port }: AskedPoll, upcallDue: () => boolean): 'sleep' | 'awake' | number {
    const { calls, line } = this.#thread
    const { domid, generation, record } = this.#domain
    calls.startPoll(record, this.#vcpuId, ANY_PORT)
    if (upcallDue()) return 'awake'
    // Before the look at the port: a mark that comes after it would take back the wake-up of an event in between.
    const first = nrPorts === 1 ? port(0) : ANY_PORT
    if (first > 0) calls.startPoll(record, this.#vcpuId, first)
    for (let i = 0; i < nrPorts; i++) {
      const each = port(i)
      if (each < 0) return -Errno.EFAULT
      const bits = calls.threadBits(line, domid, generation, each)
      // An ABI that the core does not know: the guest looks again when it runs.
      if (bits === SLOW) return 'awake'
      if (bits < 0) return bits
      if (bits & 1) return 'awake'
    }
    return 'sleep'
  }
}
