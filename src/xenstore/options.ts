/** The options of a daemon, and their check: a wrong or misspelt one is refused, with the nearest name. */

import type { OnError } from '../callout.js'
import {
  anything,
  type Check,
  options as checked,
  func,
  having,
  nested,
  object,
  ParameterError,
  within,
} from '../check.js'
import type { Faults, TraceSink } from '../trace/index.js'
import type { DomainHost } from './domains.js'
import { C_4_17, type Profile } from './profile.js'
import { DEFAULT_QUOTAS, type Quotas } from './quota.js'

/** Options of a daemon. */
export interface XenStoredOptions {
  /** Which daemon it takes after. Default: the C daemon of Xen 4.17. */
  profile?: Profile
  /** Limits for guests. Default: the C daemon's. */
  quotas?: Partial<Quotas>
  /** The hypervisor. Default: one that has every domain and maps none. */
  host?: DomainHost
  /** Time in milliseconds, never going back. Without it nothing times out and writes have no rate limit. */
  now?: () => number
  /** Bytes that may wait for a privileged client before its requests wait too. Default 256 KiB. */
  outputHigh?: number
  /** Bytes that may wait for a privileged client that does not read before it is cut off. Default 16 MiB. */
  outputMax?: number
  /**
   * Bytes that may wait for all privileged clients together; then the one with most is cut off. Counts what transports
   * hold, too. Default 64 MiB.
   */
  outputTotal?: number
  /**
   * One call serves a share of the work that guests' rings bring; calls `step` for the rest. Default: in a later turn of the
   * event loop. An embedder with a loop of its own passes `() => {}`, and calls `XenStored.step` when it likes.
   */
  later?: (step: () => void) => void
  /** Where requests, replies and watch events are recorded: a Trace, or hooks that look on. Default: none. */
  trace?: TraceSink
  /** Requests that are to fail, such as `TRANSACTION_END` with EAGAIN. Default: none. */
  faults?: Faults
  /** A guest came near its memory limit. */
  onMemoryWarning?: (domid: number, bytes: number) => void
  /** Lines of CONTROL `print` and, after `log on`, of every request, reply and event. Without it both are refused. */
  onLog?: (line: string) => void
  /** Gets what one of the embedder's functions threw. Default: it is thrown again outside of any call. */
  onError?: OnError
  /** CONTROL memreport: a report, and the file that was asked for. Without it the command is refused. */
  onMemoryReport?: (text: string, file: string | undefined) => void
}

const count = within(0, Number.MAX_SAFE_INTEGER)
const quotaTable = Object.fromEntries(Object.keys(DEFAULT_QUOTAS).map((name) => [name, count])) as Record<
  keyof Quotas,
  Check
>

/** A profile is one of those that are exported, or a copy with some members changed. */
const profile: Check = (call, parameter, value) => {
  const allowed = 'a profile such as C_4_17, or a copy of one'
  const given = object(call, parameter, value, allowed) as Record<string, unknown>
  const table = Object.fromEntries(Object.keys(C_4_17).map((name) => [name, anything]))
  nested<Record<string, unknown>>(table)(call, parameter, given)
  for (const [name, usual] of Object.entries(C_4_17))
    if (typeof given[name] !== typeof usual)
      throw new ParameterError(call, `${parameter}.${name}`, given[name], `a ${typeof usual}, as in C_4_17`)
}

const TABLE = {
  profile,
  quotas: nested<Partial<Quotas>>(quotaTable),
  host: having('state', 'connect'),
  now: func,
  outputHigh: within(1, Number.MAX_SAFE_INTEGER),
  outputMax: within(1, Number.MAX_SAFE_INTEGER),
  outputTotal: within(1, Number.MAX_SAFE_INTEGER),
  later: func,
  onLog: func,
  trace: nested<TraceSink>({ record: func, upcall: func }),
  faults: having('take'),
  onMemoryWarning: func,
  onError: func,
  onMemoryReport: func,
}

/** Returns the options of `new XenStored`. @throws ParameterError */
export function checkOptions(options: XenStoredOptions): XenStoredOptions {
  return checked<XenStoredOptions>('XenStored', options, TABLE)
}
