/**
 * dom0 and guests on one host: kernel threads, xenbus and its deliveries, backends, frontends, toolstack, and hosts that put
 * them together. The package's entry `evtchn/dom0`.
 */

export * from '../backends/index.js'
export * from '../frontends/index.js'
export * from '../kernel/index.js'
export * from '../toolstack/index.js'
export * from '../xenbus/index.js'
export { DomainList } from './domain_list.js'
export { Guest, type GuestForm } from './guest.js'
export { Host, type HostOptions, type Job } from './host.js'
export { differences, inventory, queuedEvents } from './inventory.js'
export {
  echo,
  framesFor,
  PvcallsScenario,
  type PvcallsScenarioOptions,
  type PvcallsScenarioResult,
  type Spread,
} from './pvcalls_scenario.js'
export { type EventCounts, Recorder, type StateChange, type ThreadTrack } from './recorder.js'
export {
  guestConfig,
  type Operation,
  Scenario,
  type ScenarioOptions,
  type ScenarioResult,
  type StalledThread,
} from './scenario.js'
export { memoryRing, StoreHost, type StoreHostOptions } from './store_host.js'
