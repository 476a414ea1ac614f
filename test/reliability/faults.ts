/** The faults that hooks of the store and of dom0 are tried with, and what was reported of them. */

import { expect } from 'vitest'
import { Errno, XenError } from '../../src/index.js'

/** What a hook does beside its work. */
export type Act = () => void

/** A fault: made anew for each run; `reenter` calls back into whatever the hook belongs to. */
export interface HookFault {
  readonly throws: boolean
  make(reenter: Act): Act
}

const boom = (): never => {
  throw new Error('fault of a user')
}

export const HOOK_FAULTS: Readonly<Record<string, HookFault>> = {
  'throws at its first call': {
    throws: true,
    make: () => {
      let calls = 0
      return () => void (++calls === 1 && boom())
    },
  },
  'throws always': { throws: true, make: () => boom },
  'throws a XenError': {
    throws: true,
    make: () => () => {
      throw new XenError('test', Errno.EBUSY, 'fault of a user')
    },
  },
  'throws from its second call on': {
    throws: false,
    make: () => {
      let calls = 0
      return () => void (++calls >= 2 && boom())
    },
  },
  'calls back': {
    throws: false,
    make: (reenter) => {
      let deep = 0
      return () => void (deep++ < 2 && reenter())
    },
  },
}

/** What went through `onError`. */
export class Reports {
  readonly all: { error: unknown; where: string }[] = []
  readonly onError = (error: unknown, where: string): void => void this.all.push({ error, where })

  /** Every report is of the fault and names its place; there is at least one if the fault must have come. */
  check(throws: boolean): void {
    for (const { error, where } of this.all) {
      expect((error as Error).message).toMatch(/^(test: )?fault of a user( \(EBUSY\))?$/)
      expect(where).not.toBe('')
    }
    if (throws) expect(this.all.length, 'reports').toBeGreaterThan(0)
  }
}
