/**
 * shared_info at another frame (EC-map-2): an HVM guest places it, and a later kernel of the same domain, after kexec, places
 * it again.
 *
 *     frame a [ vcpu_info[32] | pending | mask | wallclock ]  ──▶  frame b [ the same bytes ],   frame a: zeros
 */

import { PAGE_SIZE } from '../abi/index.js'
import type { Domain } from './domain.js'

/** Moves the page. Senders are shut out: an event between the copy and the switch would be set in the page that is left. */
export function placeSharedInfo(domain: Domain, gfn: number): void {
  const from = domain.sharedInfoGfn
  if (from === gfn) return
  domain.hostCore.lock.write(() => {
    const ram = domain.memory.view()
    ram.copyWithin(gfn * PAGE_SIZE, from * PAGE_SIZE, (from + 1) * PAGE_SIZE)
    ram.fill(0, from * PAGE_SIZE, (from + 1) * PAGE_SIZE)
    domain.sharedInfoIsAt(gfn)
  })
}
