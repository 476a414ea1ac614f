/** Errors of socket calls in a guest. */

import { type PvcallsErrnoName, pvcallsErrnoName } from '../../io/index.js'

/** A socket call failed: which, and what the backend or the data ring said. */
export class PvcallsError extends Error {
  /** The negative number. */
  readonly ret: number
  /** Its name: `ECONNREFUSED`. */
  readonly code: PvcallsErrnoName | string

  constructor(call: string, ret: number) {
    const code = pvcallsErrnoName(ret)
    super(`${call}: ${code}`)
    this.name = 'PvcallsError'
    this.ret = ret
    this.code = code
  }
}
