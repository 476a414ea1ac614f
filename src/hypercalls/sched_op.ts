/** HYPERVISOR_sched_op, the commands that concern events: yield, block, shutdown, poll (spec 6.4; xen/common/sched/core.c). */

import { POLL_MAX_PORTS, SCHEDOP } from '../abi/index.js'
import type { Caller } from '../domain/domain.js'
import { upcallDeliverable } from '../domain/upcall.js'
import { Errno, type Outcome, refuse } from '../errno.js'
import type { World } from '../host/world.js'
import type { Seam } from '../trace/index.js'
import { describePort, notKnown } from './parts.js'

const { EFAULT, EINVAL } = Errno

/** Timers of polls: absolute system time in ns. */
export interface PollTimers {
  /** Ends the poll of this vCPU at `ns` at the latest, in place of any earlier time; 0 = no time-out. */
  arm(caller: Caller, ns: bigint): void
}

/** What sched_op needs beside the world. */
export interface SchedWorld extends World {
  /** Where calls are watched and refused on request; most hosts have none. */
  readonly seam: Seam | undefined
  readonly pollTimers: PollTimers
  shutdown(domain: Caller['domain'], reason: number): void
}

/** Dispatches a sched_op. `gva` points to the argument. */
export function schedOp(world: SchedWorld, caller: Caller, cmd: number, gva: number): Outcome {
  switch (cmd) {
    case SCHEDOP.yield:
      return 0
    case SCHEDOP.block:
      return block(world, caller)
    case SCHEDOP.shutdown: {
      const bytes = new Uint8Array(4)
      if (!caller.domain.memory.copyIn(caller.vcpu.vcpuId, gva, bytes, 4))
        return refuse(EFAULT, 'the reason cannot be read')
      world.shutdown(caller.domain, new DataView(bytes.buffer).getUint32(0, true))
      return 0
    }
    case SCHEDOP.poll:
      return poll(world, caller, gva)
    default:
      return notKnown(() => `sched_op ${cmd} does not exist`)
  }
}

/**
 * Unmasks upcalls (PV) and blocks only if none is deliverable (EC-up-7). A vCPU that makes a hypercall runs, so an
 * earlier poll of it is over, and so is the poll's time-out (EC-poll-14).
 */
function block(world: SchedWorld, caller: Caller): 0 {
  const { domain, vcpu } = caller
  domain.endPoll(vcpu)
  world.pollTimers.arm(caller, 0n)
  if (domain.type === 'pv') vcpu.setUpcallMask(0)
  if (!upcallDeliverable(domain, vcpu)) vcpu.blocked = true
  return 0
}

/** SCHEDOP_poll: 0 for event, upcall and time-out alike (EC-poll-11). */
function poll(world: SchedWorld, caller: Caller, gva: number): Outcome {
  const { domain, vcpu } = caller
  const wide = domain.bits === 64
  const bytes = new Uint8Array(wide ? 24 : 16)
  const view = new DataView(bytes.buffer)
  if (!domain.memory.copyIn(vcpu.vcpuId, gva, bytes, bytes.length))
    return refuse(EFAULT, 'struct sched_poll cannot be read')
  const portsGva = wide ? view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true) : view.getUint32(0, true)
  const nrPorts = view.getUint32(wide ? 8 : 4, true)
  const timeoutNs = view.getBigUint64(wide ? 16 : 8, true)
  if (nrPorts > POLL_MAX_PORTS) return refuse(EINVAL, () => `${nrPorts} ports are more than ${POLL_MAX_PORTS}`)
  if (!domain.memory.accessible(vcpu.vcpuId, portsGva, nrPorts * 4, false))
    return refuse(EFAULT, 'the ports cannot be read')
  return pollPorts(world, caller, nrPorts, timeoutNs, (i) => {
    const port = new Uint8Array(4)
    const there = domain.memory.copyIn(vcpu.vcpuId, portsGva + i * 4, port, 4)
    return there ? new DataView(port.buffer).getUint32(0, true) : -1
  })
}

/** The poll proper; `portAt` returns the i-th port, or -1 for EFAULT. */
function pollPorts(
  world: SchedWorld,
  caller: Caller,
  nrPorts: number,
  timeoutNs: bigint,
  portAt: (i: number) => number,
): Outcome {
  const { domain, vcpu } = caller
  // The marks come before the first look: an event between look and sleep finds them (EC-poll-4).
  domain.startPoll(vcpu, -1)
  world.pollTimers.arm(caller, 0n)
  const early = (outcome: Outcome) => {
    domain.endPoll(vcpu)
    return outcome
  }
  if (upcallDeliverable(domain, vcpu)) return early(0)
  let only = -1
  for (let i = 0; i < nrPorts; i++) {
    const port = portAt(i)
    if (port < 0) return early(refuse(EFAULT, () => `port ${i} of the list cannot be read`))
    if (!domain.ports.isValid(port) || !domain.ports.isUsable(port))
      return early(refuse(EINVAL, describePort(domain, port)))
    if (domain.isPending(port)) return early(0)
    only = port
  }
  if (nrPorts === 1) domain.startPoll(vcpu, only)
  if (timeoutNs) world.pollTimers.arm(caller, timeoutNs)
  return 0
}
