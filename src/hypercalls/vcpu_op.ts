/** HYPERVISOR_vcpu_op, the commands that concern events: where vcpu_info lives, and whether a vCPU is online (spec 1.6). */

import { PAGE_SIZE, SHUTDOWN, sharedInfo, VCPU_INFO_SIZE, VCPUOP } from '../abi/index.js'
import { decode } from '../abi/struct.js'
import { REGISTER_VCPU_INFO } from '../abi/vcpu.js'
import type { Caller, Domain } from '../domain/domain.js'
import { activate } from '../domain/nlevel.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Errno, type Outcome, type Refusal, refuse } from '../errno.js'
import { frameRefs } from '../machine/memory.js'
import { notKnown, noVcpu } from './parts.js'
import type { SchedWorld } from './sched_op.js'

const { EFAULT, EINVAL, EBUSY, ENXIO, EACCES, ENOSYS } = Errno

/** Dispatches a vcpu_op for vCPU `vcpuId`. */
export function vcpuOp(world: SchedWorld, caller: Caller, cmd: number, vcpuId: number, gva: number): number | Refusal {
  const { domain } = caller
  const vcpu = domain.vcpus[vcpuId]
  if (!vcpu) return noVcpu(domain, vcpuId)
  switch (cmd) {
    case VCPUOP.initialise:
      if (domain.type === 'pv' && vcpu.onDummy) return refuse(EINVAL, 'its vcpu_info is not registered') // EC-vi-3
      return refuse(ENOSYS, 'this hypervisor runs no instructions')
    case VCPUOP.up:
      if (domain.type === 'pv' && vcpu.onDummy) return refuse(EINVAL, 'its vcpu_info is not registered')
      domain.bringUp(vcpu)
      return 0
    case VCPUOP.down:
      // A domain without a vCPU that is up is off; its last vCPU stays up, so that the domain can be resumed.
      if (domain.vcpus.every((other) => other === vcpu || other.down)) world.shutdown(domain, SHUTDOWN.poweroff)
      else vcpu.down = true
      return 0
    case VCPUOP.is_up:
      return vcpu.down ? 0 : 1
    case VCPUOP.register_vcpu_info:
      return registerVcpuInfo(caller, vcpu, gva)
    default:
      return notKnown(() => `vcpu_op ${cmd} does not exist`)
  }
}

/** VCPUOP_register_vcpu_info for `vcpu`, checks EC-vi-5…12. The argument is the caller's. */
function registerVcpuInfo(caller: Caller, vcpu: Vcpu, gva: number): Outcome {
  const { domain } = caller
  const bytes = new Uint8Array(REGISTER_VCPU_INFO.size)
  if (!domain.memory.copyIn(caller.vcpu.vcpuId, gva, bytes, bytes.length))
    return refuse(EFAULT, 'the argument cannot be read')
  const args = decode(REGISTER_VCPU_INFO, new DataView(bytes.buffer))
  const offset = args.offset
  const mfn = args.mfn
  if (offset >= PAGE_SIZE || mfn >= 2 ** 52) return refuse(EINVAL, () => `offset ${offset} is not within the frame`)
  if (vcpu.infoGfn >= 0) return refuse(EBUSY, () => `d${domain.domid}v${vcpu.vcpuId} has its vcpu_info registered`)
  if (offset > PAGE_SIZE - VCPU_INFO_SIZE) return refuse(ENXIO, () => `64 bytes at offset ${offset} cross a page`)
  const align = domain.eventBits / 8
  if (offset % align) return refuse(ENXIO, () => `offset ${offset} is not a multiple of ${align}`)
  if (mfn >= domain.memory.frames) return refuse(EINVAL, () => `frame ${mfn} is not RAM of d${domain.domid}`)
  const frame = domain.memory.frame(mfn)
  if (frame < 0) return refuse(EACCES, () => `frame ${mfn} is not writable`)
  moveVcpuInfo(domain, vcpu, frame + offset, mfn)
  return 0
}

/**
 * Fills the new area, switches to it, then makes the guest look at every channel once: level 1 all ones, events pending
 * (EC-vi-14, -15). On an N-level domain the dummy was the last missing level (NL-vi-1).
 */
function moveVcpuInfo(domain: Domain, vcpu: Vcpu, to: number, gfn: number): void {
  const { core, memory } = domain
  const fromDummy = vcpu.onDummy
  // An event that is raised between the copy and the switch would be marked in the area that is left.
  domain.hostCore.lock.exclude()
  for (let i = 0; i < VCPU_INFO_SIZE; i++) memory.poke8(to + i, fromDummy ? 0 : memory.peek8(vcpu.info + i))
  frameRefs(memory).hold(gfn)
  vcpu.info = to
  vcpu.infoGfn = gfn
  domain.hostCore.lock.admit()
  if (fromDummy) vcpu.setUpcallMask(1)
  const bits = domain.eventBits
  if (domain.nlevel) {
    if (fromDummy && vcpu.recorded) {
      activate(domain, vcpu)
      return
    }
  } else vcpu.activeDepth = 2
  core.fillBits(to + sharedInfo(bits).sel, bits)
  domain.markEventsPending(vcpu)
}
