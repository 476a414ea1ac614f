/**
 * An embedder's policy, as operations ask it: it gets handles where the hypervisor has its own domains. A hook that throws
 * refuses with EPERM, and so does one whose verdict is neither 0 nor a negative errno. Both are reported.
 */

import type { Callouts } from '../callout.js'
import { ParameterError } from '../check.js'
import type { Domain } from '../domain/domain.js'
import { domainHandle } from '../domain/handles.js'
import type { Subject } from '../domain/subject.js'
import { Errno } from '../errno.js'
import type { XsmPolicy } from './xsm.js'

/** Most that an errno can be: MAX_ERRNO. */
const MAX_ERRNO = 4095

const handle = (subject: Subject) => domainHandle(subject as Domain)
const handleOr = (subject: Subject | undefined) => subject && handle(subject)

/** The same policy for the hypervisor's own domains. */
export function sealedPolicy(policy: XsmPolicy, callouts: Callouts): XsmPolicy {
  const ask = (hook: string, body: () => number): number =>
    callouts.run(`xsm.${hook}`, -Errno.EPERM, () => {
      const verdict = body()
      if (Number.isInteger(verdict) && verdict <= 0 && verdict >= -MAX_ERRNO) return verdict
      throw new ParameterError(`xsm.${hook}`, 'verdict', verdict, '0 or a negative errno')
    })
  return {
    get name() {
      return callouts.run('xsm.name', 'without a name', () => String(policy.name))
    },
    evtchnUnbound: (caller, target, remote) =>
      ask('evtchnUnbound', () => policy.evtchnUnbound(handle(caller), handle(target), handleOr(remote))),
    evtchnInterdomain: (caller, remote) =>
      ask('evtchnInterdomain', () => policy.evtchnInterdomain(handle(caller), handle(remote))),
    evtchnSend: (caller, remote) => ask('evtchnSend', () => policy.evtchnSend(handle(caller), handleOr(remote))),
    evtchnStatus: (caller, target) => ask('evtchnStatus', () => policy.evtchnStatus(handle(caller), handle(target))),
    evtchnReset: (caller, target) => ask('evtchnReset', () => policy.evtchnReset(handle(caller), handle(target))),
  }
}
