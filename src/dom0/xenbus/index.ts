/** xenbus: a kernel's client of the store, its watches and who runs them, and dom0's bus of backends. */

export { isRefusal as isAnswer } from '../../xenstore/parts.js'
export { BackendBus, backendPathDomid } from './backend_bus.js'
export type { XenbusComms } from './comms.js'
export {
  DESIGNS,
  type Delivery,
  type DeliveryHost,
  type Design,
  type DesignMaker,
  type ThreadReference,
} from './delivery.js'
export { checkDesign } from './designs.js'
export { XenbusDevice, type XenbusDriver } from './device.js'
export { type DeliveryObserver, EventThread, type ListState, type Report } from './event_thread.js'
export { ForwardingDelivery } from './forwarding.js'
export { MtwatchDelivery } from './mtwatch.js'
export { OnDemandDelivery } from './on_demand.js'
export { MTWATCH_NODE, RfcDelivery } from './rfc.js'
export { SingleDelivery } from './single.js'
export { parseState, stateName, XenbusState } from './state.js'
export { StoreTasks, type TransactionId } from './store_tasks.js'
export { TalkDelivery } from './talk.js'
export {
  parseDomid,
  type ThreadChoice,
  type WatchCallback,
  XenbusWatch,
  type XenbusWatchOptions,
  type XsWatchEvent,
} from './watch.js'
export { Xenbus, type XenbusOptions } from './xenbus.js'
