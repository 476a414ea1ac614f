/**
 * Who may open which channel. Each check stands here once: the operation that opens a channel makes it, and so does the
 * restore of a saved domain, which opens all of its channels again (nlevel.md section 5). They change nothing.
 */

import { ECS } from '../../abi/index.js'
import type { Domain } from '../../domain/domain.js'
import type { Vcpu } from '../../domain/vcpu.js'
import { Errno, type Outcome, refuse } from '../../errno.js'
import { virqClass, virqName } from '../../host/virq.js'
import type { World } from '../../host/world.js'
import { refusedByPolicy } from '../../host/xsm.js'
import { noPort } from '../parts.js'

const { EPERM, EBUSY, EEXIST, EINVAL } = Errno

/** The two ends of a port that waits. `remote` is undefined while no domain has the number. */
export interface UnboundEnds {
  caller: Domain
  /** The domain whose port it is. */
  target: Domain
  remoteDomid: number
  remote: Domain | undefined
}

/** May `caller` have a port in `target` that waits for another domain? The policy decides (EC-unbound-3, EC-xen-1). */
export function mayAllocUnbound({ xsm }: World, { caller, target, remoteDomid, remote }: UnboundEnds): Outcome {
  const verdict = xsm.evtchnUnbound(caller, target, remote)
  if (!verdict) return 0
  return refusedByPolicy(xsm, verdict, caller, () => `allocate in d${target.domid} for d${remoteDomid}`)
}

/** Does this port wait for the domain `domid`? (EC-inter-3…5) */
export function awaits(remote: Domain, remotePort: number, domid: number): Outcome {
  const { ports } = remote
  if (!ports.isValid(remotePort) || ports.state(remotePort) !== ECS.UNBOUND) return noPort(remote, remotePort)
  const awaited = ports.remoteDomid(remotePort)
  return awaited === domid ? 0 : refuse(EINVAL, () => `port ${remotePort} of d${remote.domid} awaits d${awaited}`)
}

/** May `local` connect to a port of `remote` that waits for it? The policy decides. */
export function mayBindInterdomain({ xsm }: World, local: Domain, remote: Domain): Outcome {
  const verdict = xsm.evtchnInterdomain(local, remote)
  return verdict ? refusedByPolicy(xsm, verdict, local, () => `bind to d${remote.domid}`) : 0
}

/** A VIRQ to bind on `vcpu`. `handles`: the domain is its handler domain, or will be; asked of global ones only. */
export interface VirqToBind {
  domain: Domain
  vcpu: Vcpu
  virq: number
  handles: boolean
}

/** May this VIRQ be bound? A global one by its handler domain only (EC-virq-4), each once (EC-virq-5). */
export function mayBindVirq({ domain, vcpu, virq, handles }: VirqToBind): Outcome {
  if (virqClass(virq) === 'global' && !handles)
    return refuse(EBUSY, () => `d${domain.domid} is not the handler domain of ${virqName(virq)}`)
  const port = vcpu.virqPort(virq)
  if (!port) return 0
  return refuse(EEXIST, () => `${virqName(virq)} is bound to port ${port} on d${domain.domid}v${vcpu.vcpuId}`)
}

/** Does the domain have this PIRQ, and access to it? Whether the host's line is free, `IrqLines.mayBind` says. */
export function mayUsePirq(domain: Domain, irq: number): Outcome {
  const { nrPirqs, permitted } = domain.pirqs
  if (irq >= nrPirqs) return refuse(EINVAL, () => `d${domain.domid} has PIRQs below ${nrPirqs}, not ${irq}`)
  return domain.type === 'hvm' || domain.privileged || permitted.has(irq)
    ? 0
    : refuse(EPERM, () => `d${domain.domid} has no access to PIRQ ${irq}`)
}
