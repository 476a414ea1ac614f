/** Xen's own programs on this library: a host for native processes. The package's entry `evtchn/native`. */

export { buildNative, NativeBuildError, type NativeParts } from './build.js'
export { Children } from './children.js'
export { startDaemons } from './daemons.js'
export { GuestConsole } from './guest_console.js'
export { Machine } from './machine.js'
export { type DomainKernel, NativeDomain } from './native_domain.js'
export { NativeGuest } from './native_guest.js'
export { NativeHost } from './native_host.js'
export type { NativeHostOptions } from './options.js'
export { findProgram, isStatic, type Program, type ProgramHost, type ProgramOptions, programIn } from './program.js'
export { findStartInfo, type StartInfo } from './start_info.js'
export { XEN_TOOLS_HINT, xenToolsFolder } from './tools.js'
