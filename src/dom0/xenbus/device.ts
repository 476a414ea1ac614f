/** A device on the bus, and what a driver is to it. */

import type { Task } from '../kernel/index.js'
import type { ThreadReference } from './delivery.js'
import type { XenbusWatch } from './watch.js'

/** A driver of a bus. Its functions stand in the call stack under their own names, by `Kernel.call`. */
export interface XenbusDriver {
  /** `vif`, `vbd`. */
  readonly type: string
  /**
   * How many frames of the bus stand above `otherendChanged` in a call stack. In the stacks on record netback's stands
   * right on the thread's function ('none'), blkback's on two functions of the bus ('all'): a compiler made jumps of calls.
   */
  readonly busFrames: 'all' | 'none'
  /** A device was found. @throws Error if the driver cannot have it. */
  probe(device: XenbusDevice): Task
  /** The other end's state may have changed; it is given as it is now. */
  otherendChanged(device: XenbusDevice, state: number): Task
  /** The device goes. */
  remove(device: XenbusDevice): Task
}

/** What the bus keeps of a device, and nobody else. */
export interface DeviceRecord {
  state: number
  driver: XenbusDriver | undefined
  otherendWatch: XenbusWatch | undefined
  /** Its part in keeping the thread of its domain; undefined where a design does not count. */
  reference: ThreadReference
  gone: boolean
}

/** The record behind a device. */
export let deviceRecord: (device: XenbusDevice) => DeviceRecord

/** A device that was probed. */
export class XenbusDevice {
  /** Its directory, relative to the home of the domain: `backend/vif/1/0`. */
  readonly nodename: string
  readonly type: string
  /** `vif-1-0`. */
  readonly name: string
  /** Directory and domain of the other end. */
  readonly otherend: string
  readonly otherendId: number
  readonly #record: DeviceRecord

  static {
    deviceRecord = (device) => device.#record
  }

  constructor(nodename: string, name: string, otherend: string, otherendId: number, state: number) {
    this.nodename = nodename
    this.type = nodename.split('/')[1]!
    this.name = name
    this.otherend = otherend
    this.otherendId = otherendId
    this.#record = { state, driver: undefined, otherendWatch: undefined, reference: undefined, gone: false }
  }

  /** Last state that was written. */
  get state(): number {
    return this.#record.state
  }

  /** It is being unregistered, or was: a second time is harmless (XW-trace-7). */
  get gone(): boolean {
    return this.#record.gone
  }
}
