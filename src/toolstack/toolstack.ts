/**
 * Domains created and destroyed as libxl does it: what it writes to the store, in its order, how long it waits, and what
 * it says when that was in vain (XW-tool-1 to XW-tool-11). Each operation is a kernel function of a process, `xl`.
 */

import type { Kernel, Task } from '../kernel/index.js'
import type { ClientTransport } from '../xenstore/index.js'
import { type DeviceKind, type DeviceSpec, type DomainConfig, diskSpec, nicSpec, uuidOf } from './config.js'
import { DevicePaths, deviceTransaction } from './device.js'
import type { DomainControl } from './domains.js'
import { type LibxlError, type LibxlFunction, libxlError } from './messages.js'
import { XsHandle } from './xs.js'

const SECOND = 1e9
/** XW-tool-1. */
export const TIMEOUTS = { backendNs: 10 * SECOND, hotplugNs: 40 * SECOND } as const

/** A hotplug script. False: it failed. */
export type HotplugScript = (xs: XsHandle, action: 'add' | 'remove', kind: DeviceKind, backend: string) => Task<boolean>

/** Options of a toolstack. */
export interface ToolstackOptions {
  readonly kernel: Kernel
  readonly transport: ClientTransport
  readonly control: DomainControl
  /** Writes the `mtwatch` node first and removes it last: the toolstack's half of the RFC (XW-rfc-3). Default false. */
  readonly mtwatch?: boolean
  /** Default: one that takes a twentieth of a second and succeeds. */
  readonly hotplug?: HotplugScript
  readonly onError?: (error: LibxlError) => void
}

/** How an operation ended. */
export interface Outcome {
  readonly domid: number
  readonly ok: boolean
  /** How long it took, in ns. */
  readonly ns: number
  readonly errors: readonly LibxlError[]
}

/** What a device waits for. */
interface Waiting {
  readonly paths: DevicePaths
  readonly from: number
  ok: boolean | null
}

const SCRIPT_NS = 50e6

/** A toolstack. */
export class Toolstack {
  readonly xs: XsHandle
  readonly kernel: Kernel
  readonly errors: LibxlError[] = []
  readonly #options: ToolstackOptions
  readonly #control: DomainControl

  constructor(options: ToolstackOptions) {
    this.#options = options
    this.kernel = options.kernel
    this.#control = options.control
    this.xs = new XsHandle(options.kernel, options.transport)
  }

