/**
 * evtchn: Xen's event channels without Xen. The only public entry; what is not exported here is not part of the API.
 */
export * from './abi/index.js'
export { type Clock, ManualClock } from './clock.js'
export type { Domain, DomainType, Dying, NlevelRegistration, RestoredEnd, RestoreReport } from './domain.js'
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
export { Hypervisor } from './hypervisor.js'
export { GuestMemory, type GuestMemoryOptions, type Translate } from './memory.js'
export type { Committed, Migration, MigrationStatus } from './migration.js'
export type { DomainOptions, HypervisorOptions, RestoreOptions } from './options.js'
export type { SavedAbi, SavedLevels, SavedSelectors } from './save_abi.js'
export type { SavedFifo } from './save_fifo.js'
export { RestoreError, SavedStateError, type SavedTable } from './saved_fields.js'
export type { SavedRun } from './saved_ram.js'
export {
  SAVE_VERSION,
  type SavedCommon,
  type SavedCooperative,
  type SavedDomain,
  type SavedTransparent,
  type SavedVcpu,
  type SaveMode,
} from './saved_state.js'
export { NR_SOFTIRQS, SOFTIRQ, type SoftirqStats, Softirqs } from './softirq.js'
export type { Vcpu } from './vcpu.js'
export type { HostLimits, Notifier } from './world.js'
export { type Abortable, EvtchnDevice, type EvtchnHandle, type EvtchnOpenOptions } from './xenevtchn.js'
export { defaultPolicy, type Subject, siloPolicy, type XsmPolicy } from './xsm.js'
