/** What the operations of a toolstack share: its process, its handle to the store, its errors. */

import { options as checkOptions, flag, func, having, instance, type Table } from '../../check.js'
import type { ClientTransport } from '../../xenstore/index.js'
import { calloutsOf, Kernel, type Task } from '../kernel/index.js'
import type { DeviceKind } from './config.js'
import type { DomainControl } from './domains.js'
import { type LibxlError, type LibxlFunction, libxlError } from './messages.js'
import { XsHandle } from './xs.js'

const SECOND = 1e9
/** How long libxl waits (XW-tool-1). */
export const TIMEOUTS = { backendNs: 10 * SECOND, hotplugNs: 40 * SECOND } as const

/** A hotplug script. False: it failed. */
export type HotplugScript = (xs: XsHandle, action: 'add' | 'remove', kind: DeviceKind, backend: string) => Task<boolean>

/** Options of a toolstack. */
export interface ToolstackOptions {
  readonly kernel: Kernel
  readonly transport: ClientTransport
  /**
   * Opens a connection of its own for a hotplug script, which is a process: what it leaves behind, a transaction or a watch,
   * goes when it ends or is killed. Default: scripts share the toolstack's.
   */
  readonly connect?: () => ClientTransport
  readonly control: DomainControl
  /** Writes the `mtwatch` node first and removes it last: the toolstack's half of the RFC (XW-rfc-3). Default false. */
  readonly mtwatch?: boolean
  /** Default: one that takes a twentieth of a second and succeeds. */
  readonly hotplug?: HotplugScript | undefined
  readonly onError?: (error: LibxlError) => void
}

const OPTIONS: Table<ToolstackOptions> = {
  kernel: instance(Kernel, 'a Kernel'),
  transport: having('send', 'listen'),
  connect: func,
  control: having('create', 'info', 'destroy'),
  mtwatch: flag,
  hotplug: func,
  onError: func,
}

/** How long a script takes. */
const SCRIPT_NS = 50e6

/** libxl's context. */
export class ToolstackContext {
  readonly kernel: Kernel
  readonly xs: XsHandle
  readonly control: DomainControl
  readonly mtwatch: boolean
  readonly #errors: LibxlError[] = []
  readonly #options: ToolstackOptions

  constructor(options: ToolstackOptions) {
    this.#options = checkOptions('Toolstack', options, OPTIONS)
    this.kernel = options.kernel
    this.control = options.control
    this.mtwatch = options.mtwatch ?? false
    this.xs = new XsHandle(options.kernel, options.transport)
  }

  /** All errors so far, in order. */
  get errors(): readonly LibxlError[] {
    return [...this.#errors]
  }

  get nowNs(): number {
    return this.kernel.scheduler.nowNs
  }

  /** Reports an error, into the list of the operation as well. */
  error(errors: LibxlError[], fn: LibxlFunction, domid: number, text: string): void {
    const error = libxlError(this.nowNs, fn, domid, text)
    errors.push(error)
    this.#errors.push(error)
    calloutsOf(this.kernel.scheduler).run('onError of the toolstack', undefined, () => this.#options.onError?.(error))
  }

  /** Runs things at the same time and waits for all. */
  *parallel(tasks: readonly Task[]): Task {
    const threads = tasks.map((task) => this.kernel.process('xl', () => task))
    for (const thread of threads) yield* this.kernel.join(thread)
  }

  /** A connection for one process; undefined: it shares the toolstack's. */
  #connect(): XsHandle | undefined {
    const { connect } = this.#options
    if (!connect) return undefined
    const { kernel } = this
    const open = () => new XsHandle(kernel, connect())
    return calloutsOf(kernel.scheduler).run<XsHandle | undefined>('connect of the toolstack', undefined, open)
  }

  /** Runs a hotplug script, as a process of its own; one that takes too long is killed. */
  *script(action: 'add' | 'remove', kind: DeviceKind, backend: string): Task<boolean> {
    // libxl knows no script for it.
    if (kind === 'pvcalls') return true
    const { kernel } = this
    const own = this.#connect()
    const xs = own ?? this.xs
    const script = this.#options.hotplug ?? ((...args) => defaultScript(kernel, ...args))
    let ok = false
    let ended = false
    const finished = kernel.waitQueue()
    const thread = kernel.process(kind === 'vbd' ? 'block' : 'vif-bridge', function* () {
      // A script that throws is one that failed.
      try {
        ok = yield* script(xs, action, kind, backend)
      } catch (error) {
        calloutsOf(kernel.scheduler).report(error, `the hotplug script for ${backend}`)
      } finally {
        ended = true
        finished.wakeAll()
      }
    })
    yield* finished.until(() => ended, { state: 'S', what: `the script for ${backend}`, timeoutNs: TIMEOUTS.hotplugNs })
    if (!ended) kernel.scheduler.kill(thread)
    // A process that is gone has no connection: the store ends its transactions and watches.
    own?.close()
    return ok
  }
}

function* defaultScript(kernel: Kernel, ...args: Parameters<HotplugScript>): Task<boolean> {
  yield* kernel.sleep(SCRIPT_NS)
  return yield* runHotplug(...args)
}

/** What a script does: for a disk it tells the device's number, for an interface that it is on its bridge. */
function* runHotplug(xs: XsHandle, action: 'add' | 'remove', kind: DeviceKind, backend: string): Task<boolean> {
  if (action === 'remove') return true
  if (kind === 'vbd') yield* xs.write(`${backend}/physical-device`, 'fd:0')
  yield* xs.write(`${backend}/hotplug-status`, 'connected')
  return true
}
