/**
 * HYPERVISOR_memory_op: an HVM guest says where it wants to see shared_info and the frames of its grant table (spec part 12,
 * EC-map; xen/common/memory.c, xen/arch/x86/mm/p2m.c).
 *
 *     in Xen    the page is Xen's own, and gpfn becomes another name for it
 *     here      a guest's frames are its RAM: the page's bytes move to frame gpfn
 */

import { ADD_TO_PHYSMAP, XENMAPSPACE, XENMEM } from '../abi/memory.js'
import { decode } from '../abi/struct.js'
import type { Caller, Domain } from '../domain/domain.js'
import { placeSharedInfo } from '../domain/placement.js'
import { Errno, type Outcome, refuse } from '../errno.js'
import type { World } from '../host/world.js'
import { ofClassTarget } from '../host/xsm.js'
import { frameRefs } from '../machine/memory.js'
import { domainByAnyId, noDomain, notKnown } from './parts.js'

const { EACCES, EBUSY, EFAULT, EINVAL, ENOSYS, EPERM } = Errno

/** Dispatches a memory_op. */
export function memoryOp(world: World, caller: Caller, cmd: number, gva: number): Outcome {
  if (cmd === XENMEM.add_to_physmap) return addToPhysmap(world, caller, gva)
  return notKnown(() => `memory_op ${cmd} does not exist`)
}

/** XENMEM_add_to_physmap, checks in the order of EC-map-1. */
function addToPhysmap(world: World, { domain: caller, vcpu }: Caller, gva: number): Outcome {
  const layout = ADD_TO_PHYSMAP[caller.bits]
  const bytes = new Uint8Array(layout.size)
  if (!caller.memory.copyIn(vcpu.vcpuId, gva, bytes, bytes.length))
    return refuse(EFAULT, () => `struct ${layout.name} cannot be read`)
  const { domid, space, idx, gpfn } = decode(layout, new DataView(bytes.buffer))
  if (space === XENMAPSPACE.gmfn_foreign) return refuse(ENOSYS, 'foreign frames are mapped by add_to_physmap_batch')
  const domain = domainByAnyId(world, caller, domid)
  if (!domain) return noDomain(domid)
  if (ofClassTarget(caller, domain)) return refuse(EPERM, () => `d${caller.domid} may not do this to d${domain.domid}`)
  if (domain.type !== 'hvm') return refuse(EACCES, () => `d${domain.domid} has no frame numbers of its own`)
  return map(domain, space, idx, gpfn)
}

function map(domain: Domain, space: number, idx: number, gpfn: number): Outcome {
  const { domid, memory, grants } = domain
  const isThere = space === XENMAPSPACE.grant_table ? grants.gfn(idx) === gpfn : domain.sharedInfoGfn === gpfn
  if (space !== XENMAPSPACE.shared_info && space !== XENMAPSPACE.grant_table)
    return refuse(EINVAL, () => `map space ${space} is not here`)
  if (memory.frame(gpfn) < 0) return refuse(EINVAL, () => `frame ${gpfn} is no RAM of d${domid} that may be written`)
  // In Xen two pages would trade places. Here the frame is in use as it is, and would be both.
  if (!isThere && (frameRefs(memory).references(gpfn) || gpfn === domain.sharedInfoGfn))
    return refuse(EBUSY, () => `frame ${gpfn} of d${domid} is in use by the hypervisor`)
  if (space === XENMAPSPACE.grant_table)
    return grants.place(idx, gpfn)
      ? 0
      : refuse(EINVAL, () => `d${domid} may have ${grants.maxFrames} grant frames, no index ${idx}`)
  // A vCPU on a thread of its own remembers where shared_info is.
  if (domain.onThreads && !isThere) return refuse(EBUSY, () => `d${domid} has vCPUs on threads`)
  if (idx !== 0) return refuse(EINVAL, () => `shared_info has one page, no index ${idx}`)
  placeSharedInfo(domain, gpfn)
  return 0
}
