/**
 * evtchn: Xen's event channels without Xen. The only public entry; what is not exported here is not part of the API.
 */
export * from './abi/index.js'
export { type Clock, ManualClock } from './clock.js'
export type { Domain, DomainType, Dying, NlevelRegistration } from './domain.js'
export {
  type ChannelRecord,
  DUMP_TITLE,
  type DumpItem,
  type DumpOptions,
  type DumpStats,
  formatChannel,
  formatItem,
  newDumpStats,
} from './dump.js'
export { Errno, type ErrnoName, errnoName, ParameterError, XenError } from './errno.js'
export type { ControlBlock, FifoSnapshot, FifoState } from './fifo.js'
export * from './guest/index.js'
export type { Register } from './hypercall.js'
export { type DomainOptions, Hypervisor, type HypervisorOptions } from './hypervisor.js'
export { GuestMemory, type GuestMemoryOptions, type Translate } from './memory.js'
export { SAVE_VERSION, type SavedDomain, type SavedRun, SavedStateError } from './save.js'
export { NR_SOFTIRQS, SOFTIRQ, type SoftirqStats, Softirqs } from './softirq.js'
export type { Vcpu } from './vcpu.js'
export type { HostLimits, Notifier } from './world.js'
export { type Abortable, EvtchnDevice, type EvtchnHandle, type EvtchnOpenOptions } from './xenevtchn.js'
export { defaultPolicy, type Subject, siloPolicy, type XsmPolicy } from './xsm.js'
