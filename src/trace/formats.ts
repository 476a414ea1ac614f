/**
 * A trace for other programs: JSON lines, an event a line; and the Chrome trace event format, which Perfetto and
 * chrome://tracing open. Domains are processes there, vCPUs and kernel threads are tracks, calls and upcalls are slices, and
 * a send flows to the next upcall of the vCPU that it notified.
 */

import { ParameterError } from '../check.js'
import { errnoName } from '../errno.js'
import type { HypercallEvent, PendingEvent, TraceEvent } from './event.js'
import { anEvent, formatEvent } from './text.js'

/** JSON lines. @throws ParameterError */
export const jsonLine = (event: TraceEvent): string => JSON.stringify(anEvent('jsonLine', event))

/** One entry of the Chrome trace event format. */
export interface ChromeEvent {
  readonly name: string
  /** X: a slice; i: an instant; s, f: a flow's begin and end; M: the name of a process or a thread. */
  readonly ph: 'X' | 'i' | 's' | 'f' | 'M'
  readonly pid: number
  readonly tid: number
  /** In µs. */
  readonly ts: number
  readonly dur?: number
  readonly cat?: string
  readonly id?: number
  readonly bp?: 'e'
  readonly s?: 't'
  readonly args?: Readonly<Record<string, unknown>>
}

/** What chrome://tracing and Perfetto load. */
export interface ChromeTrace {
  readonly displayTimeUnit: 'ns'
  readonly traceEvents: readonly ChromeEvent[]
}

/** Tracks of kernel threads lie above those of vCPUs: thread ids of a process are numbers of their own. */
const THREADS = 100_000
const STORE_TRACK = 99_999

const trackOf = (event: TraceEvent): number => {
  if (event.kind === 'thread') return THREADS + event.pid
  if (event.kind === 'store') return STORE_TRACK
  return event.kind === 'host' ? 0 : event.vcpu
}

function trackName(event: TraceEvent): string {
  if (event.kind === 'thread') return event.name
  return event.kind === 'store' ? 'store' : `vCPU ${trackOf(event)}`
}

/** Does a call notify the vCPU of another? It does if the flag rose while it ran, which is the event before it. */
const notifies = (event: TraceEvent): event is HypercallEvent =>
  event.kind === 'hypercall' && (event.call === 'EVTCHNOP_send' || event.call === 'EVTCHNOP_unmask') && !event.result

/** Makes a Chrome trace of events in their order. @throws ParameterError */
export function chromeTrace(events: Iterable<TraceEvent>): ChromeTrace {
  const given = events as Partial<Iterable<TraceEvent>> | null | undefined
  if (typeof given?.[Symbol.iterator] !== 'function')
    throw new ParameterError('chromeTrace', 'events', events, 'a Trace, or a list of its events')
  const all = [...events]
  for (const event of all) anEvent('chromeTrace', event)
  // A clock that stands still says nothing: then each event takes a µs of its own.
  const still = all.every(({ timeNs }) => timeNs === all[0]!.timeNs)
  const out: ChromeEvent[] = []
  const named = new Set<string>()
  /** Flags that rose in the call under way, and flows that wait for an upcall, by vCPU. */
  let risen: PendingEvent[] = []
  const flows = new Map<string, number>()
  for (const event of all) {
    const [pid, tid] = [event.domid, trackOf(event)]
    nameTrack(out, named, event)
    const ts = still ? event.seq : event.timeNs / 1e3
    const durationNs = 'durationNs' in event ? event.durationNs : 0
    const dur = still ? 0.5 : Math.max(durationNs / 1e3, 0.001)
    const at = { pid, tid, ts }
    if (event.kind === 'pending') risen.push(event)
    if (notifies(event)) {
      for (const { domid, vcpu, seq } of risen) {
        out.push({ name: 'send', cat: 'event', ph: 's', id: seq, ...at })
        flows.set(`${domid}/${vcpu}`, seq)
      }
      risen = []
    }
    out.push(entryOf(event, at, dur))
    const flow = event.kind === 'upcall' ? flows.get(`${pid}/${event.vcpu}`) : undefined
    if (flow !== undefined) {
      out.push({ name: 'send', cat: 'event', ph: 'f', bp: 'e', id: flow, ...at })
      flows.delete(`${pid}/${tid}`)
    }
  }
  return { displayTimeUnit: 'ns', traceEvents: out }
}

function nameTrack(out: ChromeEvent[], named: Set<string>, event: TraceEvent): void {
  const [pid, tid] = [event.domid, trackOf(event)]
  const name = (what: 'process_name' | 'thread_name', text: string, key: string) => {
    if (named.has(key)) return
    named.add(key)
    out.push({ name: what, ph: 'M', pid, tid, ts: 0, args: { name: text } })
  }
  name('process_name', `d${pid}`, String(pid))
  name('thread_name', trackName(event), `${pid}/${tid}`)
}

function entryOf(event: TraceEvent, at: { pid: number; tid: number; ts: number }, dur: number): ChromeEvent {
  switch (event.kind) {
    case 'hypercall': {
      const { call, args, out, result, reason } = event
      const shown = {
        ...args,
        ...out,
        result: result < 0 ? `-${errnoName(result)}` : result,
        ...(reason && { reason }),
      }
      return { name: call, cat: 'hypercall', ph: 'X', ...at, dur, args: shown }
    }
    case 'upcall':
      return { name: 'upcall', cat: 'upcall', ph: 'X', ...at, dur }
    default:
      return { name: formatEvent(event), cat: event.kind, ph: 'i', s: 't', ...at }
  }
}
