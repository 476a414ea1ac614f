/** The guest's side: a driver that boots, binds, scans and resumes, knowing the hypervisor only by its hypercalls. */

export type { VcpuReport } from './bindings.js'
export type { WantedLevels } from './choose.js'
export type { Attempt, ChannelForm, OwnForm, Registrar, Unmasked } from './form.js'
export { FrameAllocator } from './frames.js'
export { GuestGrants } from './grants.js'
export { GuestKernel } from './kernel.js'
export type { ResumeReport } from './lifecycle.js'
export {
  type BindOptions,
  BOOT_OPTION_NAMES,
  type BootOptions,
  checkLevels,
  type EventHandler,
  type HandlerOrOptions,
} from './options.js'
export { GuestHypercalls, type GuestPlatform, type PortOp } from './platform.js'
export { usableChannels } from './prospects.js'
export type { SelectorFrames } from './selectors.js'
export type { SharedGuest } from './share.js'
export { type TreeFrames, treeForm } from './tree.js'
