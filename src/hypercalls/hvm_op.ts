/** HYPERVISOR_hvm_op as far as events need it: how an HVM guest wants to be called (EC-up-9, EC-up-10). */

import { HVM_NR_PARAMS, HVM_PARAM, HVM_PARAM_CALLBACK_IRQ, HVM_UPCALL_VECTOR, HVMOP } from '../abi/hvm.js'
import { decode } from '../abi/struct.js'
import { upcallDeliverable } from '../domain/upcall.js'
import { Errno } from '../errno.js'
import type { Caller, World } from '../host/world.js'
import { ofClassTarget } from '../host/xsm.js'
import { domainByAnyId } from './parts.js'

const { ENOENT, ESRCH, EAGAIN, EFAULT, EINVAL, ENOSYS } = Errno

/** Dispatches an hvm_op. */
export function hvmOp(world: World, caller: Caller, cmd: number, gva: number): number {
  switch (cmd) {
    case HVMOP.set_evtchn_upcall_vector:
      return setUpcallVector(world, caller, gva)
    case HVMOP.set_param:
    case HVMOP.get_param:
      return param(world, caller, gva, cmd === HVMOP.set_param)
    default:
      return world.fail(ENOSYS, `hvm_op ${cmd} does not exist`)
  }
}

function setUpcallVector(world: World, { domain }: Caller, gva: number): number {
  if (domain.type !== 'hvm') return world.fail(EINVAL, `d${domain.domid} is not an HVM guest`)
  const bytes = new Uint8Array(HVM_UPCALL_VECTOR.size)
  if (!domain.memory.copyIn(gva, bytes, bytes.length)) return world.fail(EFAULT, 'the argument cannot be read')
  const args = decode(HVM_UPCALL_VECTOR, new DataView(bytes.buffer))
  if (args.vector! < 0x10) return world.fail(EINVAL, `vector ${args.vector} is below 0x10`)
  const vcpu = domain.vcpus[args.vcpu!]
  if (!vcpu) return world.fail(ENOENT, `d${domain.domid} has no vCPU ${args.vcpu}`)
  vcpu.upcallVector = args.vector!
  if (upcallDeliverable(domain, vcpu)) domain.kick(vcpu)
  return 0
}

/** Only the callback parameter is kept; another domain's is for its stub device model and control domains. */
function param(world: World, caller: Caller, gva: number, set: boolean): number {
  const bytes = new Uint8Array(HVM_PARAM.size)
  const view = new DataView(bytes.buffer)
  if (!caller.domain.memory.copyIn(gva, bytes, bytes.length)) return world.fail(EFAULT, 'the argument cannot be read')
  const args = decode(HVM_PARAM, view)
  if (args.index! >= HVM_NR_PARAMS) return world.fail(EINVAL, `there is no HVM parameter ${args.index}`)
  const domain = domainByAnyId(world, caller.domain, args.domid!)
  if (!domain) return world.fail(ESRCH, `there is no domain ${args.domid}`)
  if (domain.type !== 'hvm') return world.fail(EINVAL, `d${domain.domid} is not an HVM guest`)
  const refused = ofClassTarget(caller.domain, domain)
  if (refused) return world.fail(-refused, `d${caller.domain.domid} may not do this to d${domain.domid}`)
  if (args.index !== HVM_PARAM_CALLBACK_IRQ) return world.fail(EINVAL, `HVM parameter ${args.index} is not kept here`)
  if (set) {
    if (domain.frozen === 'saved') return world.fail(EAGAIN, `d${domain.domid} is frozen for its migration`)
    domain.callbackVia = view.getBigUint64(8, true)
    // Delivery is evaluated again for every online vCPU.
    for (const vcpu of domain.vcpus) if (upcallDeliverable(domain, vcpu)) domain.kick(vcpu)
    return 0
  }
  view.setBigUint64(8, domain.callbackVia, true)
  return caller.domain.memory.copyOut(gva, bytes, bytes.length) ? 0 : world.fail(EFAULT, 'the value cannot be written')
}
