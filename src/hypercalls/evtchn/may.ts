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
import { refusedByPolicy, type XsmPolicy } from '../../host/xsm.js'
import { noPort } from '../parts.js'

const { EPERM, EBUSY, EEXIST, EINVAL } = Errno

/**
 * May `caller` have a port in `target` that waits for domain `remoteDomid`? `remote` is undefined while no domain has that
 * number. The policy decides (EC-unbound-3, EC-xen-1).
 */
export function mayAllocUnbound(
  { xsm }: World,
  caller: Domain,
  target: Domain,
  remoteDomid: number,
  remote: Domain | undefined,
): Outcome {
  const verdict = xsm.evtchnUnbound(caller, target, remote)
  return verdict ? mayNotAllocate(xsm, verdict, caller, target.domid, remoteDomid) : 0
}

// Reasons are in functions of their own: one that holds a function with captured variables makes garbage whenever it runs.
const mayNotAllocate = (xsm: XsmPolicy, verdict: number, caller: Domain, domid: number, remoteDomid: number) =>
  refusedByPolicy(xsm, verdict, caller, () => `allocate in d${domid} for d${remoteDomid}`)

/** Does this port wait for the domain `domid`? (EC-inter-3…5) */
export function awaits(remote: Domain, remotePort: number, domid: number): Outcome {
  const { ports } = remote
  if (!ports.isValid(remotePort) || ports.state(remotePort) !== ECS.UNBOUND) return noPort(remote, remotePort)
  const awaited = ports.remoteDomid(remotePort)
  return awaited === domid ? 0 : awaitsAnother(remote.domid, remotePort, awaited)
}

const awaitsAnother = (domid: number, port: number, awaited: number) =>
  refuse(EINVAL, () => `port ${port} of d${domid} awaits d${awaited}`)

/** May `local` connect to a port of `remote` that waits for it? The policy decides. */
export function mayBindInterdomain({ xsm }: World, local: Domain, remote: Domain): Outcome {
  const verdict = xsm.evtchnInterdomain(local, remote)
  return verdict ? mayNotBind(xsm, verdict, local, remote.domid) : 0
}

const mayNotBind = (xsm: XsmPolicy, verdict: number, local: Domain, domid: number) =>
  refusedByPolicy(xsm, verdict, local, () => `bind to d${domid}`)

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
