/**
 * Who may do what (spec 8.1): a policy object that returns 0 or -errno. Two come with the library: Xen's default
 * policy and SILO, which lets guests talk to control domains only.
 */

import type { Subject } from '../domain/subject.js'
import { Errno, type Refusal, refuse } from '../errno.js'

/** The hooks of event channels. Each returns 0 or a negative errno. */
export interface XsmPolicy {
  readonly name: string
  /** alloc_unbound on `target`, and allocation of Xen-attached ports. `remote` is undefined if no such domain exists. */
  evtchnUnbound(caller: Subject, target: Subject, remote: Subject | undefined): number
  /** bind_interdomain from `caller` to `remote`. */
  evtchnInterdomain(caller: Subject, remote: Subject): number
  evtchnSend(caller: Subject, remote: Subject | undefined): number
  evtchnStatus(caller: Subject, target: Subject): number
  evtchnReset(caller: Subject, target: Subject): number
}

/** Class TARGET: the domain itself, its stub device model, or a control domain; else EPERM. */
export function ofClassTarget(caller: Subject, target: Subject): number {
  return caller === target || caller.target === target || caller.privileged ? 0 : -Errno.EPERM
}

/** What a hook returned, if it was not 0, as a refusal that names the policy. `what` completes "dN may not …". */
export function refusedByPolicy(policy: XsmPolicy, verdict: number, { domid }: Subject, what: () => string): Refusal {
  return refuse(-verdict, () => `policy ${policy.name}: d${domid} may not ${what()}`)
}

/** Xen's default policy (EC-xsm-1…4). */
export const defaultPolicy: XsmPolicy = Object.freeze<XsmPolicy>({
  name: 'default',
  evtchnUnbound: ofClassTarget,
  evtchnInterdomain: () => 0,
  evtchnSend: () => 0,
  evtchnStatus: ofClassTarget,
  evtchnReset: ofClassTarget,
})

/** One end is a control domain, or both are the same domain, or the caller is a control domain (EC-xsm-5). */
function silo(caller: Subject, a: Subject, b: Subject): boolean {
  return caller.privileged || a.privileged || b.privileged || a === b
}

/** Xen's SILO policy: guests reach control domains and themselves, never each other. */
export const siloPolicy: XsmPolicy = Object.freeze<XsmPolicy>({
  ...defaultPolicy,
  name: 'silo',
  evtchnUnbound(caller, on, remote) {
    if (!remote) return -Errno.ESRCH
    return silo(caller, on, remote) ? ofClassTarget(caller, on) : -Errno.EPERM
  },
  evtchnInterdomain: (caller, remote) => (silo(caller, caller, remote) ? 0 : -Errno.EPERM),
})
