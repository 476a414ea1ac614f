/**
 * Faults that are asked for, at the places where a trace looks on: the next alloc_unbound of domain 1 is ENOSPC, the third
 * commit is EAGAIN. A call that is refused in this way is not carried out.
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
  /** Error that the call ends with. */
  errno: ErrnoName
  /** Only calls of this domain. Default: of any. */
  domid?: number
  /** The first call that fails, counted from 1. Default 1: the next. */
  nth?: number
  /** How many calls fail in a row. Default 1. */
  times?: number
}

const TABLE: Table<FaultOptions> = {
  call: text,
  errno: anything,
  domid: within(0, 0x7fff),
  nth: within(1, Number.MAX_SAFE_INTEGER),
  times: within(1, Number.MAX_SAFE_INTEGER),
}

/** A fault that waits for its call. */
interface Armed {
  readonly call: string
  readonly errno: ErrnoName
  readonly domid: number | undefined
  /** Calls to let pass before. */
  left: number
  /** Calls to fail then. */
  times: number
}

/** The name without its group: `EVTCHNOP_send` → `send`, `XS_WRITE` → `write`. */
const plain = (call: string): string => call.replace(/^(EVTCHNOP|SCHEDOP|VCPUOP|PHYSDEVOP|HVMOP|XS)_/, '').toLowerCase()

/** `[dN:]CALL=ERRNO[@NTH][xTIMES]`. */
const SPEC = /^(?:d(\d+):)?(\w+)=([A-Z0-9]+)(?:@(\d+))?(?:x(\d+))?$/

/** Faults of a host or a store. */
export class Faults {
  readonly #armed: Armed[] = []

  /** Reads faults as command lines spell them: `d1:alloc_unbound=ENOSPC@3x2`. @throws ParameterError */
  static parse(...specs: readonly string[]): Faults {
    const faults = new Faults()
    for (const spec of specs) {
      const [, domid, call, errno, nth, times] = SPEC.exec(spec) ?? []
      if (call === undefined || errno === undefined)
        throw new ParameterError('Faults.parse', 'fault', spec, '[dN:]CALL=ERRNO[@NTH][xTIMES]')
      const number = (given: string | undefined) => (given === undefined ? undefined : Number(given))
      faults.fail({
        call,
        errno: errno as ErrnoName,
        ...(domid !== undefined && { domid: Number(domid) }),
        ...(nth !== undefined && { nth: number(nth)! }),
        ...(times !== undefined && { times: number(times)! }),
      })
    }
    return faults
  }

  /** Arms a fault. Several may wait for the same call: the first that matches is used. @throws ParameterError */
  fail(given: FaultOptions): this {
    const { call, errno, domid, nth = 1, times = 1 } = options('Faults.fail', given, TABLE)
    if (!Object.hasOwn(Errno, errno))
      throw new ParameterError('Faults.fail', 'errno', errno, Object.keys(Errno).join(', '))
    this.#armed.push({ call: plain(text('Faults.fail', 'call', call)), errno, domid, left: nth - 1, times })
    return this
  }

  /** Faults that have not run out. */
  get armed(): number {
    return this.#armed.length
  }

  /** The name of the error that this call is to end with; undefined: it is carried out. */
  take(domid: number, call: string): ErrnoName | undefined {
    const name = plain(call)
    for (const [i, fault] of this.#armed.entries()) {
      if (fault.call !== name || (fault.domid ?? domid) !== domid) continue
      if (fault.left) {
        fault.left--
        continue
      }
      if (--fault.times === 0) this.#armed.splice(i, 1)
      return fault.errno
    }
    return undefined
  }

  /** The same as a refusal. */
  refusal(domid: number, call: string): Refusal | undefined {
    const errno = this.take(domid, call)
    return errno && refuse(Errno[errno], 'injected')
  }
}
