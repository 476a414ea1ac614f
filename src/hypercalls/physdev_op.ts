/** HYPERVISOR_physdev_op, the commands that concern event channels: EOI and interrupt state of PIRQs (spec 6.2). */

import { PAGE_SIZE } from '../abi/index.js'
import { NR_ISA_IRQS, PHYSDEVOP, XENIRQSTAT_needs_eoi, XENIRQSTAT_shared } from '../abi/physdev.js'
import type { Caller } from '../domain/domain.js'
import { deliverPirq } from '../domain/pirq_list.js'
import { Errno, type Outcome, refuse } from '../errno.js'
import type { World } from '../host/world.js'
import { frameRefs } from '../machine/memory.js'
import { notKnown } from './parts.js'

const { EFAULT, EINVAL, EBUSY, ENOSPC } = Errno

/** Dispatches a physdev_op. */
export function physdevOp(world: World, caller: Caller, cmd: number, gva: number): Outcome {
  switch (cmd) {
    case PHYSDEVOP.eoi:
      return eoi(world, caller, gva)
    case PHYSDEVOP.irq_status_query:
      return irqStatusQuery(world, caller, gva)
    case PHYSDEVOP.pirq_eoi_gmfn_v1:
    case PHYSDEVOP.pirq_eoi_gmfn_v2:
      return registerEoiMap(caller, gva, cmd === PHYSDEVOP.pirq_eoi_gmfn_v1)
    default:
      return notKnown(() => `physdev_op ${cmd} does not exist`)
  }
}

const readU32 = ({ domain, vcpu }: Caller, gva: number): number => domain.memory.readU32(vcpu.vcpuId, gva)

/** PHYSDEVOP_eoi (EC-irq-4). A level line that is still asserted fires again. */
function eoi(world: World, caller: Caller, gva: number): Outcome {
  const { domain } = caller
  const irq = readU32(caller, gva)
  if (irq < 0) return refuse(EFAULT, 'the argument cannot be read')
  if (irq >= domain.pirqs.nrPirqs) return refuse(EINVAL, () => `PIRQs are below ${domain.pirqs.nrPirqs}, not ${irq}`)
  return domain.eventLock.read(() => {
    const pirq = domain.pirqs.find(irq)
    if (!pirq) return refuse(EINVAL, () => `PIRQ ${irq} has never been bound`)
    if (domain.pirqs.autoUnmask && pirq.port) domain.unmask(pirq.port)
    pirq.inFlight = false
    const level = domain.type === 'pv' || irq >= NR_ISA_IRQS
    if (pirq.port && level && world.irqs.isAsserted(irq)) deliverPirq(domain, irq)
    return 0
  })
}

/** PHYSDEVOP_irq_status_query {irq, flags OUT} (EC-irq-5): always needs_eoi. */
function irqStatusQuery(world: World, caller: Caller, gva: number): Outcome {
  const { domain, vcpu } = caller
  const irq = readU32(caller, gva)
  if (irq < 0) return refuse(EFAULT, 'the argument cannot be read')
  if (irq >= domain.pirqs.nrPirqs) return refuse(EINVAL, () => `PIRQs are below ${domain.pirqs.nrPirqs}, not ${irq}`)
  const flags = XENIRQSTAT_needs_eoi | (world.irqs.isShared(irq) ? XENIRQSTAT_shared : 0)
  const bytes = new Uint8Array([flags, 0, 0, 0])
  return domain.memory.copyOut(vcpu.vcpuId, gva + 4, bytes, 4) ? 0 : refuse(EFAULT, 'flags cannot be written')
}

/** PHYSDEVOP_pirq_eoi_gmfn_v1, _v2 {gmfn}: a page as a bitmap by PIRQ (EC-irq-3). */
function registerEoiMap({ domain, vcpu }: Caller, gva: number, autoUnmask: boolean): Outcome {
  const wide = domain.bits === 64
  const bytes = new Uint8Array(8)
  if (!domain.memory.copyIn(vcpu.vcpuId, gva, bytes, wide ? 8 : 4)) return refuse(EFAULT, 'the argument cannot be read')
  const view = new DataView(bytes.buffer)
  const gfn = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true)
  const page = domain.memory.frame(gfn)
  if (page < 0) return refuse(EINVAL, () => `frame ${gfn} is not writable RAM of d${domain.domid}`)
  if (domain.pirqs.eoiMapGfn >= 0) return refuse(EBUSY, 'an EOI map is registered')
  if (domain.pirqs.nrPirqs > PAGE_SIZE * 8) return refuse(ENOSPC, 'the map does not fit a page')
  frameRefs(domain.memory).hold(gfn)
  domain.pirqs.eoiMap = page
  domain.pirqs.eoiMapGfn = gfn
  domain.pirqs.autoUnmask = autoUnmask
  return 0
}
