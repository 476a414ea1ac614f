/**
 * dom0's bus of backend devices (XW-be-1 to XW-be-6): devices come and go by what happens below `backend`.
 *
 *     be_watch ─▶ backend_changed ─┬─ node is there, device unknown ─▶ probe ─▶ driver ─▶ watch on <frontend>/state
 *                                  └─ node is gone ─▶ unregister every device at or below it
 *
 * Callbacks may run in several threads at once (XW-thr-4): what they share is changed between two sleeps only.
 */

import { calloutsOf, type Kernel, type Task } from '../kernel/index.js'
import { deviceRecord, XenbusDevice, type XenbusDriver } from './device.js'
import { parseState, XenbusState } from './state.js'
import { parseDomid, XenbusWatch, type XenbusWatchOptions } from './watch.js'
import type { Xenbus } from './xenbus.js'

/** A device's directory has this many components: `backend/vif/1/0`. */
const COMPONENTS = 4

/** The domain that a path below `backend` is about: its third component (XW-domid-1, XW-domid-7). */
export function backendPathDomid(path: string): number {
  return parseDomid(path.split('/')[2])
}

/** The bus. */
export class BackendBus {
  readonly xenbus: Xenbus
  readonly kernel: Kernel
  #goingDown = false
  readonly #drivers = new Map<string, XenbusDriver>()
  readonly #devices = new Map<string, XenbusDevice>()
  /** Names that are being probed: nobody else begins meanwhile. */
  readonly #probing = new Set<string>()
  readonly #watch: XenbusWatch

