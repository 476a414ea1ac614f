/**
 * The operations of the FIFO ABI: init_control, expand_array, set_priority (spec 2.16, 4.1, 4.2; xen/common/event_fifo.c).
 * The first init_control of a domain makes it a FIFO domain, all or nothing; only a reset or death leads back.
 */

import {
  CONTROL_BLOCK,
  EVTCHN_FIFO_LINK_BITS,
  EVTCHN_FIFO_MAX_PAGES,
  EVTCHN_FIFO_MAX_QUEUES,
  EVTCHN_FIFO_PRIORITY_DEFAULT,
  EVTCHN_FIFO_WORDS_PER_PAGE,
  type OpArgs,
  PAGE_SIZE,
} from '../../abi/index.js'
import type { Caller, Domain } from '../../domain/domain.js'
import { FifoState } from '../../domain/fifo.js'
import { Errno, type Outcome, refuse } from '../../errno.js'
import type { World } from '../../host/world.js'
import { ifMemory } from '../../machine/buffers.js'
import { describePort, hasLevels, noVcpu, onOwnWords } from '../parts.js'

const { ENOMEM, EACCES, EINVAL, ENOSPC, ENOSYS, EOPNOTSUPP } = Errno

const MAX_OFFSET = PAGE_SIZE - CONTROL_BLOCK.size

/** EOPNOTSUPP on a host without FIFO, and for a domain that may not have it: it sees no difference (EC-op-6). */
function mayHaveFifo(world: World, domain: Domain): Outcome {
  if (!world.limits.fifo) return refuse(EOPNOTSUPP, 'this hypervisor has no FIFO event channels')
  return domain.nlevelLimits.fifoAllowed
    ? 0
    : refuse(EOPNOTSUPP, () => `d${domain.domid} may not have FIFO event channels`)
}

/** EVTCHNOP_init_control (11), checks EC-init-2…8; NL-op-1 on an N-level domain. */
export function initControl(world: World, { domain }: Caller, args: OpArgs<'init_control'>): Outcome {
  const none = mayHaveFifo(world, domain)
  if (none) return none
  const vcpuId = args.vcpu
  const gfn = args.control_gfn
  const offset = args.offset
  if (!domain.vcpus[vcpuId]) return noVcpu(domain, vcpuId)
  if (offset > MAX_OFFSET || offset % 8)
    return refuse(EINVAL, () => `offset ${offset} is not a multiple of 8 up to ${MAX_OFFSET}`)
  if (domain.nlevel) return hasLevels(domain, domain.nlevel.levels)
  const own = onOwnWords(domain)
  if (own) return own
  return domain.eventLock.write(() => {
    // Nothing is the domain's before all checks are passed: a first call that fails leaves no trace (EC-XSA-188).
    const state = domain.fifo ?? ifMemory(() => new FifoState(domain.hostCore.memory, domain.vcpus.length))
    if (!state) return refuse(ENOMEM, () => `there is no memory for the queues of d${domain.domid}`)
    const mapped = state.controlBlock(vcpuId)
    if (mapped)
      return refuse(EINVAL, () => `d${domain.domid}v${vcpuId} has its control block in frame ${mapped.gfn} already`)
    const frame = domain.memory.frame(gfn)
    if (frame < 0) {
      if (state !== domain.fifo) state.dispose()
      return refuse(EINVAL, () => `frame ${gfn} is not writable RAM of d${domain.domid}`)
    }
    domain.hostCore.lock.write(() => {
      state.mapBlock(domain.memory, vcpuId, { gfn, offset }, frame + offset)
      if (state === domain.fifo) return
      setUpPorts(domain)
      domain.enterFifo(state)
    })
    args.link_bits = EVTCHN_FIFO_LINK_BITS
    return 0
  })
}

/** Existing ports move over: pending two-level events are remembered, priorities begin at 7 (EC-init-13). */
function setUpPorts(domain: Domain): void {
  const { ports, portOps } = domain
  const end = Math.min(ports.validEvtchns, portOps.maxEvtchns)
  for (let port = 1; port < end; port++) {
    if (portOps.isPending(port)) ports.setSavedPending(port)
    ports.setPriority(port, EVTCHN_FIFO_PRIORITY_DEFAULT)
  }
}

/** EVTCHNOP_expand_array (12), checks EC-expand-2…4; the first under the lock, for a reset may come between (EC-XSA-505). */
export function expandArray(world: World, { domain }: Caller, args: OpArgs<'expand_array'>): Outcome {
  const none = mayHaveFifo(world, domain)
  if (none) return none
  const gfn = args.array_gfn
  return domain.eventLock.write(() => {
    const state = domain.fifo
    if (!state) return refuse(EOPNOTSUPP, () => `d${domain.domid} is not on the FIFO ABI`)
    if (state.nrPages === EVTCHN_FIFO_MAX_PAGES)
      return refuse(ENOSPC, () => `the event array of d${domain.domid} has its ${EVTCHN_FIFO_MAX_PAGES} pages`)
    const frame = domain.memory.frame(gfn)
    if (frame < 0) return refuse(EINVAL, () => `frame ${gfn} is not writable RAM of d${domain.domid}`)
    const first = state.nrPages * EVTCHN_FIFO_WORDS_PER_PAGE
    state.addPage(domain.memory, gfn, frame)
    raiseSaved(domain, first)
    return 0
  })
}

/** Raises the remembered events of the new ports, whatever has become of the ports meanwhile (EC-expand-5, -7). */
function raiseSaved(domain: Domain, first: number): void {
  const { ports, portOps } = domain
  const end = Math.min(ports.validEvtchns, first + EVTCHN_FIFO_WORDS_PER_PAGE)
  for (let port = first; port < end; port++) if (ports.savedPending(port)) portOps.setPending(port)
}

/** EVTCHNOP_set_priority (13), checks EC-prio-1…4. A queued event stays where it is (EC-prio-5). */
export function setPriority(_world: World, { domain }: Caller, args: OpArgs<'set_priority'>): Outcome {
  const { port, priority } = args
  const { ports, portOps } = domain
  if (!ports.isValid(port)) return refuse(EINVAL, describePort(domain, port))
  if (!portOps.setPriority) return refuse(ENOSYS, () => `d${domain.domid} is on an ABI without priorities`)
  if (!ports.isUsable(port)) return refuse(EACCES, describePort(domain, port))
  if (!portOps.setPriority(port, priority))
    return refuse(EINVAL, () => `priorities are 0 to ${EVTCHN_FIFO_MAX_QUEUES - 1}, not ${priority}`)
  return 0
}
