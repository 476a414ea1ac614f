/** The options of a host, and their check: a wrong or misspelt one is refused before anything is made. */

import { type Bits, DOMID_FIRST_RESERVED, MAX_FRAMES, MAX_VCPUS, U32_MAX } from '../../abi/index.js'
import type { OnError } from '../../callout.js'
import { among, flag, func, having, integer, nested, options, type Table, within } from '../../check.js'
import type { Clock } from '../../clock.js'
import { type BootOptions, checkLevels } from '../../guest/index.js'
import { PVCALLS_OPTIONS, type PvcallsOptions } from '../backends/index.js'
import { SCHEDULER_OPTIONS, type SchedulerOptions } from '../kernel/index.js'
import type { HotplugScript } from '../toolstack/index.js'
import {
  checkDesign,
  type DeliveryObserver,
  type Design,
  type DesignMaker,
  type XenbusDriver,
} from '../xenbus/index.js'
import type { Dom0Kernel } from './dom0_kernel.js'

/** What the guests of a host are like. */
export interface GuestForm {
  /** RAM in 4 KiB frames. Default 64. */
  readonly frames?: number
  /** Default 64. */
  readonly bits?: Bits
  /** Levels of event channels, or 'fifo'. Default 2. */
  readonly levels?: NonNullable<BootOptions['levels']>
  /** Highest port number; Infinity: no limit. Default 1023, as xl has it. */
  readonly maxEvtchnPort?: number
}

/** Options of a host. */
export interface HostOptions {
  /** The kernel parameter `xen_mtwatch`, and which design it switches on, or a maker of an own one. Default: off. */
  readonly xenMtwatch?: boolean
  readonly design?: Design | DesignMaker
  /** The toolstack writes the mtwatch nodes. Default: with design 'rfc' and `xenMtwatch`. */
  readonly toolstackMtwatch?: boolean
  readonly clock?: Clock
  readonly observer?: DeliveryObserver
  readonly hotplug?: HotplugScript
  /** Makes drivers of third parties, which are on dom0's bus before it starts. What it throws, the constructor throws. */
  readonly drivers?: (dom0: Dom0Kernel) => readonly XenbusDriver[]
  readonly scheduler?: Omit<SchedulerOptions, 'clock' | 'onError'>
  /** Gets what one of the user's functions threw, anywhere on the host. Default: it is thrown again outside of any call. */
  readonly onError?: OnError
  /** CPUs of dom0, which are its vCPUs. Default 1. */
  readonly dom0Cpus?: number
  /** What guests are like. */
  readonly guest?: GuestForm
  /** Start-up options of pvcalls-back. */
  readonly pvcalls?: PvcallsOptions
  /** Frames of dom0. Default 508, and four for each CPU. */
  readonly dom0Frames?: number
  /** Highest number of a guest, behind which numbers begin again. Default: Xen's. */
  readonly maxDomid?: number
}

const GUEST: Table<GuestForm> = {
  frames: within(1, MAX_FRAMES),
  bits: among<Bits>(32, 64),
  levels: checkLevels,
  maxEvtchnPort: (call, name, value) => value === Infinity || integer(call, name, value, 0, U32_MAX),
}

const { clock, onError, ...scheduler } = SCHEDULER_OPTIONS

const TABLE: Table<HostOptions> = {
  xenMtwatch: flag,
  design: checkDesign,
  toolstackMtwatch: flag,
  clock,
  observer: having(),
  hotplug: func,
  drivers: func,
  scheduler: nested(scheduler),
  onError,
  dom0Cpus: within(1, MAX_VCPUS),
  guest: nested(GUEST),
  pvcalls: nested(PVCALLS_OPTIONS),
  dom0Frames: within(1, MAX_FRAMES),
  maxDomid: within(1, DOMID_FIRST_RESERVED - 1),
}

/** Options as given. @throws ParameterError */
export const checkHostOptions = (given: HostOptions): HostOptions => options('Host', given, TABLE)
