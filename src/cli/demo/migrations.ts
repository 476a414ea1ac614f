/** Act 6: the state travels as JSON to another host; the guest's driver registers and binds again. */

import { fullTree } from '../../abi/index.js'
import type { Domain, GuestKernel, Hypervisor, ResumeReport, SavedDomain } from '../../index.js'
import { realClock } from '../../node/clock.js'
import type { Form } from '../abi.js'
import { check, type HeldUpcalls, type Machine, makeHost } from './host.js'

/** One migration and what became of the channels. */
export interface Migration {
  readonly host: string
  readonly bytes: number
  readonly ns: number
  readonly report: ResumeReport
  readonly domain: Domain
}

function arrive(host: string, to: Hypervisor, state: string, kernel: GuestKernel): Migration {
  const start = performance.now()
  const domain = to.restoreDomain(JSON.parse(state) as SavedDomain, { maxLeafPages: 1024, maxEvtchnPort: Infinity })
  const report = kernel.resume(to.platform(domain))
  return { host, bytes: state.length, ns: (performance.now() - start) * 1e6, report, domain }
}

/** To a host that grants the same, and from there to one that grants neither levels nor FIFO. */
export function migrateTwice(
  xen: Hypervisor,
  upcalls: HeldUpcalls,
  guest: Machine,
  channels: number,
  form: Form,
): Migration[] {
  const state = JSON.stringify(xen.saveDomain(guest.domain))
  xen.destroyDomain(guest.domain)
  const generous = makeHost(upcalls, { clock: realClock })
  generous.createDomain({ domid: 0 })
  const first = arrive('second host, grants the same', generous, state, guest.kernel)
  check(first.report.levels === form, `the second host granted ${first.report.levels} levels`)
  check(first.report.rebound.length === channels, `${first.report.rebound.length} of ${channels} channels re-bound`)

  const again = JSON.stringify(generous.saveDomain(first.domain))
  const old = makeHost(upcalls, { clock: realClock, nlevel: false, fifo: false })
  old.createDomain({ domid: 0 })
  const second = arrive('third host, knows two levels only', old, again, guest.kernel)
  const fit = Math.min(channels, fullTree(64, 2) - 1)
  check(second.report.levels === 2, `the third host granted ${second.report.levels} levels`)
  check(second.report.rebound.length === fit, `${second.report.rebound.length} channels fit, not ${fit}`)
  check(second.report.lost.length === channels - fit, `${second.report.lost.length} channels were reported lost`)
  return [first, second]
}
