/**
 * Faults that are asked for, at the places where a trace looks on: the next alloc_unbound of domain 1 is ENOSPC, the third
 * commit is EAGAIN. A call that is refused in this way is not carried out. Requests to a store may also be slow, or cut the
 * connection that they came over: a hypercall can be neither.
 *
 *     const faults = new Faults().fail({ call: 'alloc_unbound', domid: 1, errno: 'ENOSPC' })
 *     const xen = Hypervisor.create({ faults })
 */

import { anything, options, ParameterError, type Table, text, within } from '../check.js'
import { Errno, type ErrnoName, type Refusal, refuse } from '../errno.js'

/** One fault. */
export interface FaultOptions {
  /** The call: `EVTCHNOP_send` or `send`, `SCHEDOP_poll` or `poll`, a store's request such as `TRANSACTION_END`. */
  call: string
  /** Error that the call ends with. This, `cut` or `delayMs` is given, and only one of them. */
  errno?: ErrnoName
  /** The store ends the connection instead of replying. */
  cut?: true
  /** The store handles the request after this many ms of its clock, and nothing else of that connection before. */
  delayMs?: number
  /** Only calls of this domain. Default: of any. */
  domid?: number
  /** The first call that fails, counted from 1. Default 1: the next. */
  nth?: number
  /** How many calls fail in a row. Default 1. */
  times?: number
}

/** What becomes of a request to a store that is not refused. */
export type Disruption = { readonly cut: true } | { readonly delayMs: number }

const TABLE: Table<FaultOptions> = {
  call: text,
  errno: anything,
  cut: anything,
  delayMs: within(1, 2 ** 31 - 1),
  domid: within(0, 0x7fff),
  nth: within(1, Number.MAX_SAFE_INTEGER),
  times: within(1, Number.MAX_SAFE_INTEGER),
}

/** A fault that waits for its call. */
interface Armed {
  readonly call: string
  readonly outcome: ErrnoName | Disruption
  readonly domid: number | undefined
  /** Calls to let pass before. */
  left: number
  /** Calls to fail then. */
  times: number
}

/** The name without its group: `EVTCHNOP_send` → `send`, `XS_WRITE` → `write`. */
const plain = (call: string): string => call.replace(/^(EVTCHNOP|SCHEDOP|VCPUOP|PHYSDEVOP|HVMOP|XS)_/, '').toLowerCase()

const FORM = '[dN:]CALL=ERRNO[@NTH][xTIMES], or cut or slow:MS for ERRNO'
const SPEC = /^(?:d(\d+):)?(\w+)=([A-Z0-9]+|cut|slow:(\d+))(?:@(\d+))?(?:x(\d+))?$/

/** Faults of a host or a store. */
export class Faults {
  readonly #armed: Armed[] = []

  /** Reads faults as command lines spell them: `d1:alloc_unbound=ENOSPC@3x2`. @throws ParameterError */
  static parse(...specs: readonly string[]): Faults {
    const faults = new Faults()
    for (const spec of specs) {
      const [, domid, call, outcome, delayMs, nth, times] = SPEC.exec(spec) ?? []
      if (call === undefined) throw new ParameterError('Faults.parse', 'fault', spec, FORM)
      const number = (given: string | undefined) => (given === undefined ? undefined : Number(given))
      faults.fail({
        call,
        ...(outcome === 'cut'
          ? { cut: true }
          : delayMs === undefined
            ? { errno: outcome as ErrnoName }
            : { delayMs: Number(delayMs) }),
        ...(domid !== undefined && { domid: Number(domid) }),
        ...(nth !== undefined && { nth: number(nth)! }),
        ...(times !== undefined && { times: number(times)! }),
      })
    }
    return faults
  }

  /** Arms a fault. Several may wait for the same call: the first that matches is used. @throws ParameterError */
  fail(given: FaultOptions): this {
    const { call, domid, nth = 1, times = 1, ...rest } = options('Faults.fail', given, TABLE)
    const outcome = outcomeOf(rest)
    this.#armed.push({ call: plain(text('Faults.fail', 'call', call)), outcome, domid, left: nth - 1, times })
    return this
  }

  /** Faults that have not run out. */
  get armed(): number {
    return this.#armed.length
  }

  /** The name of the error that this call is to end with; undefined: it is carried out. */
  take(domid: number, call: string): ErrnoName | undefined {
    return this.#take(domid, call, (outcome) => typeof outcome === 'string') as ErrnoName | undefined
  }

  /** What is to become of this request to a store instead of a reply at once. */
  disruption(domid: number, call: string): Disruption | undefined {
    return this.#take(domid, call, (outcome) => typeof outcome === 'object') as Disruption | undefined
  }

  #take(
    domid: number,
    call: string,
    wanted: (outcome: ErrnoName | Disruption) => boolean,
  ): Armed['outcome'] | undefined {
    const name = plain(call)
    for (const [i, fault] of this.#armed.entries()) {
      if (fault.call !== name || (fault.domid ?? domid) !== domid || !wanted(fault.outcome)) continue
      if (fault.left) {
        fault.left--
        continue
      }
      if (--fault.times === 0) this.#armed.splice(i, 1)
      return fault.outcome
    }
    return undefined
  }

  /** The same as a refusal. */
  refusal(domid: number, call: string): Refusal | undefined {
    const errno = this.take(domid, call)
    return errno && refuse(Errno[errno], 'injected')
  }
}

/** The one thing that a fault does. @throws ParameterError */
function outcomeOf({ errno, cut, delayMs }: Pick<FaultOptions, 'errno' | 'cut' | 'delayMs'>): Armed['outcome'] {
  const wrong = (name: string, given: unknown, allowed: string) =>
    new ParameterError('Faults.fail', name, given, allowed)
  if ([errno, cut, delayMs].filter((each) => each !== undefined).length !== 1)
    throw wrong('errno', errno, `the name of an error, or ${errno === undefined ? '' : 'else '}one of cut and delayMs`)
  if (cut !== undefined) return cut === true ? { cut } : fail(wrong('cut', cut, 'true'))
  if (delayMs !== undefined) return { delayMs }
  return Object.hasOwn(Errno, errno!) ? errno! : fail(wrong('errno', errno, Object.keys(Errno).join(', ')))
}

function fail(error: Error): never {
  throw error
}
