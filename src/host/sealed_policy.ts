/** An embedder's policy, which gets handles where the hypervisor has its own domains. */

import type { Domain } from '../domain/domain.js'
import { domainHandle } from '../domain/handles.js'
import type { Subject } from '../domain/subject.js'
import type { XsmPolicy } from './xsm.js'

const handle = (subject: Subject) => domainHandle(subject as Domain)
const handleOr = (subject: Subject | undefined) => subject && handle(subject)

/** The same policy for the hypervisor's own domains. */
export function sealedPolicy(policy: XsmPolicy): XsmPolicy {
  return {
    get name() {
      return policy.name
    },
    evtchnUnbound: (caller, target, remote) => policy.evtchnUnbound(handle(caller), handle(target), handleOr(remote)),
    evtchnInterdomain: (caller, remote) => policy.evtchnInterdomain(handle(caller), handle(remote)),
    evtchnSend: (caller, remote) => policy.evtchnSend(handle(caller), handleOr(remote)),
    evtchnStatus: (caller, target) => policy.evtchnStatus(handle(caller), handle(target)),
    evtchnReset: (caller, target) => policy.evtchnReset(handle(caller), handle(target)),
  }
}
