/** HYPERVISOR_hvm_op, HVM parameters, and how an HVM guest wants to be upcalled (EC-up-9, EC-up-10, EC-hvm). */

import {
  HVM_NR_PARAMS,
  HVM_PARAM,
  HVM_PARAM_CALLBACK_IRQ,
  HVM_PARAMS,
  HVM_UPCALL_VECTOR,
  HVMOP,
  hvmParamName,
} from '../abi/hvm.js'
import { FIRST_UPCALL_VECTOR } from '../abi/limits.js'
import { decode } from '../abi/struct.js'
import type { Caller, Domain } from '../domain/domain.js'
import { publishCallable } from '../domain/record.js'
import { upcallDeliverable } from '../domain/upcall.js'
import { Errno, type Outcome, Refusal, refuse } from '../errno.js'
import type { World } from '../host/world.js'
import { ofClassTarget } from '../host/xsm.js'
import { domainByAnyId, noDomain, notKnown, noVcpu } from './parts.js'

const { EPERM, EAGAIN, EEXIST, EFAULT, EINVAL } = Errno

/** Dispatches an hvm_op. */
export function hvmOp(world: World, caller: Caller, cmd: number, gva: number): Outcome {
  switch (cmd) {
    case HVMOP.set_evtchn_upcall_vector:
      return setUpcallVector(caller, gva)
    case HVMOP.set_param:
      return setParam(world, caller, gva)
    case HVMOP.get_param:
      return getParam(world, caller, gva)
    default:
      return notKnown(() => `hvm_op ${cmd} does not exist`)
  }
}

function setUpcallVector({ domain, vcpu: by }: Caller, gva: number): Outcome {
  if (domain.type !== 'hvm') return refuse(EINVAL, () => `d${domain.domid} is not an HVM guest`)
  const bytes = new Uint8Array(HVM_UPCALL_VECTOR.size)
  if (!domain.memory.copyIn(by.vcpuId, gva, bytes, bytes.length)) return refuse(EFAULT, 'the argument cannot be read')
  const args = decode(HVM_UPCALL_VECTOR, new DataView(bytes.buffer))
  if (args.vector < FIRST_UPCALL_VECTOR)
    return refuse(EINVAL, () => `vector ${args.vector} is below ${FIRST_UPCALL_VECTOR}`)
  const vcpu = domain.vcpus[args.vcpu]
  if (!vcpu) return noVcpu(domain, args.vcpu)
  vcpu.upcallVector = args.vector
  publishCallable(domain)
  if (upcallDeliverable(domain, vcpu)) domain.kick(vcpu)
  return 0
}

/** A parameter of a domain, and the struct that named it. */
interface Param {
  domain: Domain
  index: number
  bytes: Uint8Array
  view: DataView
}

/** Offset of the value in struct xen_hvm_param. */
const VALUE = HVM_PARAM.fields.value_low.offset

/**
 * Whom and what a struct names. Another domain's parameters are open to its stub device model and to control domains; of
 * its own a guest may set and get those that the table says (EC-hvm-2).
 */
function readParam(world: World, caller: Caller, gva: number, what: 'set' | 'get'): Param | Refusal {
  const bytes = new Uint8Array(HVM_PARAM.size)
  const view = new DataView(bytes.buffer)
  if (!caller.domain.memory.copyIn(caller.vcpu.vcpuId, gva, bytes, bytes.length))
    return refuse(EFAULT, 'the argument cannot be read')
  const { index, domid } = decode(HVM_PARAM, view)
  if (index >= HVM_NR_PARAMS) return refuse(EINVAL, () => `there is no HVM parameter ${index}`)
  const domain = domainByAnyId(world, caller.domain, domid)
  if (!domain) return noDomain(domid)
  if (domain.type !== 'hvm') return refuse(EINVAL, () => `d${domain.domid} is not an HVM guest`)
  if (ofClassTarget(caller.domain, domain))
    return refuse(EPERM, () => `d${caller.domain.domid} may not do this to d${domain.domid}`)
  const name = hvmParamName(index)
  if (!name) return refuse(EINVAL, () => `HVM parameter ${index} is not kept here`)
  if (caller.domain === domain && !HVM_PARAMS[name][what])
    return refuse(EPERM, () => `d${domain.domid} may not ${what} its HVM_PARAM_${name}`)
  return { domain, index, bytes, view }
}

function setParam(world: World, caller: Caller, gva: number): Outcome {
  const param = readParam(world, caller, gva, 'set')
  if (param instanceof Refusal) return param
  const { domain, index, view } = param
  if (domain.frozen === 'saved') return refuse(EAGAIN, () => `d${domain.domid} is frozen for its migration`)
  return storeParam(domain, index, view.getBigUint64(VALUE, true))
}

/** Keeps a value. The callback's is read at every upcall, so delivery is evaluated again for every online vCPU (EC-up-9). */
export function storeParam(domain: Domain, index: number, value: bigint): Outcome {
  // As in Xen: once altp2m is on, it stays what it is.
  const kept = domain.hvmParams.get(index)
  if (index === HVM_PARAMS.ALTP2M.index && kept && kept !== value)
    return refuse(EEXIST, () => `HVM_PARAM_ALTP2M of d${domain.domid} is ${kept} already`)
  domain.hvmParams.set(index, value)
  if (index !== HVM_PARAM_CALLBACK_IRQ) return 0
  publishCallable(domain)
  for (const vcpu of domain.vcpus) if (upcallDeliverable(domain, vcpu)) domain.kick(vcpu)
  return 0
}

function getParam(world: World, caller: Caller, gva: number): Outcome {
  const param = readParam(world, caller, gva, 'get')
  if (param instanceof Refusal) return param
  const { domain, index, bytes, view } = param
  view.setBigUint64(VALUE, domain.hvmParams.get(index), true)
  return caller.domain.memory.copyOut(caller.vcpu.vcpuId, gva, bytes, bytes.length)
    ? 0
    : refuse(EFAULT, 'the value cannot be written')
}
