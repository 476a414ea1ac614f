/** The toolstack: domains as libxl creates and destroys them, with its time-outs and its words. */

export {
  bareSpec,
  type DeviceKind,
  type DeviceSpec,
  type DiskConfig,
  type DomainConfig,
  diskSpec,
  guestConfig,
  type NicConfig,
  nicSpec,
  pvcallsSpec,
} from './config.js'
export type { HotplugScript, ToolstackOptions } from './context.js'
export type { DomainControl, DomainInfo } from './domains.js'
export type { LibxlError } from './messages.js'
export { type Outcome, Toolstack } from './toolstack.js'
export { XsHandle } from './xs.js'
