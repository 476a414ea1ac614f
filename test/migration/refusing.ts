/** A restore that is refused, and what it leaves. */

import { expect } from 'vitest'
import { Errno, type HypervisorOptions, RestoreError, type RestoreOptions } from '../../src/index.js'
import { expectSame, hostText } from './facts.js'
import type { Host } from './machines.js'

export const transparent = (host: Host) => host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent' })

/** The error of a refused restore; the target is as it was, byte by byte. */
export function refused(target: Host, state: unknown, options?: RestoreOptions): RestoreError {
  const before = hostText(target.xen)
  let error: unknown
  try {
    target.xen.restoreDomain(state, options)
  } catch (thrown) {
    error = thrown
  }
  expect(error, 'the restore is refused').toBeInstanceOf(RestoreError)
  expectSame(target.xen, before, 'the target is as it was')
  return error as RestoreError
}

/** Targets that refuse a 64-bit guest of three levels, eight leaf pages and 40 channels. */
export const TARGETS: [string, HypervisorOptions, RestoreOptions, number, string][] = [
  ['older', { nlevel: false }, {}, Errno.ENOSYS, 'abi.registration'],
  ['that does not allow it', {}, { nlevelAllowed: false }, Errno.EPERM, 'abi.registration'],
  ['with fewer levels', { maxLevels: 2 }, {}, Errno.ENOSPC, 'abi.registration'],
  ['with fewer levels for the domain', {}, { maxLevels: 2 }, Errno.ENOSPC, 'abi.registration'],
  ['with fewer pages', { maxLeafPages: 7 }, {}, Errno.ENOSPC, 'abi.registration'],
  ['with a lower port limit', {}, { maxEvtchnPort: 39 }, Errno.ENOSPC, 'ports.unbound[0].port'],
  ['where the number is taken', {}, { domid: 0 }, Errno.EEXIST, 'domid'],
  ['without memory', { maxFrames: 64 + 127 }, {}, Errno.ENOMEM, 'frames'],
  ['of another width', {}, { bits: 32 }, Errno.EINVAL, 'bits'],
]
