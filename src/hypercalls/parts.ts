/** What the event channel operations share: whom and what an argument names, event locks, and the next free port. */

import { DOMID_SELF } from '../abi/index.js'
import { frozenText } from '../domain/config.js'
import type { Domain } from '../domain/domain.js'
import { ABI_OWN } from '../domain/port_ops.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Errno, type Outcome, Refusal, refuse } from '../errno.js'
import type { World } from '../host/world.js'

const { ENOENT, ESRCH, EAGAIN, ENOMEM, EBUSY, EINVAL, ENOSPC, ENOSYS } = Errno

const STATE_NAMES = ['free', 'reserved', 'unbound', 'interdomain', 'bound to a PIRQ', 'bound to a VIRQ', 'an IPI']

/** `port N of dD is unbound`, for messages: what the port is now, as text to be built later. */
export function describePort({ domid, ports }: Domain, port: number): () => string {
  if (!ports.isValid(port)) return () => `port ${port} of d${domid} does not exist`
  const attached = ports.consumer(port) !== 0
  const state = ports.state(port)
  return () => `port ${port} of d${domid} is ${attached ? 'attached to Xen and ' : ''}${STATE_NAMES[state]}`
}

/** DOMID_SELF is the caller, anything else is looked up (EC-lay-1). */
export function domainByAnyId(world: World, caller: Domain, domid: number): Domain | undefined {
  return domid === DOMID_SELF ? caller : world.domainById(domid)
}

/** May a vCPU of this domain make hypercalls? ESRCH if the domain dies or is gone, EAGAIN if it is frozen. */
export function mayCall(vcpu: Vcpu, domain: Domain | undefined): Outcome {
  if (domain?.dying !== 'alive') {
    const state = domain?.dying ?? 'gone'
    return refuse(ESRCH, () => `d${vcpu.domid} is ${state}`)
  }
  return domain.frozen ? refuse(EAGAIN, frozenText(domain)) : 0
}

/** ENOSYS for a hypercall, or an operation of one, that this library does not know: the embedder may (fall_through.ts). */
export class NotKnown extends Refusal {}

/** The same, with what was asked. */
export const notKnown = (text: () => string): NotKnown => new NotKnown(ENOSYS, text)

/** ESRCH: no such domain. */
export const noDomain = (domid: number) => refuse(ESRCH, () => `there is no domain ${domid}`)
/** EINVAL: what the port is instead. */
export const noPort = (domain: Domain, port: number) => refuse(EINVAL, describePort(domain, port))
/** ENOENT: no such vCPU. */
export const noVcpu = (domain: Domain, vcpu: number) =>
  refuse(ENOENT, () => `d${domain.domid} has vCPUs 0 to ${domain.vcpus.length - 1}, not ${vcpu}`)

/** EBUSY: an N-level domain stays one until it is reset. */
export const hasLevels = ({ domid }: Domain, levels: number) =>
  refuse(EBUSY, () => `d${domid} has ${levels} levels already`)

/** EBUSY if the domain is on words of an own ABI: only a reset leads back. 0 otherwise. */
export const onOwnWords = ({ domid, portOps }: Domain): Outcome =>
  portOps.abi === ABI_OWN ? refuse(EBUSY, () => `d${domid} is on words of its own ABI; a reset leads back`) : 0

/** Takes both domains' event locks for writing: ascending ids, one domain once (EC-lock-1). All or nothing; `unlockBoth` follows. */
export function lockBoth(a: Domain, b: Domain): void {
  const first = a.domid < b.domid ? a : b
  const second = first === a ? b : a
  first.eventLock.acquireWrite()
  if (first === second) return
  try {
    second.eventLock.acquireWrite()
  } catch (error) {
    first.eventLock.releaseWrite()
    throw error
  }
}

/** Releases what `lockBoth` took. */
export function unlockBoth(a: Domain, b: Domain): void {
  a.eventLock.releaseWrite()
  if (a !== b) b.eventLock.releaseWrite()
}

/**
 * The lowest free port, taken (EC-port-14…17), or why there is none. Cost O(table depth), not O(ports) (NL-port-1). The caller
 * holds the event lock and either gives the port a state or gives it back (EC-port-18).
 */
export function getFreePort(domain: Domain): number | Refusal {
  // From outside, for its own vCPUs stand still: a port that its saved state does not have would be lost.
  if (domain.dying !== 'alive' || domain.frozen === 'saved') return opensNone(domain)
  let port = domain.ports.lowestFree(1)
  // Closed but still linked on a queue: not free yet (EC-port-11, EC-bug-7).
  while (domain.ports.isValid(port) && domain.portOps.isBusy?.(port)) port = domain.ports.lowestFree(port + 1)
  if (port > domain.maxEvtchnPort || port >= domain.maxEvtchns) return isFull(domain)
  if (!domain.ports.grow(port)) return noMemory(domain, port)
  domain.ports.take(port)
  return port
}

/**
 * Shuts senders on other threads out for the effects of an operation: the channel locks, for writing (EC-lock-2). `port` was
 * taken for it, and is given back if a thread does not leave. `domain.hostCore.lock.admit` follows.
 */
export function excludeFor(domain: Domain, port: number): void {
  try {
    domain.hostCore.lock.exclude()
  } catch (error) {
    domain.ports.giveBack(port)
    throw error
  }
}

// In functions of their own: one that holds a function with captured variables makes garbage whenever it is called.

function opensNone({ domid, dying }: Domain): Refusal {
  if (dying !== 'alive') return refuse(EINVAL, () => `d${domid} is dying`)
  return refuse(EAGAIN, () => `d${domid} is frozen for its migration`)
}

function isFull({ domid, maxEvtchnPort, maxEvtchns }: Domain): Refusal {
  const limit = Math.min(maxEvtchnPort, maxEvtchns - 1)
  return refuse(ENOSPC, () => `d${domid} has no free port: all up to ${limit}, its limit, are taken`)
}

const noMemory = ({ domid }: Domain, port: number): Refusal =>
  refuse(ENOMEM, () => `there is no memory for port ${port} of d${domid}`)
