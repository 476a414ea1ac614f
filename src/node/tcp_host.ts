/** A host with one guest whose sockets are real: pvcalls-back over TCP on loopback, driven by Node's event loop. */

import { among, options as checkOptions, func, ParameterError, type Table, within } from '../check.js'
import { IO_POLICIES, type IoPolicyName } from '../dom0/backends/index.js'
import type { Pvcallsfront } from '../dom0/frontends/index.js'
import { Host } from '../dom0/index.js'
import type { Task, Thread } from '../dom0/kernel/index.js'
import { NodeLoop } from './node_loop.js'
import { TCP_OPTIONS, TcpNetwork, type TcpOptions } from './tcp_network.js'

/** Options of a host; those of its network as well. */
export interface TcpHostOptions extends Omit<TcpOptions, 'kick'> {
  /** Default 'bounded'. */
  readonly policy?: IoPolicyName
  /** RAM of the guest in frames of 4 KiB. Default 2048. */
  readonly frames?: number
  /** CPUs of dom0. Default 1. */
  readonly cpus?: number
}

const { kick: _, ...tcpRows } = TCP_OPTIONS

const OPTIONS: Table<TcpHostOptions> = {
  ...tcpRows,
  policy: among(...IO_POLICIES),
  frames: within(1, 2 ** 20),
  cpus: within(1, 128),
}

/** A host with one guest, among real sockets. */
export class TcpHost {
  readonly loop = new NodeLoop()
  readonly network: TcpNetwork
  readonly host: Host
  /** What `guest` returned, of programs that run. */
  readonly #programs = new Map<symbol, Promise<unknown>>()

  /** Creates the host and its guest, which runs and has its device when this returns. @throws ParameterError */
  constructor(options: TcpHostOptions = {}) {
    const { policy = 'bounded', frames = 2048, cpus = 1, ...tcp } = checkOptions('TcpHost', options, OPTIONS)
    this.network = new TcpNetwork({ ...tcp, kick: this.loop.kick })
    const guest = { frames, levels: 3, maxEvtchnPort: Infinity } as const
    // A thread that has failed may be what a caller waits for.
    const scheduler = { onOops: (_thread: Thread, error: unknown) => this.loop.fail(error) }
    this.host = new Host({ scheduler, dom0Cpus: cpus, guest, pvcalls: { network: this.network, policy } })
    const { ok, errors } = this.host.complete('xl', this.host.toolstack.create({ name: 'guest', pvcalls: true }))
    if (!ok) throw new Error(errors.map(({ line }) => line).join('\n'))
    this.host.pass(1)
    this.loop.start(this.host.scheduler)
  }

  /** The guest's sockets. */
  get front(): Pvcallsfront {
    return this.host.guest(1).pvcalls
  }

  /** Runs a program in the guest until it ends; rejects with what it threw, and if the host is closed first. */
  guest<T>(program: () => Task<T>): Promise<T> {
    const key = Symbol('program')
    const result = this.#run(program, key)
    this.#programs.set(key, result)
    return result
  }

  async #run<T>(program: () => Task<T>, key: symbol): Promise<T> {
    const task = (func('TcpHost.guest', 'program', program) as () => Task<T>)()
    if (typeof task?.[Symbol.iterator] !== 'function')
      throw new ParameterError('TcpHost.guest', 'program', program, 'a generator function: function* () { … }')
    let ended: { value: T } | { error: unknown } | undefined
    this.host.guest(1).kernel.process('program', function* () {
      try {
        ended = { value: yield* task }
      } catch (error) {
        ended = { error }
      }
    })
    await this.loop.until(() => ended !== undefined)
    this.#programs.delete(key)
    const end = ended! as { value: T } | { error: unknown }
    if ('error' in end) throw end.error
    return end.value
  }

  /**
   * Ends: nothing of the host runs any more, and the sockets that programs left open are closed on the network's side, so
   * that they do not keep the process alive.
   */
  close(): void {
    // Nobody waits for a server that runs until the host is closed: that it ends so is no fault of the process.
    for (const program of this.#programs.values()) program.catch(() => {})
    this.#programs.clear()
    this.loop.stop()
    this.network.close()
  }
}
