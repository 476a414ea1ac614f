/**
 * A guest that is suspended and continues: in the same domain, in one that was restored with everything (transparent
 * mode), or in one that was restored without channels (cooperative mode), where it makes them again (NL-mig-1, NL-mig-2).
 *
 *     suspend → cancelSuspend                 the same domain: nothing has changed
 *             → moveTo → cancelSuspend        another host, all channels as they were
 *             → resume                        another host, two levels and no channels: all are made again
 */

import { HYPERVISOR, SCHEDOP, SHUTDOWN } from '../abi/index.js'
import { ParameterError } from '../check.js'
import { Errno, XenError } from '../errno.js'
import type { Binding, Bindings } from './bindings.js'
import type { Attempt } from './form.js'
import type { GuestMachine } from './machine.js'
import { checkPlatform, type EventHandler } from './options.js'
import type { GuestPlatform } from './platform.js'
import type { Upcalls } from './upcalls.js'

/** What became of the channels on the new host. */
export interface ResumeReport {
  levels: number | 'fifo'
  channels: number
  attempts: readonly Attempt[]
  rebound: { name: string; oldPort: number; port: number }[]
  /** `reason` is a sentence with the hypervisor's own words; `errno` is positive. */
  lost: { name: string; oldPort: number; reason: string; errno: number }[]
  /** What `onRebound` and `onLost` threw; it is reported too. The other channels are not touched by it. */
  failed: { name: string; error: unknown }[]
}

/** Suspend, resume and moves of one guest. */
export class Lifecycle {
  readonly #machine: GuestMachine
  readonly #bindings: Bindings
  readonly #upcalls: Upcalls
  /** The handlers of suspend channels: a signal there is a request. */
  readonly #suspendHandlers = new Set<EventHandler>()
  #suspended = false

  constructor(machine: GuestMachine, bindings: Bindings, upcalls: Upcalls) {
    this.#machine = machine
    this.#bindings = bindings
    this.#upcalls = upcalls
  }

  get suspended(): boolean {
    return this.#suspended
  }

  /** No vCPU scans while a form is being made: between two forms there is nothing to scan (NL-sel-3, NL-reg-5). */
  start(begin: () => void): void {
    this.#upcalls.hold()
    begin()
    this.#suspended = false
    // Registering raised every vCPU's flag and selectors: one full scan each, or no edge would ever come (NL-sel-3).
    this.#upcalls.letGo()
  }

  /** The handler of a suspend channel; `wanted` says whether a suspend is really meant. */
  suspendHandler(wanted: () => boolean): EventHandler {
    const handler = () => {
      if (wanted()) this.suspend()
    }
    this.#suspendHandlers.add(handler)
    return handler
  }

  suspend(): void {
    if (this.#suspended) return
    if (this.#upcalls.busy) {
      this.#upcalls.afterwards(() => this.suspend())
      return
    }
    this.#suspended = true
    this.#upcalls.hold()
    const reason = new Uint8Array(Uint32Array.of(SHUTDOWN.suspend).buffer)
    const { calls, current } = this.#machine
    try {
      calls.mustRaw('SCHEDOP_shutdown', current, HYPERVISOR.sched_op, reason, (gpa) => [SCHEDOP.shutdown, gpa])
    } catch (error) {
      this.cancelSuspend()
      throw error
    }
  }

  cancelSuspend(): void {
    if (!this.#suspended) return
    this.#suspended = false
    this.#upcalls.letGo()
  }

  moveTo(platform: GuestPlatform): void {
    const call = 'GuestKernel.moveTo'
    if (this.#upcalls.busy && !this.#suspended) throw new XenError(call, Errno.EBUSY, 'the guest is inside an upcall')
    checkPlatform(call, platform)
    for (const part of ['bits', 'vcpus', 'sharedInfoGfn'] as const)
      if (platform[part] !== this.#machine.platform[part])
        throw new ParameterError(call, part, platform[part], String(this.#machine.platform[part]))
    this.#machine.moveTo(platform)
  }

  rescan(): number {
    let ran = 0
    for (const { handler, port, name } of this.#bindings) {
      if (!handler || this.#suspendHandlers.has(handler)) continue
      ran++
      this.#machine.callouts.run(`handler of ${name}`, undefined, () => handler(port))
    }
    return ran
  }

  resume(platform: GuestPlatform): ResumeReport {
    checkPlatform('GuestKernel.resume', platform)
    const old = this.#bindings.takeAll()
    const made: Pick<ResumeReport, 'rebound' | 'lost' | 'failed'> = { rebound: [], lost: [], failed: [] }
    // Handlers run when all channels are there again: nobody gets an event under a number that it was not told.
    this.start(() => {
      this.#machine.restart(platform)
      for (const binding of old) this.#remake(binding, made)
    })
    const { form, attempts } = this.#machine
    const { levels, channels } = form
    return { levels, channels, attempts, ...made }
  }

  #remake(binding: Binding, report: Pick<ResumeReport, 'rebound' | 'lost' | 'failed'>): void {
    const { name, port: oldPort, origin } = binding
    try {
      const port = this.#bindings.make('GuestKernel.resume', origin, binding)
      report.rebound.push({ name, oldPort, port })
      this.#tell(report, 'onRebound', name, () => binding.onRebound?.(port, oldPort))
    } catch (error) {
      if (!(error instanceof XenError)) throw error
      const { message: reason, errno } = error
      report.lost.push({ name, oldPort, reason, errno })
      this.#tell(report, 'onLost', name, () => binding.onLost?.(reason, oldPort))
    }
  }

  /** Calls a function of the channel's owner. What it throws stays with that channel. */
  #tell(report: Pick<ResumeReport, 'failed'>, which: string, name: string, call: () => void): void {
    try {
      call()
    } catch (error) {
      report.failed.push({ name, error })
      this.#machine.callouts.report(error, `${which} of ${name}`)
    }
  }
}
