/** Asks the host what it would grant, before or after a form is registered (NL-query-1, NL-query-2). Changes nothing. */

import { type Args, DOMID_SELF } from '../abi/index.js'
import type { GuestHypercalls } from './platform.js'

/** What the host says of the calling domain. */
export interface Granted {
  /** 2 where the domain can register no tree, or the host knows none. */
  readonly maxLevels: number
  readonly maxPages: number
  /** Channels of a tree with both, or of the form in force; undefined if the host does not know the operation. */
  readonly nrChannels: number | undefined
}

/** EVTCHNOP_query_nlevel2; on an older host EVTCHNOP_query_nlevel, which says nothing of channels. */
export function queryGranted(calls: GuestHypercalls): Granted {
  const query: Args = { dom: DOMID_SELF, max_levels: 0, max_pages: 0, abi: 0, nr_channels: 0, pad: 0 }
  const told = calls.evtchn(0, 'query_nlevel2', query) >= 0
  const asked = told || calls.evtchn(0, 'query_nlevel', query) >= 0
  return {
    maxLevels: asked ? query.max_levels! : 2,
    maxPages: asked ? query.max_pages! : 0,
    nrChannels: told ? query.nr_channels! : undefined,
  }
}
