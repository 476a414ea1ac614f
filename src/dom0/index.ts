/**
 * dom0 and guests on one host, for those who embed one: kernel threads, xenbus and its deliveries, backends, frontends,
 * toolstack, and the host that puts them together. The package's entry `evtchn/dom0`.
 */

export {
  type BackendHost,
  type EventChannels,
  GrantTable,
  IO_POLICIES,
  type IoPolicy,
  type IoPolicyName,
  type IoPolicyOptions,
  LocalNetwork,
  type MappedPage,
  type NetListener,
  type NetSocket,
  type Network,
  type PvcallsOptions,
  STALL_KINDS,
  StallInjector,
  type StallKind,
} from './backends/index.js'
export {
  type Frontend,
  FrontendBus,
  type FrontendDriver,
  type GrantedPage,
  type GuestHost,
  PvcallsError,
  Pvcallsfront,
  PvListener,
  PvSocket,
} from './frontends/index.js'
export { Guest, type GuestForm } from './host/guest.js'
export { Host, type HostOptions, type Job } from './host/host.js'
export type { InetAddress } from './io/index.js'
export {
  type CpuSubscriber,
  Cpus,
  DeadlockError,
  done,
  Kernel,
  Mutex,
  type ProcessRecord,
  Scheduler,
  type SchedulerOptions,
  type Task,
  type Thread,
  type ThreadState,
  type WaitOptions,
  WaitQueue,
} from './kernel/index.js'
export {
  type DeviceKind,
  type DeviceSpec,
  type DomainConfig,
  diskSpec,
  guestConfig,
  type HotplugScript,
  type LibxlError,
  nicSpec,
  type Outcome,
  pvcallsSpec,
  Toolstack,
  type XsHandle,
} from './toolstack/index.js'
export {
  BackendBus,
  DESIGNS,
  type Delivery,
  type DeliveryObserver,
  type Design,
  type EventThread,
  type ThreadChoice,
  type WatchCallback,
  Xenbus,
  XenbusDevice,
  type XenbusDriver,
  XenbusState,
  XenbusWatch,
  type XenbusWatchOptions,
  type XsWatchEvent,
} from './xenbus/index.js'
