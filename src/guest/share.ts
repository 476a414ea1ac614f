/**
 * One guest on several threads. A driver is one JavaScript object and belongs to one thread, so each thread has a driver of
 * its own over the same words: the first boots the guest, the others join it, each for one vCPU. What they share is in the
 * guest's RAM. What they do not share, each has for itself: arguments of hypercalls, scan descriptors and filters, the scan
 * buffer, the current vCPU, and the handlers of the ports that it binds.
 *
 *     thread of vCPU 0   GuestKernel.boot(platform, { upVcpus: [0, 1] }) ─ share(1) ─▶ plain data, by postMessage
 *     thread of vCPU 1   GuestKernel.join(platform, data)
 */

import { object, ParameterError } from '../check.js'
import type { TreeFrames } from './tree.js'

/** Says what such an object is, and in which form. */
const SHARED_GUEST = 'evtchn guest 1'

/** Frames that a driver needs which joins: arguments, a scan buffer, descriptors, tables, filters of the first leaf pages. */
export const JOINING_FRAMES = 16

/** What a driver needs to join a guest, as plain data. Made by `GuestKernel.share`. */
export interface SharedGuest {
  readonly what: typeof SHARED_GUEST
  /** The vCPU that joins. */
  readonly vcpu: number
  readonly levels: number
  readonly channels: number
  readonly frames: TreeFrames | null
  readonly infoGpas: readonly number[]
  /** First of the frames that are the joining driver's own, and how many. */
  readonly firstGfn: number
  readonly nrFrames: number
}

/** Everything but what says what it is. */
export const sharedGuest = (guest: Omit<SharedGuest, 'what'>): SharedGuest => ({ what: SHARED_GUEST, ...guest })

/** Returns what was shared. @throws ParameterError for anything else. */
export function checkShared(call: string, given: SharedGuest): SharedGuest {
  if (object(call, 'shared', given).what !== SHARED_GUEST)
    throw new ParameterError(call, 'shared', given, 'what GuestKernel.share returned')
  return given
}
