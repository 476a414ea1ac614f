/** `evtchn/vcpu`: a vCPU on a thread of its own. What a worker imports that runs a guest; docs/threads.md says how. */

export type { MailRegister } from '../machine/mailbox.js'
export type { MemoryNews, VcpuThreadHandle } from '../machine/thread_handle.js'
export type { ThreadPlatform, ThreadVcpu, WokenBy } from './cpu.js'
export { VcpuThread, type VcpuThreadOptions } from './thread.js'
