/** Devices added and removed: write to the store, wait for the backend, run the script (XW-tool-5 to XW-tool-9). */

import type { Task } from '../kernel/index.js'
import type { DeviceKind, DeviceSpec } from './config.js'
import { TIMEOUTS, type ToolstackContext } from './context.js'
import { DevicePaths, deviceTransaction } from './device.js'
import type { LibxlError } from './messages.js'

const INIT_WAIT = 2
const CLOSING = 5
const CLOSED = 6

/** Waits until a backend's state is `wanted`; false if that takes too long. */
function* waitForState(context: ToolstackContext, backend: string, wanted: number): Task<boolean> {
  const { xs, kernel } = context
  const node = `${backend}/state`
  const deadline = context.nowNs + TIMEOUTS.backendNs
  const wait = kernel.waitQueue()
  let changed = true
  const end = yield* xs.watch(node, () => {
    changed = true
    wait.wakeAll()
  })
  let reached = false
  while (!reached && context.nowNs < deadline) {
    changed = false
    reached = (yield* xs.readIfExists(node)) === String(wanted)
    if (!reached)
      yield* wait.until(() => changed, { state: 'S', what: node, timeoutNs: Math.max(0, deadline - context.nowNs) })
  }
  yield* end()
  return reached
}

/** Adds devices together; false if one of them failed. */
export function* addDevices(
  context: ToolstackContext,
  domid: number,
  specs: readonly DeviceSpec[],
  errors: LibxlError[],
): Task<boolean> {
  const { xs } = context
  for (const spec of specs) yield* xs.transaction((tx) => deviceTransaction(xs, domid, spec, tx))
  let failed = 0
  const settle = function* ({ kind, devid }: DeviceSpec): Task {
    const { backend } = new DevicePaths(domid, kind, devid)
    if ((yield* waitForState(context, backend, INIT_WAIT)) && (yield* context.script('add', kind, backend))) return
    failed++
    context.error(errors, 'device_backend_callback', domid, `unable to add device with path ${backend}`)
  }
  yield* context.parallel(specs.map(settle))
  return failed === 0
}

/** The domain's devices, from the toolstack's own copy. */
export function* listDevices({ xs }: ToolstackContext, domid: number): Task<DevicePaths[]> {
  const root = `/libxl/${domid}/device`
  const found: DevicePaths[] = []
  for (const kind of yield* xs.directoryIfExists(root))
    for (const devid of yield* xs.directoryIfExists(`${root}/${kind}`))
      found.push(new DevicePaths(domid, kind as DeviceKind, Number(devid)))
  return found
}

/** Removes devices together; false if one of them did not go. */
export function* removeDevices(
  context: ToolstackContext,
  domid: number,
  devices: readonly DevicePaths[],
  forced: boolean,
  errors: LibxlError[],
): Task<boolean> {
  const waiting: { paths: DevicePaths; closed: boolean }[] = []
  for (const paths of devices) waiting.push({ paths, closed: yield* askToClose(context, paths, forced) })
  const again: DevicePaths[] = []
  let failed = 0
  const settle = function* ({ paths, closed }: { paths: DevicePaths; closed: boolean }): Task {
    if (closed || (yield* waitForState(context, paths.backend, CLOSED))) {
      yield* context.script('remove', paths.kind, paths.backend)
    } else if (forced) {
      failed++
      context.error(errors, 'device_backend_callback', domid, `unable to remove device with path ${paths.backend}`)
    } else {
      again.push(paths)
      return
    }
    yield* removePaths(context, paths)
  }
  yield* context.parallel(waiting.map(settle))
  // A detach that the guest does not follow is repeated by force (XW-tool-9).
  const second = again.length === 0 || (yield* removeDevices(context, domid, again, true, errors))
  return second && failed === 0
}

/** True if the backend is closed, or gone, already. */
function* askToClose({ xs }: ToolstackContext, paths: DevicePaths, forced: boolean): Task<boolean> {
  return yield* xs.transaction(function* (tx) {
    if (forced) yield* xs.pathCleanup(paths.frontend, tx)
    const state = yield* xs.readIfExists(`${paths.backend}/state`, tx)
    if (state === undefined) return true
    yield* xs.write(`${paths.backend}/online`, 0, tx)
    if (state === String(CLOSED)) return true
    yield* xs.write(`${paths.backend}/state`, CLOSING, tx)
    return false
  })
}

function* removePaths({ xs }: ToolstackContext, { frontend, libxl, backend }: DevicePaths): Task {
  yield* xs.transaction(function* (tx) {
    for (const path of [frontend, libxl, backend]) yield* xs.pathCleanup(path, tx)
  })
}
