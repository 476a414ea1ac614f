/** A whole host with dom0 and guests. */

export { DomainList } from './domain_list.js'
export { Guest } from './guest.js'
export { Host, type HostOptions, type Job } from './host.js'
export { differences, inventory, queuedEvents } from './inventory.js'
export { type EventCounts, Recorder, type StateChange, type ThreadTrack } from './recorder.js'
export {
  guestConfig,
  type Operation,
  Scenario,
  type ScenarioOptions,
  type ScenarioResult,
  STALL_KINDS,
  type StalledThread,
  type StallKind,
} from './scenario.js'
export { memoryRing, StoreHost, type StoreHostOptions } from './store_host.js'
