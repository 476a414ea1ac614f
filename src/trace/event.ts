/** What a trace holds: one object an event, plain data, in the order in which things happened. */

/** What every event has. */
interface Common {
  /** Number of the event, from 1; gaps are events that the bounded buffer dropped. */
  readonly seq: number
  /** When it happened, by the clock of the host or the scheduler. */
  readonly timeNs: number
  readonly domid: number
}

/** A hypercall, recorded when it is left. Of nested ones, as in a multicall, the inner come first. */
export interface HypercallEvent extends Common {
  readonly kind: 'hypercall'
  readonly vcpu: number
  /** `EVTCHNOP_send`, `SCHEDOP_poll`, `hypercall 99`. */
  readonly call: string
  /** Members that the guest filled in, by Xen's names. */
  readonly args: Readonly<Record<string, number>>
  /** Members that Xen filled in, if the call succeeded. */
  readonly out?: Readonly<Record<string, number>>
  /** 0 or more, or -errno. */
  readonly result: number
  /** Why it was refused. */
  readonly reason?: string
  /** A fault that was asked for; the call was not carried out. */
  readonly injected?: true
  /** From entry to exit. */
  readonly durationNs: number
}

/** evtchn_upcall_pending of a vCPU went from 0 to 1, or its upcall is due anew. */
export interface PendingEvent extends Common {
  readonly kind: 'pending'
  readonly vcpu: number
}

/** A vCPU was in its upcall; recorded when the handler returns. */
export interface UpcallEvent extends Common {
  readonly kind: 'upcall'
  readonly vcpu: number
  readonly durationNs: number
}

/** A vCPU that was blocked, or polled, continues. */
export interface UnblockEvent extends Common {
  readonly kind: 'unblock'
  readonly vcpu: number
}

/** Something that the host did to a domain: created, paused, frozen, restored, killed. */
export interface HostEvent extends Common {
  readonly kind: 'host'
  readonly what: string
}

/** A request to a store and its reply. */
export interface StoreEvent extends Common {
  readonly kind: 'store'
  /** `WRITE`, `TRANSACTION_END`; for a watch event `WATCH_EVENT`. */
  readonly request: string
  readonly transaction: number
  readonly body: readonly string[]
  readonly reply?: readonly string[]
  /** The error's name, such as `ENOENT`. */
  readonly error?: string
  readonly injected?: true
}

/** A kernel thread of an emulated domain 0 changed its state. */
export interface ThreadEvent extends Common {
  readonly kind: 'thread'
  readonly pid: number
  readonly name: string
  /** R runs, S sleeps, D is stalled, X has ended. */
  readonly state: string
  /** What it waits for. */
  readonly what?: string
}

/** One event. */
export type TraceEvent =
  | HypercallEvent
  | PendingEvent
  | UpcallEvent
  | UnblockEvent
  | HostEvent
  | StoreEvent
  | ThreadEvent

/** An event as it is handed to a trace, which numbers it. */
export type Unnumbered<E extends TraceEvent = TraceEvent> = E extends TraceEvent ? Omit<E, 'seq'> : never
