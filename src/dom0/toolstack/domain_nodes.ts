/** A domain's nodes in the store before it has devices: two transactions and INTRODUCE (XW-tool-2, XW-tool-3). */

import type { Task } from '../kernel/index.js'
import { type DomainConfig, uuidOf } from './config.js'
import type { ToolstackContext } from './context.js'

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

/** Transaction 1 (XW-tool-2). */
export function* makeDomain(
  { xs, mtwatch }: ToolstackContext,
  domid: number,
  { name, uuid = uuidOf(name) }: DomainConfig,
): Task {
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
export function* buildDomain(
  { xs, control }: ToolstackContext,
  domid: number,
  { memoryMiB = 256, vcpus = 1 }: DomainConfig,
): Task {
  const { storeGfn, storePort } = control.build(domid, memoryMiB, vcpus)
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
