/**
 * A trace as strace writes one, a line an event:
 *
 *     d1v0 EVTCHNOP_alloc_unbound(dom=0x7ff0, remote_dom=0) = 0 {port=3}
 *     d2v0 EVTCHNOP_bind_interdomain(remote_dom=1, remote_port=7) = -EINVAL: port 7 of d1 awaits d0
 *     d1v0 upcall pending
 */

import { DOMID_FIRST_RESERVED } from '../abi/index.js'
import { object, oneOf } from '../check.js'
import { errnoName } from '../errno.js'
import type { HypercallEvent, StoreEvent, TraceEvent } from './event.js'

/** Members that hold the number of a domain: the reserved ones read better in hex. */
const DOMAIN_MEMBERS = new Set(['dom', 'remote_dom', 'unbound_dom', 'interdomain_dom', 'domid'])
/** Members that hold an address. */
const ADDRESS_MEMBERS = new Set(['areas', 'pending_gfns', 'mask_gfns', 'arg', 'entries'])
/** Longest text of a store's value in a line. */
const MOST_TEXT = 60

function value(name: string, given: number): string {
  const hex = ADDRESS_MEMBERS.has(name) || (DOMAIN_MEMBERS.has(name) && given >= DOMID_FIRST_RESERVED)
  return hex ? `0x${given.toString(16)}` : String(given)
}

const members = (args: Readonly<Record<string, number>>): string =>
  Object.entries(args)
    .map(([name, given]) => `${name}=${value(name, given)}`)
    .join(', ')

function hypercall({ call, args, out, result, reason, injected }: HypercallEvent): string {
  const written = out && Object.keys(out).length ? ` {${members(out)}}` : ''
  const code = result < 0 ? `-${errnoName(result)}` : String(result)
  const why = injected ? ': injected' : reason ? `: ${reason}` : ''
  return `${call}(${members(args)}) = ${code}${written}${why}`
}

const quoted = (text: string): string => JSON.stringify(text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}…` : text)

function store({ request, transaction, body, reply, error, injected }: StoreEvent): string {
  const tx = transaction ? `, tx ${transaction}` : ''
  const call = `XS_${request}(${body.map(quoted).join(', ')}${tx})`
  if (error !== undefined) return `${call} = ${error}${injected ? ': injected' : ''}`
  if (injected) return `${call} = cut: injected`
  return reply === undefined ? call : `${call} = ${reply.map(quoted).join(', ')}`
}

/** An event without its time. */
function body(event: TraceEvent): string {
  switch (event.kind) {
    case 'hypercall':
      return `d${event.domid}v${event.vcpu} ${hypercall(event)}`
    case 'pending':
      return `d${event.domid}v${event.vcpu} upcall pending`
    case 'upcall':
      return `d${event.domid}v${event.vcpu} returned from its upcall`
    case 'unblock':
      return `d${event.domid}v${event.vcpu} continues`
    case 'host':
      return `d${event.domid} ${event.what}`
    case 'store':
      return `d${event.domid} ${store(event)}`
    case 'thread':
      return `d${event.domid} ${event.name} [${event.pid}] ${event.state}${event.what ? `: ${event.what}` : ''}`
  }
}

const KINDS = ['hypercall', 'pending', 'upcall', 'unblock', 'host', 'store', 'thread']

/** An event of a trace, by its kind. @throws ParameterError */
export function anEvent(call: string, event: TraceEvent): TraceEvent {
  const { kind } = object<{ kind?: unknown }>(call, 'event', event, 'an event of a trace')
  oneOf(call, 'event.kind', kind, KINDS)
  return event
}

/** How a line begins. */
export interface TextOptions {
  /** With the time in seconds, as strace -ttt. */
  readonly time?: boolean
}

/** An event as a line, without its end. @throws ParameterError */
export function formatEvent(event: TraceEvent, { time = false }: TextOptions = {}): string {
  anEvent('formatEvent', event)
  return time ? `${(event.timeNs / 1e9).toFixed(6)} ${body(event)}` : body(event)
}
