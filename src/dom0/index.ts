/**
 * dom0 and guests on one host: kernel threads, xenbus and its deliveries, backends, frontends, toolstack, and hosts that put
 * them together. The package's entry `evtchn/dom0`.
 */

export { differences, inventory, queuedEvents } from '../scenarios/inventory.js'
export {
  echo,
  framesFor,
  PvcallsScenario,
  type PvcallsScenarioOptions,
  type PvcallsScenarioResult,
  type Spread,
} from '../scenarios/pvcalls_scenario.js'
export { type EventCounts, Recorder, type StateChange, type ThreadTrack } from '../scenarios/recorder.js'
export {
  guestConfig,
  type Operation,
  Scenario,
  type ScenarioOptions,
  type ScenarioResult,
  type StalledThread,
} from '../scenarios/scenario.js'
export * from './backends/index.js'
export * from './frontends/index.js'
export { DomainList } from './host/domain_list.js'
export { Guest, type GuestForm } from './host/guest.js'
export { Host, type HostOptions, type Job } from './host/host.js'
export { memoryRing, StoreHost, type StoreHostOptions } from './host/store_host.js'
export * from './kernel/index.js'
export * from './toolstack/index.js'
export * from './xenbus/index.js'
