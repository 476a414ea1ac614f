/**
 * What callers may pass to the driver, and the checks of it. A wrong type or range is a ParameterError that names call and
 * parameter. What has the right type may still be refused by the hypervisor, such as the number of a domain that is gone.
 */

import { MAX_LEAF_PAGES, MAX_VCPUS, U32_MAX } from '../abi/index.js'
import {
  among,
  flag,
  func,
  having,
  integer,
  listOf,
  object,
  options,
  ParameterError,
  type Table,
  text,
  within,
} from '../check.js'
import { GuestMemory } from '../machine/memory.js'
import type { WantedLevels } from './choose.js'
import type { OwnForm } from './form.js'
import type { GuestPlatform } from './platform.js'

/** Runs for each event of a port. Its pending bit is clear by then, so an event raised meanwhile comes again. */
export type EventHandler = (port: number) => void

/** How a port is bound. */
export interface BindOptions {
  /** Without one the port stays masked: it is there to be sent on, or waits for `bindHandler`. */
  handler?: EventHandler
  /** What reports call this channel. Default `port N`. */
  name?: string
  /** vCPU that handles it. Default 0. */
  vcpu?: number
  /** 0, the highest, to 15: which of several pending events comes first. On the FIFO ABI only. Default 7. */
  priority?: number
  /** The channel was made again under another number after a migration. */
  onRebound?: (port: number, oldPort: number) => void
  /** The channel does not exist any more after a migration; `reason` is a sentence. */
  onLost?: (reason: string, oldPort: number) => void
}

/** A function alone is the handler. */
export type HandlerOrOptions = EventHandler | BindOptions

/** Options of boot. */
export interface BootOptions {
  /**
   * Form to ask for: levels, `fifo`, or `best`, the one with the most channels (see WantedLevels). Or a list of forms, the
   * first that can be had, and two levels if none can; an own form is one of them (OwnForm); so `[3, 'fifo', 2]` is three levels, else FIFO, else two. The list
   * holds on resume too. Default `best`: the form with the most channels that the domain may open, at the least cost; so
   * two levels for a domain that may open as many, or fewer.
   */
  levels?: WantedLevels | readonly WantedLevels[]
  /**
   * Refuse to boot rather than fall back to a form that `levels` does not name, or to fewer pages than `nrPages`. A guest
   * that resumes on another host falls back all the same: it runs already. Default false.
   */
  exact?: boolean
  /** Leaf pages per bitmap; default as many as the full tree or the host's limit. */
  nrPages?: number
  /** First frame that the driver may use. Default: the one after shared_info. */
  firstFreeGfn?: number
  /**
   * Resets the domain's event channels first, as a kernel does that another one has started: every port is closed, those of
   * the toolstack too. The earlier kernel must get no upcall any more: it would take the new one's events. Without it a domain whose channels are registered already is refused with EBUSY. Default false.
   */
  reset?: boolean
  /**
   * vCPUs that take part from the beginning, besides vCPU 0. Default: all. The others follow by `GuestKernel.bringUp`, also
   * after the channels were registered: a channel that is bound to one before waits for it.
   */
  upVcpus?: readonly number[]
  /** Ports one scan round takes. Default 1024; on FIFO 1, so that an event of higher priority is always next. */
  batch?: number
}

/** Options of boot with the default of `levels`. */
export type CheckedBootOptions = Readonly<BootOptions & { levels: WantedLevels | readonly WantedLevels[] }>

/** Priority of the FIFO ABI's last queue. */
export const LOWEST_PRIORITY = 15

/** A machine to boot on, or to continue on. */
export function checkPlatform(call: string, platform: GuestPlatform): GuestPlatform {
  const { memory, vcpus, hypercall } = object(call, 'platform', platform, 'what Hypervisor.platform returns')
  if (!(memory instanceof GuestMemory))
    throw new ParameterError(call, 'platform.memory', memory, 'the GuestMemory of a domain')
  integer(call, 'platform.vcpus', vcpus, 1, MAX_VCPUS)
  if (typeof hypercall !== 'function') throw new ParameterError(call, 'platform.hypercall', hypercall, 'a function')
  return platform
}

const WANTED = [2, 3, 4, 5, 'fifo', 'best'] as const

/** A form by its name, or one of the embedder's own. */
function checkForm(call: string, parameter: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null)
    return among<(typeof WANTED)[number]>(...WANTED)(call, parameter, value)
  having('register')(call, parameter, value)
  return text(call, `${parameter}.name`, (value as OwnForm).name)
}

/** One form, or a list of at least one. */
export function checkLevels(call: string, parameter: string, value: unknown): unknown {
  if (!Array.isArray(value)) return checkForm(call, parameter, value)
  if (value.length === 0) throw new ParameterError(call, parameter, value, 'a list of at least one form')
  listOf(checkForm, 'forms')(call, parameter, value)
  return value
}

const BOOT: Table<BootOptions> = {
  levels: checkLevels,
  exact: flag,
  nrPages: within(1, MAX_LEAF_PAGES),
  firstFreeGfn: within(0, U32_MAX),
  reset: among(false, true),
  upVcpus: listOf(within(0, MAX_VCPUS - 1), 'vCPUs'),
  batch: within(1, 1024),
}

/** Names of the options of boot. */
export const BOOT_OPTION_NAMES = Object.freeze(Object.keys(BOOT)) as readonly (keyof BootOptions)[]

/** Options of boot. Whether the first frame exists is the caller's to check. A list is copied: it holds on resume too. */
export function checkBoot(call: string, given: BootOptions): CheckedBootOptions {
  const checked = { levels: 'best' as const, ...options(call, given, BOOT) }
  const { levels } = checked
  return Array.isArray(levels) ? { ...checked, levels: Object.freeze([...levels]) } : checked
}

/** The vCPUs that take part from the beginning, of a machine with `vcpus`. */
export function checkUp(call: string, given: readonly number[] | undefined, vcpus: number): readonly number[] {
  if (!given) return Array.from({ length: vcpus }, (_, vcpu) => vcpu)
  given.forEach((vcpu, i) => void integer(call, `upVcpus[${i}]`, vcpu, 0, vcpus - 1))
  return given
}

/** How a port is to be bound; `vcpus` are those of the guest. */
export function checkBinding(call: string, given: HandlerOrOptions, vcpus: number): BindOptions {
  if (typeof given === 'function') return { handler: given }
  object(call, 'options', given, 'a handler, or an object with options')
  return options<BindOptions>(call, given, {
    handler: func,
    name: text,
    vcpu: within(0, vcpus - 1),
    priority: within(0, LOWEST_PRIORITY),
    onRebound: func,
    onLost: func,
  })
}

/** A domain's number as operations take it, DOMID_SELF and the like included. */
export const checkDomid = (call: string, domid: number): number => integer(call, 'remoteDomid', domid, 0, 0xffff)

/** Any number that a struct's member can hold. */
export const checkU32 = (call: string, name: string, value: number): number => integer(call, name, value, 0, U32_MAX)