  #error(errors: LibxlError[], fn: LibxlFunction, domid: number, text: string): void {
    const error = libxlError(this.kernel.scheduler.nowNs, fn, domid, text)
    errors.push(error)
    this.errors.push(error)
    this.#options.onError?.(error)
  }

  // --- create --------------------------------------------------------------------------------------------------------

  /** `xl create`. A domain that cannot be created is destroyed again, twice over, as xl does. */
  *create(config: DomainConfig): Task<Outcome> {
    const from = this.kernel.scheduler.nowNs
    const errors: LibxlError[] = []
    const domid = this.#control.create()
    let ok = false
    yield* this.#makeDomain(domid, config)
    yield* this.#build(domid, config)
    if (yield* this.#attachAll(domid, config, errors)) {
      this.#control.unpause(domid)
      ok = true
    } else {
      yield* this.#destroy(domid, errors)
      // xl itself destroys what libxl could not create (XW-tool-11).
      yield* this.#destroyByXl(domid, errors)
    }
    return { domid, ok, ns: this.kernel.scheduler.nowNs - from, errors }
  }

  /** Transaction 1 (XW-tool-2). */
  *#makeDomain(domid: number, { name, uuid = uuidOf(name) }: DomainConfig): Task {
    const { xs } = this
    const { mtwatch } = this.#options
    const dom = `/local/domain/${domid}`
    const vm = `/vm/${uuid}`
    const libxl = `/libxl/${domid}`
    const readOnly = ['n0', `r${domid}`]
    const own = [`n${domid}`]
    yield* xs.transaction(function* (tx) {
      const node = function* (path: string, perms: readonly string[]): Task {
        yield* xs.write(path, '', tx)
        yield* xs.setPermissions(path, perms, tx)
      }
      const remake = function* (path: string, perms: readonly string[]): Task {
        yield* xs.rmIfExists(path, tx)
        yield* node(path, perms)
      }
      if (mtwatch) yield* remake(`/local/domain/0/mtwatch/${domid}`, ['n0'])
      yield* remake(dom, readOnly)
      yield* remake(vm, readOnly)
      yield* remake(libxl, ['n0'])
      yield* remake(`${libxl}/device`, ['n0'])
      yield* xs.write(`${dom}/vm`, vm, tx)
      yield* xs.write(`${dom}/name`, name, tx)
      for (const child of ['cpu', 'memory', 'device', 'control']) yield* node(`${dom}/${child}`, readOnly)
      for (const child of OWN_NODES) yield* node(`${dom}/${child}`, own)
      yield* xs.write(`${vm}/uuid`, uuid, tx)
      yield* xs.write(`${vm}/name`, name, tx)
      for (const feature of ['multiprocessor-suspend', 'xs_reset_watches'])
        yield* xs.write(`${dom}/control/platform-feature-${feature}`, 1, tx)
      yield* xs.write(`${libxl}/type`, 'pv', tx)
    })
  }

  /** Transaction 2 and INTRODUCE (XW-tool-3). */
  *#build(domid: number, { memoryMiB = 256, vcpus = 1 }: DomainConfig): Task {
    const { xs } = this
    const { storeGfn, storePort } = this.#control.build(domid, memoryMiB, vcpus)
    const dom = `/local/domain/${domid}`
    yield* xs.transaction(function* (tx) {
      yield* xs.write(`${dom}/memory/static-max`, memoryMiB * 1024, tx)
      yield* xs.write(`${dom}/memory/target`, memoryMiB * 1024, tx)
      yield* xs.write(`${dom}/memory/videoram`, 0, tx)
      yield* xs.write(`${dom}/domid`, domid, tx)
      yield* xs.write(`${dom}/store/port`, storePort, tx)
      yield* xs.write(`${dom}/store/ring-ref`, storeGfn, tx)
      for (let cpu = 0; cpu < vcpus; cpu++) yield* xs.write(`${dom}/cpu/${cpu}/availability`, 'online', tx)
    })
    yield* xs.introduce(domid, storeGfn, storePort)
  }

  /** Disks together, then the other kinds one after the other (XW-tool-4). */
  *#attachAll(domid: number, { disks = [], nics = [] }: DomainConfig, errors: LibxlError[]): Task<boolean> {
    const added = yield* this.#add(
      domid,
      disks.map((disk) => diskSpec(domid, disk)),
      errors,
    )
    if (!added) {
      this.#error(errors, 'domcreate_launch_dm', domid, 'unable to add disk devices')
      return false
    }
    const connected = yield* this.#add(
      domid,
      nics.map((nic, i) => nicSpec(domid, i, nic)),
      errors,
    )
    if (!connected) this.#error(errors, 'domcreate_attach_devices', domid, 'unable to add nic devices')
    return connected
  }

  /** Adds devices together; false if one failed. For a domain that runs already this is `xl block-attach` and the like. */
  *#add(domid: number, specs: readonly DeviceSpec[], errors: LibxlError[]): Task<boolean> {
    const { xs } = this
    const waiting: Waiting[] = []
    for (const spec of specs) {
      yield* xs.transaction((tx) => deviceTransaction(xs, domid, spec, tx))
      const paths = new DevicePaths(domid, spec.kind, spec.devid)
      waiting.push({ paths, from: this.kernel.scheduler.nowNs, ok: null })
    }
    yield* this.#waitForState(waiting, INIT_WAIT)
    for (const each of waiting) {
      const ok = each.ok === true && (yield* this.#script('add', each.paths))
      each.ok = ok
      if (!ok)
        this.#error(errors, 'device_backend_callback', domid, `unable to add device with path ${each.paths.backend}`)
    }
    return waiting.every(({ ok }) => ok)
  }

  /** Attaches a disk or an interface to a domain that runs. */
  *attach(domid: number, spec: DeviceSpec): Task<Outcome> {
    const from = this.kernel.scheduler.nowNs
    const errors: LibxlError[] = []
    const ok = yield* this.#add(domid, [spec], errors)
    return { domid, ok, ns: this.kernel.scheduler.nowNs - from, errors }
  }

  *#script(action: 'add' | 'remove', { kind, backend }: DevicePaths): Task<boolean> {
    if (this.#options.hotplug) return yield* this.#options.hotplug(this.xs, action, kind, backend)
    yield* this.kernel.sleep(SCRIPT_NS)
    return yield* runHotplug(this.xs, action, kind, backend)
  }

  // --- waiting -------------------------------------------------------------------------------------------------------

  /** Watches backend states until each is as wanted or its time is over (XW-tool-7, XW-tool-8). */
  *#waitForState(waiting: readonly Waiting[], wanted: number): Task {
    const { xs, kernel } = this
    const events = kernel.waitQueue()
    const changed = new Set<Waiting>()
    const ends: (() => Task)[] = []
    for (const each of waiting) {
      if (each.ok !== null) continue
      const end = yield* xs.watch(`${each.paths.backend}/state`, () => {
        changed.add(each)
        events.wakeAll()
      })
      ends.push(end)
    }
    for (;;) {
      for (const each of changed) {
        changed.delete(each)
        const state = yield* xs.readIfExists(`${each.paths.backend}/state`)
        if (each.ok === null && state === String(wanted)) each.ok = true
      }
      const open = waiting.filter(({ ok }) => ok === null)
      if (!open.length) break
      if (changed.size) continue
      const left = Math.min(...open.map(({ from }) => from)) + TIMEOUTS.backendNs - kernel.scheduler.nowNs
      if (left > 0 && (yield* events.until(() => changed.size > 0, { state: 'S', what: 'backends', timeoutNs: left })))
        continue
      for (const each of open) if (each.from + TIMEOUTS.backendNs <= kernel.scheduler.nowNs) each.ok = false
    }
    for (const end of ends) yield* end()
  }

  // --- destroy -------------------------------------------------------------------------------------------------------

  /** `xl destroy`. */
  *destroy(domid: number): Task<Outcome> {
    const from = this.kernel.scheduler.nowNs
    const errors: LibxlError[] = []
    const ok = yield* this.#destroyByXl(domid, errors)
    return { domid, ok, ns: this.kernel.scheduler.nowNs - from, errors }
  }

  /** True if nothing was left in the way. */
  *#destroyByXl(domid: number, errors: LibxlError[]): Task<boolean> {
    if (this.#control.info(domid) && (yield* this.#known(domid))) return yield* this.#destroy(domid, errors)
    this.#error(errors, 'libxl__destroy_domid', domid, 'Non-existant domain')
    this.#error(errors, 'domain_destroy_callback', domid, 'Unable to destroy guest')
    this.#error(errors, 'domain_destroy_cb', domid, 'Destruction of domain failed')
    return false
  }

  /** A domain that dies already cannot be destroyed again. */
  *#known(domid: number): Task<boolean> {
    return !this.#control.info(domid)!.dying || (yield* this.xs.exists(`/libxl/${domid}`))
  }

  /** XW-tool-8 to XW-tool-10. */
  *#destroy(domid: number, errors: LibxlError[]): Task<boolean> {
    const { xs } = this
    this.#control.pause(domid)
    const removed = yield* this.#removeAll(domid, yield* this.#devices(domid), true, errors)
    if (!removed) this.#error(errors, 'devices_destroy_cb', domid, 'libxl__devices_destroy failed')
    const vm = yield* xs.readIfExists(`/local/domain/${domid}/vm`)
    if (vm) yield* xs.rmIfExists(vm)
    yield* xs.rmIfExists(`/local/domain/${domid}`)
    yield* xs.rmIfExists(`/libxl/${domid}`)
    if (this.#options.mtwatch) yield* xs.transaction((tx) => xs.pathCleanup(`/local/domain/0/mtwatch/${domid}`, tx))
    this.#control.destroy(domid)
    return removed
  }

  /** The domain's devices, from the toolstack's own copy. */
  *#devices(domid: number): Task<DevicePaths[]> {
    const { xs } = this
    const root = `/libxl/${domid}/device`
    const found: DevicePaths[] = []
    if (!(yield* xs.exists(root))) return found
    for (const kind of yield* xs.directory(root))
      for (const devid of yield* xs.directory(`${root}/${kind}`))
        found.push(new DevicePaths(domid, kind as DeviceKind, Number(devid)))
    return found
  }

  /** Removes devices together; false if one of them did not go. */
  *#removeAll(domid: number, devices: readonly DevicePaths[], forced: boolean, errors: LibxlError[]): Task<boolean> {
    const waiting: Waiting[] = []
    for (const paths of devices) {
      const closed = yield* this.#askToClose(paths, forced)
      waiting.push({ paths, from: this.kernel.scheduler.nowNs, ok: closed ? true : null })
    }
    yield* this.#waitForState(waiting, CLOSED)
    const again = forced ? [] : waiting.filter(({ ok }) => !ok).map(({ paths }) => paths)
    for (const { paths, ok } of waiting) {
      if (again.includes(paths)) continue
      if (ok) yield* this.#script('remove', paths)
      else this.#error(errors, 'device_backend_callback', domid, `unable to remove device with path ${paths.backend}`)
      yield* this.#removePaths(paths)
    }
    // A detach that the guest does not follow is repeated by force (XW-tool-9).
    const second = again.length === 0 || (yield* this.#removeAll(domid, again, true, errors))
    return second && waiting.every(({ paths, ok }) => ok || again.includes(paths))
  }

  /** True if the backend is closed, or gone, already. */
  *#askToClose(paths: DevicePaths, forced: boolean): Task<boolean> {
    const { xs } = this
    return yield* xs.transaction(function* (tx) {
      if (forced) yield* xs.pathCleanup(paths.frontend, tx)
      const state = yield* xs.readIfExists(`${paths.backend}/state`, tx)
      if (state === null) return true
      yield* xs.write(`${paths.backend}/online`, 0, tx)
      if (state === String(CLOSED)) return true
      yield* xs.write(`${paths.backend}/state`, CLOSING, tx)
      return false
    })
  }

  *#removePaths({ frontend, libxl, backend }: DevicePaths): Task {
    const { xs } = this
    yield* xs.transaction(function* (tx) {
      for (const path of [frontend, libxl, backend]) yield* xs.pathCleanup(path, tx)
    })
  }

  /** `xl network-detach` and the like: asks first, then takes. */
  *detach(domid: number, kind: DeviceKind, devid: number): Task<Outcome> {
    const from = this.kernel.scheduler.nowNs
    const errors: LibxlError[] = []
    const ok = yield* this.#removeAll(domid, [new DevicePaths(domid, kind, devid)], false, errors)
    return { domid, ok, ns: this.kernel.scheduler.nowNs - from, errors }
  }

  // --- list ----------------------------------------------------------------------------------------------------------

  /**
   * `xl list`: the hypervisor's domains, with the names that the store has. The state: running, blocked, paused, shut
   * down, crashed, dying.
   */
  *list(): Task<string[]> {
    const lines = [row('Name', 'ID', 'Mem', 'VCPUs', 'State')]
    for (const info of this.#control.list()) {
      const { domid, memoryMiB, vcpus, running, blocked, paused, shutdown, dying } = info
      const name = (yield* this.xs.readIfExists(`/local/domain/${domid}/name`)) ?? '(null)'
      const flags = [running && 'r', blocked && 'b', paused && 'p', shutdown && 's', false, dying && 'd']
      const state = flags.map((flag) => flag || '-').join('')
      lines.push(row(domid ? name : 'Domain-0', String(domid), String(memoryMiB), String(vcpus), state))
    }
    return lines
  }
}

const INIT_WAIT = 2
const CLOSING = 5
const CLOSED = 6

/** Nodes that the guest owns. */
const OWN_NODES = [
  'control/shutdown',
  'control/feature-poweroff',
  'control/feature-reboot',
  'control/feature-suspend',
  'device/suspend/event-channel',
  'data',
  'drivers',
  'feature',
  'attr',
]

const row = (name: string, id: string, memory: string, vcpus: string, state: string): string =>
  `${name.padEnd(40)} ${id.padStart(5)} ${memory.padStart(5)} ${vcpus.padStart(5)}     ${state}`

/** The script: for a disk the device's number, for an interface that it is on its bridge. */
export function* runHotplug(xs: XsHandle, action: 'add' | 'remove', kind: DeviceKind, backend: string): Task<boolean> {
  if (action === 'remove') return true
  if (kind === 'vbd') yield* xs.write(`${backend}/physical-device`, 'fd:0')
  yield* xs.write(`${backend}/hotplug-status`, 'connected')
  return true
}
