/** From a handle to the object behind it: whom a call of the embedder is about. */

import { ParameterError } from '../check.js'
import type { Domain as InnerDomain } from '../domain/domain.js'
import { type Domain, insideDomain, insideVcpu, type Vcpu } from '../domain/handles.js'
import type { Vcpu as InnerVcpu } from '../domain/vcpu.js'
import { Errno, XenError } from '../errno.js'
import type { Domains } from './domains.js'

/** The domain behind a handle, which may be gone. @throws ParameterError for what is no handle */
export function domainBehind(call: string, handle: Domain, name = 'domain'): InnerDomain {
  const domain = insideDomain(handle)
  if (!domain) throw new ParameterError(call, name, handle, 'a Domain, from createDomain or domain(domid)')
  return domain
}

/** The same for a domain that must be on the host. @throws XenError ESRCH if it is not */
export function domainOn(domains: Domains, call: string, handle: Domain, name = 'domain'): InnerDomain {
  const domain = domainBehind(call, handle, name)
  if (domains.get(domain.domid) !== domain)
    throw new XenError(call, Errno.ESRCH, `d${domain.domid} is not on this host, or not any more`)
  return domain
}

/** The vCPU behind a handle; its domain may be gone. @throws ParameterError for what is no handle */
export function vcpuBehind(call: string, handle: Vcpu): InnerVcpu {
  const vcpu = insideVcpu(handle)
  if (!vcpu) throw new ParameterError(call, 'vcpu', handle, 'a vCPU of a domain')
  return vcpu
}
