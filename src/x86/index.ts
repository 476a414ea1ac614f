/**
 * Real x86 guests on the library, in the emulator of npm `v86` (0.5.462, an optional peer): the package's entry `evtchn/v86`.
 * docs/real-kernels.md says how it works, and what is real.
 */

export type { V86Boot, V86Class, V86Emulator, V86Files } from './emulator.js'
export { V86Guest } from './guest.js'
export { type V86GuestOptions, V86Host, type V86HostOptions } from './host.js'
export type { V86Snapshot } from './snapshot.js'
