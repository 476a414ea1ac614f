/**
 * /dev/xen/evtchn: a handle of the domain's evtchn device (Linux's drivers/xen/evtchn.c). read() gets ports, each 4 bytes;
 * write() unmasks. Ports go out as they fire, as far as the program reads; those that wait are in the handle's ring.
 */

import { Errno } from '../../errno.js'
import type { EvtchnHandle } from '../../guest/xenevtchn.js'
import { type Answer, type Device, type DeviceContext, noIoctl } from './device.js'

/** Numbers of type 'E' (xen/sys/evtchn.h). */
const IOCTL = {
  bindVirq: 0,
  bindInterdomain: 1,
  bindUnboundPort: 2,
  unbind: 3,
  notify: 4,
  reset: 5,
  restrict: 6,
} as const

/** How long the ports of a handle that was closed stay, for notifications of other devices of the same process. */
const PORTS_OUTLIVE_MS = 10

/** Argument bytes that each ioctl has. */
const SIZES: Readonly<Record<number, number>> = { 0: 4, 1: 8, 2: 4, 3: 4, 4: 4, 5: 0, 6: 2 }

/** One handle. */
export class EvtchnDev implements Device {
  readonly #handle: EvtchnHandle
  readonly #context: DeviceContext

  constructor(context: DeviceContext) {
    this.#context = context
    this.#handle = context.domain.mustKernel().device.open()
    void this.#pump()
  }

  async #pump(): Promise<void> {
    for await (const port of this.#handle) {
      const bytes = Buffer.alloc(4)
      bytes.writeUInt32LE(port)
      this.#context.send(bytes)
    }
  }

  ioctl(nr: number, argument: Buffer): Answer {
    const handle = this.#handle
    const size = SIZES[nr]
    if (size === undefined) return noIoctl('evtchn', nr, Errno.ENOSYS)
    if (argument.length < size) return noIoctl('evtchn', nr, Errno.EINVAL)
    const word = (at: number) => argument.readUInt32LE(at)
    switch (nr) {
      case IOCTL.bindVirq:
        return handle.bindVirq(word(0))
      case IOCTL.bindInterdomain:
        return handle.bindInterdomain(word(0) & 0xffff, word(4))
      case IOCTL.bindUnboundPort:
        return handle.bindUnboundPort(word(0) & 0xffff)
      case IOCTL.unbind:
        handle.unbind(word(0))
        return 0
      case IOCTL.notify:
        handle.notify(word(0))
        return 0
      case IOCTL.reset:
        handle.reset()
        return 0
      default:
        handle.restrict(argument.readUInt16LE(0))
        return 0
    }
  }

  /** write() of ports that are not the handle's is ignored, as Linux does. */
  port(port: number): void {
    try {
      this.#handle.unmask(port)
    } catch (error) {
      this.#context.host.note(`evtchn of d${this.#context.domain.domid}: ${(error as Error).message}`)
    }
  }

  /**
   * A process that dies loses its mappings before its files: Linux sends the notification of an unmap while the port is still
   * there. Here each device has a socket, and these break in any order, so the ports stay until all have broken.
   */
  close(): void {
    setTimeout(() => this.#closePorts(), PORTS_OUTLIVE_MS)
  }

  #closePorts(): void {
    try {
      this.#handle.close()
    } catch (error) {
      // A domain that is gone has no ports left.
      this.#context.host.note(`evtchn of d${this.#context.domain.domid}: ${(error as Error).message}`)
    }
  }
}
