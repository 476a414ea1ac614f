/** A device's three places in the store, and the transaction that makes them (XW-tool-5, XS-tree-2). */

import type { Task } from '../kernel/index.js'
import type { TransactionId } from '../xenbus/index.js'
import type { DeviceKind, DeviceSpec } from './config.js'
import type { XsHandle } from './xs.js'

/** Paths of a device whose backend is in domain 0. */
export class DevicePaths {
  readonly kind: DeviceKind
  readonly devid: number
  readonly frontend: string
  readonly backend: string
  readonly libxl: string

  constructor(domid: number, kind: DeviceKind, devid: number) {
    this.kind = kind
    this.devid = devid
    this.frontend = `/local/domain/${domid}/device/${kind}/${devid}`
    this.backend = `/local/domain/0/backend/${kind}/${domid}/${devid}`
    this.libxl = `/libxl/${domid}/device/${kind}/${devid}`
  }
}

/** Writes a device: the toolstack's node, the frontend's, the backend's, and the toolstack's copy. */
export function* deviceTransaction(xs: XsHandle, domid: number, spec: DeviceSpec, tx: TransactionId): Task {
  const { frontend, backend, libxl } = new DevicePaths(domid, spec.kind, spec.devid)
  // What is not there to be removed is no failure (XW-trace-1).
  yield* xs.rmIfExists(libxl, tx)
  yield* xs.write(`${libxl}/frontend`, frontend, tx)
  yield* xs.write(`${libxl}/backend`, backend, tx)

  yield* xs.rmIfExists(frontend, tx)
  yield* xs.mkdir(frontend, tx)
  yield* xs.setPermissions(frontend, [`n${domid}`, 'r0'], tx)
  yield* xs.write(`${frontend}/backend`, backend, tx)
  for (const [name, value] of spec.front) yield* xs.write(`${frontend}/${name}`, value, tx)

  yield* xs.rmIfExists(backend, tx)
  yield* xs.mkdir(backend, tx)
  yield* xs.setPermissions(backend, ['n0', `r${domid}`], tx)
  yield* xs.write(`${backend}/frontend`, frontend, tx)
  for (const [name, value] of spec.back) yield* xs.write(`${backend}/${name}`, value, tx)
  for (const [name, value] of spec.back) yield* xs.write(`${libxl}/${name}`, value, tx)
}
