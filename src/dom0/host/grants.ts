/** How dom0's backends map what guests grant: by the hypervisor, from the entries in the guests' frames. */

import type { Domain } from '../../domain/handles.js'
import { XenError } from '../../errno.js'
import type { Hypervisor } from '../../hypervisor/index.js'
import type { GrantedBytes } from '../backends/index.js'
import { pageOf } from './ring_ends.js'

/** Maps a page that `domid` has granted to `by`; undefined if it has not. */
export function mapGrant(xen: Hypervisor, by: Domain, domid: number, gref: number): GrantedBytes | undefined {
  const of = xen.domain(domid)
  if (!of || !(gref >= 0 && gref <= 0xffff_ffff)) return undefined
  try {
    const mapping = xen.grants.map(by, of, gref)
    return { bytes: pageOf(of.memory, mapping.gfn), unmap: () => mapping.unmap() }
  } catch (error) {
    // What a guest grants, or not, is its affair: a backend gets "no such page".
    if (error instanceof XenError) return undefined
    throw error
  }
}
