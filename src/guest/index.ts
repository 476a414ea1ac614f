/** The guest's side: a driver that boots, binds, scans and resumes, knowing the hypervisor only by its hypercalls. */
export { FrameAllocator } from './frames.js'
export { GuestKernel, type ResumeReport } from './kernel.js'
export type { BindOptions, BootOptions, EventHandler } from './options.js'
export { GuestHypercalls, type GuestPlatform } from './platform.js'
export type { Attempt, WantedLevels } from './register.js'
