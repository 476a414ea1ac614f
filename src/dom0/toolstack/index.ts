/** The toolstack: domains as libxl creates and destroys them, with its time-outs and its words. */

export {
  type DeviceKind,
  type DeviceSpec,
  type DiskConfig,
  type DomainConfig,
  diskNumber,
  diskSpec,
  guestConfig,
  type NicConfig,
  nicSpec,
  pvcallsSpec,
  uuidOf,
} from './config.js'
export { type HotplugScript, runHotplug, TIMEOUTS, type ToolstackOptions } from './context.js'
export { DevicePaths } from './device.js'
export type { DomainControl, DomainInfo } from './domains.js'
export { type LibxlError, type LibxlFunction, libxlError } from './messages.js'
export { type Outcome, Toolstack } from './toolstack.js'
export { XsHandle } from './xs.js'
