/**
 * evtchn: Xen's event channels without Xen. The only public entry; what is not exported here is not part of the API.
 */
export type { OnError } from './callout.js'
export { ParameterError } from './check.js'
export { type Clock, ManualClock } from './clock.js'
export type { DomainType, Dying, RestoredEnd, RestoreReport } from './domain/config.js'
export type { ControlBlock } from './domain/fifo.js'
export type { Domain, Vcpu } from './domain/handles.js'
export type { Subject } from './domain/subject.js'
export { type CallbackVia, decodeCallbackVia, type UpcallHow } from './domain/upcall.js'
export type { Word, WordByte, WordMap, WordPart } from './domain/words.js'
export {
  type ChannelRecord,
  DUMP_TITLE,
  type DumpItem,
  formatChannel,
  formatItem,
} from './dump/dump.js'
export { type DumpedDomain, parseDump } from './dump/parse.js'
export { type DumpOptions, type DumpStats, newDumpStats } from './dump/walk.js'
export { Errno, type ErrnoName, errnoName, type OnRefusal, type Outcome, type Refusal, XenError } from './errno.js'
export * from './guest/index.js'
export { type Abortable, EvtchnDevice, type EvtchnHandle, type EvtchnOpenOptions } from './guest/xenevtchn.js'
export type { DomainOptions, HypervisorOptions, Translate } from './host/options.js'
export type {
  OwnAbi,
  OwnGuest,
  OwnOperation,
  OwnSelector,
  OwnTree,
  OwnWords,
} from './host/own_abi.js'
export { NR_SOFTIRQS, SOFTIRQ, type SoftirqStats, Softirqs } from './host/softirq.js'
export type { FallThrough, HypercallCaller } from './host/world.js'
export { defaultPolicy, siloPolicy, type XsmPolicy } from './host/xsm.js'
export type { Continuation as HypercallContinuation, Register } from './hypercalls/dispatch.js'
export type { Trigger, XenPortOptions } from './hypercalls/raise.js'
export {
  type AttachOptions,
  type DetachOptions,
  type GrantMapping,
  type Grants,
  Hypervisor,
  type MapGrantOptions,
  type QuiesceOptions,
} from './hypervisor/index.js'
export type { WasmMemory } from './machine/core.js'
export { GuestMemory, type GuestMemoryOptions, type PageWalk } from './machine/memory.js'
export type { MemoryNews, SharedDomain, SharedMemory, SharedVcpu, VcpuThreadHandle } from './machine/thread_handle.js'
export type { SavedAbi, SavedLevels, SavedSelectors } from './migration/abi_parts.js'
export { RestoreError, SavedStateError, type SavedTable } from './migration/fields.js'
export type { SavedFifo } from './migration/fifo_part.js'
export {
  type PortState,
  SAVE_VERSION,
  type SavedCommon,
  type SavedCooperative,
  type SavedDomain,
  type SavedTransparent,
  type SavedVcpu,
  type SaveMode,
} from './migration/format.js'
export type { Committed, Migration, MigrationStatus } from './migration/handle.js'
export type { RestoreOptions, SaveOptions } from './migration/options.js'
export type { SavedRun } from './migration/ram.js'
export {
  type ChromeEvent,
  type ChromeTrace,
  chromeTrace,
  type Disruption,
  type FailingTest,
  type FaultOptions,
  Faults,
  formatEvent,
  type HostEvent,
  type HypercallEvent,
  jsonLine,
  type PendingEvent,
  type StoreEvent,
  type TestTraceOptions,
  type TextOptions,
  type ThreadEvent,
  Trace,
  type TraceEvent,
  type TraceOptions,
  type TraceSink,
  traceOfTest,
  type UnblockEvent,
  type Unnumbered,
  type UpcallEvent,
} from './trace/index.js'
