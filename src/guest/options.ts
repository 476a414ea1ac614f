/**
 * What callers may pass to the driver, and the checks of it: a wrong type or range is a ParameterError that names the parameter. What has the
 * right type and may still be refused, such as a number that no domain has, is the hypervisor's to answer.
 */

import { type Args, EVTCHN_STRUCTS, EVTCHNOP, type EvtchnOpName } from '../abi/index.js'
import { integer, object, optional, ParameterError } from '../check.js'
import { GuestMemory } from '../machine/memory.js'
import type { GuestPlatform } from './platform.js'
import type { WantedLevels } from './register.js'

/** Runs for each event of a port; its pending bit is clear by then, so an event raised meanwhile comes again. */
export type EventHandler = (port: number) => void

/** How a handler is bound. */
export interface BindOptions {
  /** What reports call this channel. Default `port N`. */
  name?: string
  /** vCPU that handles it. Default 0. */
  vcpu?: number
  /** 0, the highest, to 15: which of several pending events comes first. On the FIFO ABI only. Default 7. */
  priority?: number
  handler: EventHandler
  /** The channel was made again under another number after a migration. */
  onRebound?: (port: number, oldPort: number) => void
  /** The channel does not exist any more after a migration; `reason` is an errno's name. */
  onLost?: (reason: string, oldPort: number) => void
}

/** Options of boot. */
export interface BootOptions {
  /** Form to ask for: levels, `fifo`, or `best`, the one with the most channels (see WantedLevels). Default 2. */
  levels?: WantedLevels
  /** Leaf pages per bitmap; default as many as the full tree or the host's limit. */
  nrPages?: number
  /** First frame that the driver may use. Default: the one after shared_info. */
  firstFreeGfn?: number
  /** Ports one scan round takes. Default 1024; on FIFO 1, so that an event of higher priority is always next. */
  batch?: number
}

const U32_MAX = 2 ** 32 - 1

/** Leaf pages of the largest tree. */
const MOST_LEAF_PAGES = 1024

/** A machine to boot on, or to go on on. */
export function checkPlatform(call: string, platform: GuestPlatform): GuestPlatform {
  const { memory, vcpus, hypercall } = object(call, 'platform', platform, 'what Hypervisor.platform answers')
  if (!(memory instanceof GuestMemory))
    throw new ParameterError(call, 'platform.memory', memory, 'the GuestMemory of a domain')
  integer(call, 'platform.vcpus', vcpus, 1, 8192)
  if (typeof hypercall !== 'function') throw new ParameterError(call, 'platform.hypercall', hypercall, 'a function')
  return platform
}

/** Options of boot, except for the place of the first frame. */
export function checkBoot(options: BootOptions): BootOptions & { levels: NonNullable<BootOptions['levels']> } {
  const call = 'GuestKernel.boot'
  const { levels = 2, nrPages, batch } = object(call, 'options', options)
  if (batch !== undefined) integer(call, 'batch', batch, 1, 1024)
  if (nrPages !== undefined) integer(call, 'nrPages', nrPages, 1, MOST_LEAF_PAGES)
  if (![2, 3, 4, 5, 'fifo', 'best'].includes(levels))
    throw new ParameterError(call, 'levels', levels, "2, 3, 4, 5, 'fifo' or 'best'")
  return { ...options, levels }
}

/** How a handler is to be bound; `vcpus` are those of the guest. */
export function checkBinding(call: string, options: BindOptions, vcpus: number): BindOptions {
  const { name, vcpu, priority, handler, onRebound, onLost } = object(call, 'options', options)
  if (typeof handler !== 'function') throw new ParameterError(call, 'handler', handler, 'a function')
  if (name !== undefined && typeof name !== 'string') throw new ParameterError(call, 'name', name, 'a text')
  if (vcpu !== undefined) integer(call, 'vcpu', vcpu, 0, vcpus - 1)
  if (priority !== undefined) integer(call, 'priority', priority, 0, 15)
  optional(call, 'onRebound', onRebound, 'function')
  optional(call, 'onLost', onLost, 'function')
  return options
}

/** A domain's number as operations take it, DOMID_SELF and the like included. */
export const checkDomid = (call: string, domid: number): number => integer(call, 'remoteDomid', domid, 0, 0xffff)

/** Any number that a struct's member can hold. */
export const checkU32 = (call: string, name: string, value: number): number => integer(call, name, value, 0, U32_MAX)

/** An operation by name, and its members: each known, and an integer that it can hold. */
export function checkOp(op: EvtchnOpName, args: Args): void {
  const call = 'GuestKernel.op'
  if (typeof op !== 'string' || !Object.hasOwn(EVTCHNOP, op))
    throw new ParameterError(call, 'op', op, Object.keys(EVTCHNOP).join(', '))
  const { fields } = EVTCHN_STRUCTS[op]
  for (const [name, value] of Object.entries(object(`EVTCHNOP_${op}`, 'args', args))) {
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined
    if (!field)
      throw new ParameterError(`EVTCHNOP_${op}`, name, value, `only ${Object.keys(fields).join(', ') || 'no members'}`)
    integer(`EVTCHNOP_${op}`, name, value, 0, field.size === 8 ? Number.MAX_SAFE_INTEGER : 2 ** (8 * field.size) - 1)
  }
}
