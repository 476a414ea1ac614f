/** What a backend stands on: dom0's kernel and bus, its event channels, and granted pages. */

import type { BackendBus } from '../xenbus/index.js'
import type { GrantTable } from './grants.js'

/** What backends ask of dom0's event channel driver. `GuestKernel` is one. */
export interface EventChannels {
  bindInterdomain(domid: number, remotePort: number, options: { name: string; handler: () => void }): number
  send(port: number): void
  /** The port's events are delivered to another vCPU from now on; none is lost. */
  moveToVcpu(port: number, vcpu: number): void
  close(port: number): void
}

/** The surroundings of the backends. */
export interface BackendHost {
  readonly bus: BackendBus
  readonly channels: EventChannels
  readonly grants: GrantTable
}
