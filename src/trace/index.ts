/** What happened, decoded: hypercalls with their reasons, upcalls, store requests, thread switches; and faults on request. */

export { ambient, setAmbient } from './ambient.js'
export type { TracedCaller } from './decode.js'
export type {
  HostEvent,
  HypercallEvent,
  PendingEvent,
  StoreEvent,
  ThreadEvent,
  TraceEvent,
  UnblockEvent,
  Unnumbered,
  UpcallEvent,
} from './event.js'
export { type FailingTest, type TestTraceOptions, traceOfTest } from './failing.js'
export { type Disruption, type FaultOptions, Faults } from './faults.js'
export { type ChromeEvent, type ChromeTrace, chromeTrace, jsonLine } from './formats.js'
export { Seam } from './seam.js'
export { formatEvent, type TextOptions } from './text.js'
export { Trace, type TraceOptions, type TraceSink } from './trace.js'
