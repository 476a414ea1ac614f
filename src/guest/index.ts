/** The guest's side: a driver that boots, binds, scans and resumes, knowing the hypervisor only by its hypercalls. */
export { FrameAllocator } from './frames.js'
export {
  type BindOptions,
  type BootOptions,
  type EventHandler,
  GuestKernel,
  type ResumeReport,
} from './kernel.js'
export { GuestHypercalls, type GuestPlatform } from './platform.js'
export type { Attempt, WantedLevels } from './register.js'
