/**
 * A kernel that starts on a domain whose channels an earlier kernel has registered (kexec, or a second driver by mistake).
 * The hypervisor would go on setting the earlier kernel's words: events of this one were lost without a word, or, on FIFO, its
 * links would run in circles. So the domain is reset first if the caller wants it, and refused by name if not (NL-boot-1).
 */

import { DOMID_SELF } from '../abi/index.js'
import { Errno, XenError } from '../errno.js'
import type { GuestHypercalls } from './platform.js'

/** What query_nlevel says of a domain on FIFO. */
const ABI_FIFO = 0x100
/** No guest has this frame: an expand_array with it changes nothing, whatever the domain's ABI is. */
const NO_FRAME = 2 ** 40

/** What the channels of the domain are registered as; undefined: two levels, as at first. */
function formInForce(calls: GuestHypercalls): string | undefined {
  const query = { dom: DOMID_SELF, max_levels: 0, max_pages: 0, abi: 0 }
  const asked = calls.evtchn(0, 'query_nlevel', query)
  if (asked >= 0 && query.abi !== 2) return query.abi === ABI_FIFO ? 'FIFO' : `${query.abi} levels`
  // FIFO is older than the query, and hosts may have the one without the other.
  const expanded = calls.evtchn(0, 'expand_array', { array_gfn: NO_FRAME })
  return expanded === -Errno.EINVAL || expanded === -Errno.ENOSPC ? 'FIFO' : undefined
}

/** Resets the domain, or finds that nobody was here before. @throws XenError EBUSY if somebody was */
export function takeOver(calls: GuestHypercalls, reset: boolean): void {
  if (reset) {
    calls.must(0, 'reset', { dom: DOMID_SELF })
    return
  }
  const form = formInForce(calls)
  if (form)
    throw new XenError(
      'GuestKernel.boot',
      Errno.EBUSY,
      `an earlier kernel of this domain has registered its channels (${form}); boot with reset: true closes them all`,
    )
}
