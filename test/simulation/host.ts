/** A host of the simulation: a hypervisor with its control domain, and what it complained about. */

import type { Clock } from '../../src/clock.js'
import { Faults, type GuestKernel, Hypervisor } from '../../src/index.js'
import { Injected } from './step.js'

const DOM0_FRAMES = 600

/** One host. */
export class SimulatedHost {
  readonly name: string
  readonly xen: Hypervisor
  readonly faults = new Faults()
  readonly dom0: GuestKernel
  /** Errors that somebody's function threw on purpose, as they were reported. */
  injected = 0
  /** Errors that nobody threw on purpose. */
  readonly errors: string[] = []

  constructor(name: string, clock: Clock) {
    this.name = name
    this.xen = Hypervisor.create({
      clock,
      faults: this.faults,
      onError: (error) => {
        if (error instanceof Injected) this.injected++
        else this.errors.push(String((error as Error)?.stack ?? error))
      },
    })
    this.dom0 = this.xen.boot({ domid: 0, frames: DOM0_FRAMES, levels: 3 })
  }

  /** A number that no domain has, from 1 to `most`; undefined if all are taken. */
  free(most: number): number | undefined {
    for (let domid = 1; domid <= most; domid++) if (!this.xen.domain(domid)) return domid
    return undefined
  }
}