  constructor(xenbus: Xenbus) {
    this.xenbus = xenbus
    this.kernel = xenbus.kernel
    this.#watch = new XenbusWatch({
      node: 'backend',
      callback: (_watch, path) => this.kernel.call('backend_changed', this.#changed(path)),
      getDomid: (_watch, path) => backendPathDomid(path),
    })
  }

  /** Adds a driver. Before `start`. */
  addDriver(driver: XenbusDriver): void {
    this.#drivers.set(driver.type, driver)
  }

  /** The system goes down: frontends are not listened to any more (XW-be-4). */
  goDown(): void {
    this.#goingDown = true
  }

  /** Known devices, in the order in which they were found. */
  get devices(): readonly XenbusDevice[] {
    return [...this.#devices.values()]
  }

  /** A device by its directory. */
  device(nodename: string): XenbusDevice | undefined {
    return this.#devices.get(nodename)
  }

  /** Looks for devices that are there already, then watches. */
  *start(): Task {
    const { xenbus } = this
    for (const type of yield* xenbus.directoryIfExists('backend'))
      for (const domid of yield* xenbus.directoryIfExists(`backend/${type}`))
        for (const id of yield* xenbus.directoryIfExists(`backend/${type}/${domid}`))
          yield* this.#devChanged(`backend/${type}/${domid}/${id}`)
    yield* this.xenbus.register(this.#watch, 'domain')
  }

  // --- devices come --------------------------------------------------------------------------------------------------

  *#changed(path: string): Task {
    if (path.split('/').length > 2) yield* this.kernel.call('xenbus_dev_changed', this.#devChanged(path))
  }

  *#devChanged(path: string): Task {
    if (!(yield* this.xenbus.exists(path))) {
      for (const device of this.devices)
        if (device.nodename === path || device.nodename.startsWith(`${path}/`)) yield* this.unregister(device)
      return
    }
    const parts = path.split('/')
    const nodename = parts.slice(0, COMPONENTS).join('/')
    if (parts.length < COMPONENTS || this.#devices.has(nodename) || this.#probing.has(nodename)) return
    // Ignore a directory without an owner: no device is behind it.
    if (!backendPathDomid(nodename) || !this.#drivers.has(parts[1]!)) return
    this.#probing.add(nodename)
    try {
      yield* this.kernel.call('xenbus_probe_node', this.#probeNode(nodename))
    } finally {
      this.#probing.delete(nodename)
    }
  }

  *#probeNode(nodename: string): Task {
    const { xenbus } = this
    const state = parseState(yield* xenbus.readIfExists(`${nodename}/state`))
    if (state !== XenbusState.Initialising) return
    const frontendId = Number(yield* xenbus.readIfExists(`${nodename}/frontend-id`))
    const frontend = yield* xenbus.readIfExists(`${nodename}/frontend`)
    if (!frontend || !(yield* xenbus.exists(frontend))) return
    const [, type, , id] = nodename.split('/')
    const device = new XenbusDevice(nodename, `${type}-${frontendId}-${id}`, frontend, frontendId, state)
    const record = deviceRecord(device)
    record.reference = xenbus.delivery.get(frontendId)
    this.#devices.set(nodename, device)
    try {
      const driver = this.#drivers.get(type!)!
      record.driver = driver
      yield* this.kernel.call('xenbus_dev_probe', driver.probe(device))
      yield* this.#watchOtherend(device)
    } catch (error) {
      yield* this.#probeFailed(device, error as Error)
    }
  }

  /** It stays a device, but without driver, and does not keep its domain's thread (XW-acc-28). */
  *#probeFailed(device: XenbusDevice, error: Error): Task {
    deviceRecord(device).driver = undefined
    this.#putReference(device)
    yield* this.#writeError(device, `xenbus_dev_probe on ${device.nodename}: ${error.message}`)
    yield* this.switchState(device, XenbusState.Closed)
  }

  #putReference(device: XenbusDevice): void {
    const record = deviceRecord(device)
    if (record.reference) this.xenbus.delivery.put(record.reference)
    record.reference = undefined
  }

  *#writeError(device: XenbusDevice, text: string): Task {
    yield* this.xenbus.write(`error/${device.nodename}/error`, text)
  }

  // --- the other end -------------------------------------------------------------------------------------------------

  *#watchOtherend(device: XenbusDevice): Task {
    const watch = this.deviceWatch(device, {
      node: `${device.otherend}/state`,
      // It reads the state again: one queued event is enough, however often a guest writes (XW-base-12).
      willHandle: (each) => each.nrPending === 0,
      callback: (_watch, path) => this.#frontendChanged(device, path),
    })
    deviceRecord(device).otherendWatch = watch
    yield* this.xenbus.register(watch, 'domain')
  }

  /** A watch about a device, for the thread of its domain (XW-domid-2 to XW-domid-4, XW-domid-8). */
  deviceWatch(device: XenbusDevice, options: XenbusWatchOptions): XenbusWatch {
    const domid = () => device.otherendId
    return new XenbusWatch({ ...options, getDomid: domid, getOwner: domid })
  }

  *#frontendChanged(device: XenbusDevice, path: string): Task {
    const { kernel } = this
    const body = this.#otherendChanged(device, path)
    if (deviceRecord(device).driver?.busFrames === 'none') yield* body
    else yield* kernel.call('frontend_changed', kernel.call('xenbus_otherend_changed', body))
  }

  *#otherendChanged(device: XenbusDevice, path: string): Task {
    if (!path.startsWith(device.otherend)) return
    const state = parseState(yield* this.xenbus.readIfExists(`${device.otherend}/state`))
    const { driver, gone } = deviceRecord(device)
    if (this.#goingDown || gone || !driver) return
    yield* driver.otherendChanged(device, state)
  }

  // --- states --------------------------------------------------------------------------------------------------------

  /** xenbus_switch_state: only if the node is still there, so that a deleted device is not brought back (XW-be-5). */
  *switchState(device: XenbusDevice, state: number): Task {
    if (state === device.state) return
    yield* this.kernel.call('xenbus_switch_state', this.#writeState(device, state))
  }

  *#writeState(device: XenbusDevice, state: number): Task {
    const node = `${device.nodename}/state`
    const { xenbus } = this
    const written = yield* xenbus.transaction(function* (tx) {
      if ((yield* xenbus.readIfExists(node, tx)) === undefined) return false
      yield* xenbus.write(node, state, tx)
      return true
    })
    if (written) deviceRecord(device).state = state
  }

  /** Reports a fatal error of a device. */
  *fatal(device: XenbusDevice, text: string): Task {
    yield* this.#writeError(device, text)
    yield* this.switchState(device, XenbusState.Closing)
  }

  /** `online` is 1: the device stays when its frontend has closed. */
  *isOnline(device: XenbusDevice): Task<boolean> {
    return (yield* this.xenbus.readIfExists(`${device.nodename}/online`)) === '1'
  }

  // --- devices go ----------------------------------------------------------------------------------------------------

  /** device_unregister. Harmless for a device that is going already (XW-trace-7). */
  *unregister(device: XenbusDevice): Task {
    if (device.gone) return
    deviceRecord(device).gone = true
    const { kernel } = this
    let body = this.#devRemove(device)
    for (const frame of [
      'xenbus_dev_remove',
      '__device_release_driver',
      'device_release_driver',
      'bus_remove_device',
      'device_del',
      'device_unregister',
    ])
      body = kernel.call(frame, body)
    yield* body
    // Until now no device of this directory could be probed (XW-life-5).
    this.#devices.delete(device.nodename)
    this.#putReference(device)
  }

  *#devRemove(device: XenbusDevice): Task {
    const record = deviceRecord(device)
    if (record.otherendWatch) yield* this.xenbus.unregister(record.otherendWatch)
    record.otherendWatch = undefined
    try {
      if (record.driver) yield* record.driver.remove(device)
    } catch (error) {
      // It goes all the same: its name is free for the next.
      calloutsOf(this.kernel.scheduler).report(error, `remove of ${device.nodename}`)
    }
    yield* this.switchState(device, XenbusState.Closed)
  }
}
